# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A Cython extension that fits y = x w by one row at a time: with a rule, and with an optimizer made in Python."""

from libc.stdint cimport int64_t
from libc.string cimport memset

from optcore cimport (
    OpenPlan, Rule, Schedule, Update, apply64, check, close_plan, find_rule, find_schedule, open_plan, prepare,
    schedule_value, step_plan,
)


cdef void gradient(Py_ssize_t columns, const double* x, double y, const double* w, double* g) noexcept nogil:
    cdef double error = -y
    cdef Py_ssize_t j
    for j in range(columns):
        error = error + x[j] * w[j]
    for j in range(columns):
        g[j] = error * x[j]


def fit(const double[:, ::1] x, const double[::1] y, double[::1] w, double[::1] g, double[::1] m, double[::1] v, lr, int64_t steps):
    """Adam on raw memory."""
    cdef double** state = [&m[0], &v[0]]
    cdef double* hyper = [0.0, 0.9, 0.999, 1e-8, 0.0]  # lr, betas, eps, form
    cdef int64_t t, i

    cdef const Rule* adam = find_rule(b"adam")
    cdef const Schedule* schedule = find_schedule(<void*> lr)
    cdef Update update
    memset(&update, 0, sizeof(Update))
    with nogil:
        for t in range(1, steps + 1):
            i = (t - 1) % y.shape[0]
            gradient(w.shape[0], &x[i, 0], y[i], &w[0], &g[0])
            hyper[0] = schedule_value(schedule, t - 1)
            check(prepare(adam, &update, t, hyper))
            check(apply64(adam, &update, w.shape[0], &w[0], &g[0], state))
    return 0


def fit_with(optimizer, const double[:, ::1] x, const double[::1] y, double[::1] w, double[::1] g, int64_t steps):
    """w and g are what the optimizer was made with."""
    cdef int64_t t, i

    cdef OpenPlan* plan
    check(open_plan(<void*> optimizer, &plan))
    try:
        with nogil:
            for t in range(steps):
                i = t % y.shape[0]
                gradient(w.shape[0], &x[i, 0], y[i], &w[0], &g[0])
                check(step_plan(plan))
    finally:
        close_plan(plan)
    return 0
