# cython: boundscheck=False, wraparound=False
"""What C and Cython code of others may call: the functions of include/optcore.h, and the table of them.

Nothing that Python or the engine lays out is shown: callers have opaque structures and functions, so that both can
change without anybody being compiled again.
"""

from cpython.exc cimport PyErr_SetInterrupt
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport NAN, floor, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset, strcmp, strncpy

from optcore._curves cimport Curve
from optcore._engine cimport BLOCK, HELD, NORM_BLOCK, STEPPING, Plan
from optcore._rules cimport (
    LANES, MAX_CARRIED, MAX_HYPER, MAX_SCALARS, MAX_STATE, Direction32, Direction64, Kept, Loop32, Loop64, Scalars,
    Trust, add_squares, real, sum_of_lanes,
)
from optcore._schedules cimport Compiled, value

from optcore._build import RULES
from optcore.domains import check_choice


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


cdef extern from *:
    """
    #if defined(_MSC_VER)
    #define OPTCORE_THREAD __declspec(thread)
    #else
    #define OPTCORE_THREAD __thread
    #endif
    static OPTCORE_THREAD char optcore_text[512];
    """
    char[512] text "optcore_text"  # a thread's last failure


cdef extern from "optcore.h":
    int ABI "OPTCORE_ABI"
    const char* CAPSULE "OPTCORE_CAPSULE"

    ctypedef struct Api "optcore_api":
        size_t size
        int abi
        const char* (*message)() noexcept nogil
        const Rule* (*find_rule)(const char*) noexcept nogil
        const Rule* (*rule_at)(int) noexcept nogil
        const char* (*rule_name)(const Rule*) noexcept nogil
        int (*state_count)(const Rule*) noexcept nogil
        const char* (*state_name)(const Rule*, int) noexcept nogil
        int (*hyper_count)(const Rule*) noexcept nogil
        const char* (*hyper_name)(const Rule*, int) noexcept nogil
        int (*prepare)(const Rule*, Update*, int64_t, const double*) noexcept nogil
        int (*apply32)(const Rule*, const Update*, int64_t, float*, const float*, float* const*) noexcept nogil
        int (*apply64)(const Rule*, const Update*, int64_t, double*, const double*, double* const*) noexcept nogil
        const Schedule* (*find_schedule)(void*) noexcept
        double (*schedule_value)(const Schedule*, int64_t) noexcept nogil
        double (*schedule_at)(double, void*) noexcept nogil
        int (*open_plan)(void*, OpenPlan**) noexcept
        int (*step_plan)(OpenPlan*) noexcept nogil
        int64_t (*plan_updates)(const OpenPlan*) noexcept nogil
        int (*close_plan)(OpenPlan*) noexcept


cdef int fail(int status, const char* why) noexcept nogil:
    strncpy(text, why, sizeof(text) - 1)
    return status


cdef int fail_with(int status, error, bint by_name=False) noexcept:
    """The text of an exception, with its name where the text alone may say little; status, whatever happens."""
    try:
        return fail(status, (f"{type(error).__name__}: {error}" if by_name else f"{error}").encode())
    except BaseException:
        return fail(status, b"an exception whose text cannot be had")


cdef const char* message() noexcept nogil:
    return text


cdef int check(int status) except -1 nogil:
    """The exception of a status, for callers that have exceptions: ValueError, RuntimeError or FloatingPointError."""
    # Functions that have Python variables take the GIL wherever they end, so this one has none.
    return 0 if status == OK else raise_status(status)


cdef int raise_status(int status) except -1 with gil:
    kind = {BAD_ARGUMENT: ValueError, NOT_FINITE: FloatingPointError}.get(status, RuntimeError)
    raise kind((<bytes> text).decode(errors="replace"))


# ---------------------------------------------------------------------- rules


cdef struct Entry:
    # What a Rule points to.
    const char* name
    int states
    int hypers
    const char* state[MAX_STATE]
    const char* hyper[MAX_HYPER]
    Scalars scalars
    Loop32 loop32
    Loop64 loop64
    Direction32 direction32
    Direction64 direction64
    Trust trust


cdef struct Prepared:
    # What an Update holds.
    double[MAX_HYPER] c
    double[MAX_SCALARS] h
    float[MAX_SCALARS] h32
    Kept kept


cdef Entry* entries
cdef int entry_count = 0
cdef list encoded = []  # the names that entries point to


