/* optcore for C: update rules, learning-rate schedules, and steps of whole optimizers that were made in Python.

   Everything is reached through one table of functions, which Python's capsule OPTCORE_CAPSULE holds:

       const optcore_api *oc = PyCapsule_Import(OPTCORE_CAPSULE, 0);   (or optcore_import(), below)

   Nothing is linked, and Python.h is not needed to read this file. The table is only ever appended to: what was
   compiled with an older header runs with a newer optcore. Functions report by status or NULL; none raises or aborts,
   and none allocates but where the comments say that it takes the GIL. All may be called from any thread, with the GIL
   or without. What they are handed belongs to the caller, and two threads must not change the same at once. */

#ifndef OPTCORE_H
#define OPTCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OPTCORE_ABI 1
#define OPTCORE_CAPSULE "optcore._C_API"

enum {
    OPTCORE_OK = 0,
    OPTCORE_BAD_ARGUMENT = 1, /* a pointer is NULL, or a number out of range; nothing was changed */
    OPTCORE_REFUSED = 2,      /* an optimizer or plan cannot be used as it is; nothing was changed */
    OPTCORE_NOT_FINITE = 3,   /* a gradient, with on_nonfinite="raise"; nothing was changed */
    OPTCORE_FAILED = 4        /* a schedule that is a Python function raised an exception; nothing was changed */
};

typedef struct optcore_rule optcore_rule;         /* an update rule; lives as long as the process */
typedef struct optcore_schedule optcore_schedule; /* a learning-rate schedule; lives as long as the Python object */
typedef struct optcore_plan optcore_plan;         /* an optimizer between open_plan and close_plan */

/* The scalars of one update, and what a rule keeps from one to the next. Zeros before the first:
   optcore_update update = {{0}}. It holds no pointers, so it can be stored and read again by the same version. */
typedef struct optcore_update {
    double opaque[512];
} optcore_update;

typedef struct optcore_api {
    size_t size; /* of this table, in bytes: a function behind it is not there */
    int abi;     /* OPTCORE_ABI; another number is another table */

    /* What this thread's last call that failed has to say. Valid until its next. */
    const char *(*message)(void);

    /* ------------------------------------------------------------ rules

       State arrays have as many elements as the parameter and its dtype. They start as zeros, but for "step" of rprop,
       which starts as the first step size, and "z" and "x" of schedule_free_*, which start as the parameter. Weight
       decay, clipping and bounds are not the rule's: those are had from an optimizer that was made in Python. */

    const optcore_rule *(*find_rule)(const char *name); /* NULL if there is none */
    const optcore_rule *(*rule_at)(int index);          /* from 0 on; NULL behind the last */
    const char *(*rule_name)(const optcore_rule *rule);
    int (*state_count)(const optcore_rule *rule);
    const char *(*state_name)(const optcore_rule *rule, int index); /* NULL if out of range */
    int (*hyper_count)(const optcore_rule *rule);
    const char *(*hyper_name)(const optcore_rule *rule, int index); /* NULL if out of range */

    /* Begins update t = 1, 2, ... once for all parameters that share the hyper-parameters. Their values are taken as
       they are, hyper_count of them in the order of hyper_name. It counts the update before as made, which matters to
       schedule_free_*: to leave out one that was prepared, go back to a copy of its optcore_update. */
    int (*prepare)(const optcore_rule *rule, optcore_update *update, int64_t t, const double *hyper);

    /* Makes the update: changes n elements of p and of each state array, by the gradient g. The arrays are
       aligned and do not overlap. Called for parts of a parameter it gives the same bits as for the whole, but with
       lamb and lars, which take its norm. */
    int (*apply32)(
        const optcore_rule *rule, const optcore_update *update, int64_t n, float *p, const float *g,
        float *const *state);
    int (*apply64)(
        const optcore_rule *rule, const optcore_update *update, int64_t n, double *p, const double *g,
        double *const *state);

    /* ------------------------------------------------------------ schedules */

    /* Takes the GIL. Of a Python object such as optcore.Cosine(1e-3, steps=1000), to which the caller keeps a reference.
       NULL if it is something else, or has values of its own in Python. */
    const optcore_schedule *(*find_schedule)(void *object);
    double (*schedule_value)(const optcore_schedule *schedule, int64_t t); /* after t >= 0 updates; NaN if t < 0 */
    double (*schedule_at)(double t, void *schedule); /* the same of floor(t), in the order that quadratures want */

    /* ------------------------------------------------------------ optimizers

       One that was made with its gradients, opt = optcore.Adam(params, grads), is stepped as opt.step() does: with its
       groups, schedules, clipping, bounds, averages and threads. */

    /* Takes the GIL. Checks all arrays, and keeps the optimizer from Python until it is closed: its arrays must not be
       resized meanwhile. */
    int (*open_plan)(void *optimizer, optcore_plan **plan);

    /* Takes the GIL only for schedules that are Python functions, to spread a large step over threads, and to say why
       it failed. Python's signal handlers do not run: a long loop that Ctrl-C is to end asks PyErr_CheckSignals. */
    int (*step_plan)(optcore_plan *plan);
    int64_t (*plan_updates)(const optcore_plan *plan); /* completed ones; -1 if plan is NULL */
    int (*close_plan)(optcore_plan *plan);             /* takes the GIL; the plan is gone */
} optcore_api;

#ifdef __cplusplus
}
#endif

#endif /* OPTCORE_H */

/* Outside of the guard: also where Python.h comes after a first look at this file. */
#if defined(Py_PYTHON_H) && !defined(OPTCORE_IMPORT)
#define OPTCORE_IMPORT

/* With the GIL: the table, or NULL with a Python exception set. Once per module, in its initialization. */
static inline const optcore_api *optcore_import(void)
{
    const optcore_api *api = (const optcore_api *)PyCapsule_Import(OPTCORE_CAPSULE, 0);
    if (api != NULL && (api->abi != OPTCORE_ABI || api->size < sizeof(optcore_api))) {
        PyErr_Format(
            PyExc_ImportError,
            "this module was compiled for optcore's ABI %d with a table of %zu bytes, but the optcore installed has ABI "
            "%d and %zu bytes; install a newer one, or compile the module again",
            OPTCORE_ABI, sizeof(optcore_api), api->abi, api->size);
        return NULL;
    }
    return api;
}

#endif
