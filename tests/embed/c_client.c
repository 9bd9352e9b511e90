/* A C extension that fits y = x w by one row at a time: with a rule, and with an optimizer that was made in Python. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "optcore.h"

static const optcore_api *oc;

static void gradient(Py_ssize_t columns, const double *x, double y, const double *w, double *g)
{
    double error = -y;
    for (Py_ssize_t j = 0; j < columns; j++)
        error = error + x[j] * w[j];
    for (Py_ssize_t j = 0; j < columns; j++)
        g[j] = error * x[j];
}

/* fit(x, y, w, g, m, v, lr, steps): Adam on raw memory; the last rate is the schedule's. */
static PyObject *fit(PyObject *self, PyObject *args)
{
    Py_buffer x, y, w, g, m, v;
    PyObject *lr;
    long long steps;
    if (!PyArg_ParseTuple(args, "y*y*w*w*w*w*OL", &x, &y, &w, &g, &m, &v, &lr, &steps))
        return NULL;
    Py_ssize_t rows = y.len / 8, columns = w.len / 8;
    double *state[] = {m.buf, v.buf};
    double hyper[] = {0.0, 0.9, 0.999, 1e-8, 0.0}; /* lr, betas, eps, form */
    int status = 0;

    const optcore_rule *adam = oc->find_rule("adam");
    const optcore_schedule *schedule = oc->find_schedule(lr);
    optcore_update update = {{0}};
    Py_BEGIN_ALLOW_THREADS
    for (int64_t t = 1; t <= steps && status == 0; t++) {
        Py_ssize_t i = (t - 1) % rows;
        gradient(columns, (double *)x.buf + i * columns, ((double *)y.buf)[i], w.buf, g.buf);
        hyper[0] = oc->schedule_value(schedule, t - 1);
        status = oc->prepare(adam, &update, t, hyper);
        if (status == 0)
            status = oc->apply64(adam, &update, columns, w.buf, g.buf, state);
    }
    Py_END_ALLOW_THREADS

    PyBuffer_Release(&x), PyBuffer_Release(&y), PyBuffer_Release(&w);
    PyBuffer_Release(&g), PyBuffer_Release(&m), PyBuffer_Release(&v);
    return status == 0 ? PyLong_FromLong(status) : PyErr_Format(PyExc_RuntimeError, "%s", oc->message());
}

/* fit_with(optimizer, x, y, w, g, steps): w and g are what the optimizer was made with. */
static PyObject *fit_with(PyObject *self, PyObject *args)
{
    Py_buffer x, y, w, g;
    PyObject *optimizer;
    long long steps;
    if (!PyArg_ParseTuple(args, "Oy*y*w*w*L", &optimizer, &x, &y, &w, &g, &steps))
        return NULL;
    Py_ssize_t rows = y.len / 8, columns = w.len / 8;

    optcore_plan *plan;
    int status = oc->open_plan(optimizer, &plan);
    if (status == OPTCORE_OK) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t t = 0; t < steps && status == OPTCORE_OK; t++) {
            Py_ssize_t i = t % rows;
            gradient(columns, (double *)x.buf + i * columns, ((double *)y.buf)[i], w.buf, g.buf);
            status = oc->step_plan(plan);
        }
        Py_END_ALLOW_THREADS
        oc->close_plan(plan);
    }

    PyBuffer_Release(&x), PyBuffer_Release(&y), PyBuffer_Release(&w), PyBuffer_Release(&g);
    return status == OPTCORE_OK ? PyLong_FromLong(status) : PyErr_Format(PyExc_RuntimeError, "%d: %s", status, oc->message());
}

static PyMethodDef methods[] = {
    {"fit", fit, METH_VARARGS, NULL},
    {"fit_with", fit_with, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, NAME, NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC INIT(void)
{
    oc = optcore_import();
    return oc == NULL ? NULL : PyModule_Create(&module);
}