cdef const char* keep(str name) except NULL:
    encoded.append(name.encode())
    return <const char*> <bytes> encoded[len(encoded) - 1]


cdef int enter(Entry* entry, rule) except -1:
    entry.name, entry.states, entry.hypers = keep(rule.name), len(rule.state), len(rule.hyper)
    for i, name in enumerate(rule.state):
        entry.state[<int> i] = keep(name)
    for i, name in enumerate(rule.hyper):
        entry.hyper[<int> i] = keep(name)
    entry.scalars, entry.loop32 = <Scalars> <size_t> rule.scalars, <Loop32> <size_t> rule.loop32
    entry.loop64, entry.trust = <Loop64> <size_t> rule.loop64, <Trust> <size_t> rule.trust
    entry.direction32, entry.direction64 = <Direction32> <size_t> rule.direction32, <Direction64> <size_t> rule.direction64


cdef const Rule* find_rule(const char* name) noexcept nogil:
    cdef int i
    if name == NULL:
        fail(BAD_ARGUMENT, b"name is NULL")
        return NULL
    for i in range(entry_count):
        if strcmp(entries[i].name, name) == 0:
            return <const Rule*> &entries[i]
    fail(BAD_ARGUMENT, b"there is no rule of that name; optcore.rule_at and rule_name tell all")
    return NULL


cdef const Rule* rule_at(int index) noexcept nogil:
    return <const Rule*> &entries[index] if 0 <= index < entry_count else NULL


cdef const char* rule_name(const Rule* rule) noexcept nogil:
    if rule == NULL:
        return NULL
    return (<const Entry*> rule).name


cdef int state_count(const Rule* rule) noexcept nogil:
    return 0 if rule == NULL else (<const Entry*> rule).states


cdef const char* state_name(const Rule* rule, int index) noexcept nogil:
    return (<const Entry*> rule).state[index] if 0 <= index < state_count(rule) else NULL


cdef int hyper_count(const Rule* rule) noexcept nogil:
    return 0 if rule == NULL else (<const Entry*> rule).hypers


cdef const char* hyper_name(const Rule* rule, int index) noexcept nogil:
    return (<const Entry*> rule).hyper[index] if 0 <= index < hyper_count(rule) else NULL


cdef int prepare(const Rule* rule, Update* update, int64_t t, const double* hyper) noexcept nogil:
    cdef const Entry* entry = <const Entry*> rule
    cdef Prepared* prepared = <Prepared*> update
    cdef int i
    if rule == NULL or update == NULL or hyper == NULL:
        return fail(BAD_ARGUMENT, b"prepare: rule, update or hyper is NULL")
    if t < 1:
        return fail(BAD_ARGUMENT, b"prepare: t counts updates from 1 on")
    memcpy(prepared.c, hyper, entry.hypers * sizeof(double))
    for i in range(MAX_CARRIED):  # of the update before, which has been made
        prepared.kept.carried[i] = prepared.kept.after[i]
    entry.scalars(t, prepared.c, prepared.h, &prepared.kept)
    for i in range(MAX_SCALARS):
        prepared.h32[i] = <float> prepared.h[i]
    return OK


cdef struct Tree:
    # A sum of neighbours, in the shape of the engine's `pairwise`: at each level the sum of 2 ** level numbers.
    double[64] sums
    int64_t count


cdef void grow(Tree* tree, double x) noexcept nogil:
    cdef int64_t count = tree.count
    cdef int level = 0
    while count & 1:
        x = tree.sums[level] + x
        count >>= 1
        level += 1
    tree.sums[level] = x
    tree.count += 1


cdef double total(const Tree* tree) noexcept nogil:
    cdef double result = 0.0
    cdef bint first = True
    cdef int level
    for level in range(63):
        if tree.count >> level & 1:
            result = tree.sums[level] if first else tree.sums[level] + result
            first = False
    return result


cdef double trust_of(
    const Entry* entry, const Prepared* prepared, int64_t n, const real* p, const real* g, real* const* state
) noexcept nogil:
    """What lamb and lars make of the norms of the parameter and of the direction in which it is to go."""
    cdef real[BLOCK] u
    cdef real* here[MAX_STATE]
    cdef double[LANES] p_lanes
    cdef double[LANES] u_lanes
    cdef Tree p_squares, u_squares
    cdef int64_t begin = 0, length
    cdef int k
    p_squares.count = u_squares.count = 0
    while begin < n:
        if begin % NORM_BLOCK == 0:
            memset(p_lanes, 0, sizeof(p_lanes))
            memset(u_lanes, 0, sizeof(u_lanes))
        length = min(<int64_t> BLOCK, n - begin)
        for k in range(entry.states):
            here[k] = state[k] + begin
        if real is float:
            entry.direction32(length, u, p + begin, g + begin, here, prepared.h32)
        else:
            entry.direction64(length, u, p + begin, g + begin, here, prepared.h)
        add_squares(length, p + begin, p_lanes)
        add_squares(length, <const real*> u, u_lanes)
        begin += length
        if begin % NORM_BLOCK == 0 or begin == n:
            grow(&p_squares, sum_of_lanes(<const double*> p_lanes))
            grow(&u_squares, sum_of_lanes(<const double*> u_lanes))
    return entry.trust(prepared.c, sqrt(total(&p_squares)), sqrt(total(&u_squares)))


cdef int apply(
    const Rule* rule, const Update* update, int64_t n, real* p, const real* g, real* const* state
) noexcept nogil:
    cdef const Entry* entry = <const Entry*> rule
    cdef const Prepared* prepared = <const Prepared*> update
    cdef const real* h
    cdef real[MAX_SCALARS] own
    cdef real* here[MAX_STATE]
    cdef int k
    if rule == NULL or update == NULL or n < 0 or (n > 0 and (p == NULL or g == NULL)):
        return fail(BAD_ARGUMENT, b"apply: rule, update, p or g is NULL, or n is negative")
    if n > PY_SSIZE_T_MAX // <int64_t> sizeof(real):
        return fail(BAD_ARGUMENT, b"apply: n is more than the memory of this machine can hold")
    if n == 0:
        return OK
    if entry.states > 0 and state == NULL:
        return fail(BAD_ARGUMENT, b"apply: the rule has state, but state is NULL")
    for k in range(entry.states):
        if state[k] == NULL:
            return fail(BAD_ARGUMENT, b"apply: one of the state arrays is NULL; state_count tells how many there are")
        here[k] = state[k]
    h = <const real*> prepared.h32 if real is float else <const real*> prepared.h
    if entry.trust != NULL:
        memcpy(own, h, sizeof(own))
        own[0] = <real> trust_of(entry, prepared, n, p, g, state)
        h = own
    if real is float:
        entry.loop32(n, p, g, here, h)
    else:
        entry.loop64(n, p, g, here, h)
    return OK


cdef int apply32(
    const Rule* rule, const Update* update, int64_t n, float* p, const float* g, float* const* state
) noexcept nogil:
    return apply(rule, update, n, p, g, state)


cdef int apply64(
    const Rule* rule, const Update* update, int64_t n, double* p, const double* g, double* const* state
) noexcept nogil:
    return apply(rule, update, n, p, g, state)


# ---------------------------------------------------------------------- schedules


cdef const Schedule* find_schedule(void* schedule) noexcept with gil:
    if schedule == NULL:
        fail(BAD_ARGUMENT, b"find_schedule: the object is NULL")
        return NULL
    found = <object> schedule
    kind = type(found)
    if not isinstance(found, Compiled) or kind.__call__ is not Compiled.__call__:
        fail_with(BAD_ARGUMENT, f"{kind.__name__} is no schedule that C can evaluate; use one such as optcore.Cosine(...)")
        return NULL
    if (<Compiled> found).depth == 0:
        fail_with(BAD_ARGUMENT, f"this {kind.__name__} has not been given its values")
        return NULL
    return <const Schedule*> <const void*> &(<Compiled> found).curve


cdef double schedule_value(const Schedule* schedule, int64_t t) noexcept nogil:
    if schedule == NULL or t < 0:
        fail(BAD_ARGUMENT, b"schedule_value: schedule is NULL, or t is negative")
        return NAN
    return value(<const Curve*> <const void*> schedule, t)


cdef double schedule_at(double t, void* schedule) noexcept nogil:
    if not 0 <= t < 2.0**63:
        fail(BAD_ARGUMENT, b"schedule_at: t must be in [0, 2**63)")
        return NAN
    return schedule_value(<const Schedule*> schedule, <int64_t> floor(t))


# ---------------------------------------------------------------------- optimizers


cdef int open_plan(void* optimizer, OpenPlan** plan) noexcept with gil:
    cdef Plan opened
    if optimizer == NULL or plan == NULL:
        return fail(BAD_ARGUMENT, b"open_plan: optimizer or plan is NULL")
    plan[0] = NULL
    found = <object> optimizer
    try:
        if not isinstance(found, Plan):
            raise TypeError(f"open_plan takes an optimizer, such as optcore.Adam(params, grads), got {type(found).__name__}")
        opened = found
        if opened.bound is None:
            raise TypeError(
                f"the {type(found).__name__} was made without gradients; pass them when making it, behind the parameters"
            )
        opened.hold(opened.bound)
    except BaseException as error:
        return fail_with(REFUSED, error)
    Py_INCREF(opened)
    plan[0] = <OpenPlan*> optimizer
    return OK


cdef int step_plan(OpenPlan* plan) noexcept nogil:
    # An object of its own here would be counted, for which the GIL is taken.
    if plan == NULL:
        return fail(BAD_ARGUMENT, b"step_plan: plan is NULL")
    if (<Plan> <void*> plan).busy != HELD:
        return fail(REFUSED, b"step_plan: a step of the plan is running, or it was closed")
    return OK if (<Plan> <void*> plan).advance_quietly() else step_in_python(plan)


cdef int step_in_python(OpenPlan* plan) noexcept with gil:
    """A step that needs Python, or is to say why it cannot be made.

    The GIL is taken around it, because a thread that Python does not know keeps no exception from one time to the next.
    """
    cdef Plan opened = <Plan> <void*> plan
    cdef int64_t updates = opened.updates
    opened.busy = STEPPING  # Python may run now
    try:
        with nogil:
            opened.advance()
    except FloatingPointError as error:
        return fail_with(NOT_FINITE, error)
    except KeyboardInterrupt:
        PyErr_SetInterrupt()  # for the Python code that called the C code
        return OK if opened.updates > updates else fail(FAILED, b"KeyboardInterrupt")
    except BaseException as error:
        return fail_with(FAILED, error, True)
    finally:
        opened.busy = HELD
    return OK


cdef int64_t plan_updates(const OpenPlan* plan) noexcept nogil:
    return -1 if plan == NULL else (<Plan> <void*> plan).updates


cdef int close_plan(OpenPlan* plan) noexcept with gil:
    if plan == NULL:
        return fail(BAD_ARGUMENT, b"close_plan: plan is NULL")
    cdef Plan closed = <Plan> <void*> plan
    if closed.busy != HELD:
        return fail(REFUSED, b"close_plan: a step of the plan is running, or it was closed before")
    closed.release()
    Py_DECREF(closed)
    return OK


# ---------------------------------------------------------------------- what Python sees


def capsule(str name):
    """The capsule of a function, whose name is its C signature, or of the table."""
    found = {"_C_API": _C_API, **globals()["__pyx_capi__"]}
    del found["check"]  # which raises: it is for Cython
    return found[check_choice("name", name, sorted(found))]


def address(what):
    """Where a function or the table is, by its name; or the schedule that C functions take."""
    cdef const Schedule* schedule
    if not isinstance(what, str):
        schedule = find_schedule(<void*> what)
        check(BAD_ARGUMENT if schedule == NULL else OK)
        return <size_t> schedule
    found = capsule(what)
    return <size_t> PyCapsule_GetPointer(found, PyCapsule_GetName(found))


if sizeof(Prepared) > sizeof(Update):
    raise ImportError("optcore.h has too little room for an update")

entries = <Entry*> calloc(len(RULES), sizeof(Entry))
if not entries:
    raise MemoryError
for rule in RULES.values():
    enter(&entries[entry_count], rule)
    entry_count += 1

cdef Api api
api.size, api.abi, api.message = sizeof(Api), ABI, message
api.find_rule, api.rule_at, api.rule_name = find_rule, rule_at, rule_name
api.state_count, api.state_name, api.hyper_count, api.hyper_name = state_count, state_name, hyper_count, hyper_name
api.prepare, api.apply32, api.apply64 = prepare, apply32, apply64
api.find_schedule, api.schedule_value, api.schedule_at = find_schedule, schedule_value, schedule_at
api.open_plan, api.step_plan, api.plan_updates, api.close_plan = open_plan, step_plan, plan_updates, close_plan
_C_API = PyCapsule_New(&api, CAPSULE, NULL)
