# cython: boundscheck=False, wraparound=False
"""Epochs of linear models of one output over dense rows: gradients and steps, without the GIL.

`optcore.networks` has the same in NumPy, for all models. There a step costs some ten calls from Python, which is what
an epoch of small batches takes its time for. Here it costs what its numbers cost.

Every sum has one order, which depends on neither the machine nor a BLAS: a score is summed in LANES lanes, and all that
is summed over rows goes row by row. optcore/reference.py says the same in plain Python.
"""

from libc.math cimport fabs, isfinite, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

from optcore._engine cimport FREE, STEPPING, Plan
from optcore._rules cimport LANES, real
from optcore._scalars cimport exp, log

LOSSES = ("squared_error", "logistic")


cdef inline real dot(Py_ssize_t n, const real* x, const real* y) noexcept nogil:
    """The sum of products, in lanes."""
    cdef real[LANES] sums
    cdef Py_ssize_t i, j, whole = n - n % LANES
    for j in range(LANES):
        sums[j] = 0
    for i in range(n // LANES):
        for j in range(LANES):
            sums[j] = sums[j] + x[LANES * i + j] * y[LANES * i + j]
    for j in range(n - whole):
        sums[j] = sums[j] + x[whole + j] * y[whole + j]
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))


cdef inline double squared_error(double score, double target, double* error) noexcept nogil:
    """Twice a row's loss; the loss's derivative by the score is left in error."""
    error[0] = score - target
    return error[0] * error[0]


cdef inline double logistic(double score, double target, double* error) noexcept nogil:
    """A row's loss, and the same; target 1 has the probability 1 / (1 + exp(-score))."""
    cdef double margin = score if target > 0.0 else -score
    cdef double power = exp(-fabs(margin)), total = 1.0 + power
    cdef double wrong = (power if margin > 0.0 else 1.0) / total  # the probability of the other class
    # log(1 + power) where 1 + power is rounded (Kahan): log of what it was rounded to, times what that changed.
    cdef double small = power if total == 1.0 else log(total) * (power / (total - 1.0))
    error[0] = -wrong if target > 0.0 else wrong
    return small if margin > 0.0 else small - margin


cdef double mean_of_rows(
    bint is_logistic, Py_ssize_t columns, const real* x, const real* targets, const real* weights,
    const int64_t* order, Py_ssize_t begin, Py_ssize_t end, const real* coef, real intercept, real* gradient,
    real* intercept_gradient,
) noexcept nogil:
    """The mean loss of rows begin to end of the order. Its gradient is added to what stands there, unless NULL."""
    cdef double loss, total = 0.0, error = 0.0
    cdef Py_ssize_t i, j, row
    cdef const real* at
    cdef real score, share
    for i in range(begin, end):
        row = i if order == NULL else order[i]
        at = x + row * columns
        score = dot(columns, at, coef) + intercept
        loss = logistic(score, targets[row], &error) if is_logistic else squared_error(score, targets[row], &error)
        if weights != NULL:
            loss, error = loss * weights[row], error * weights[row]
        total += loss
        if gradient != NULL:
            share = <real> (error / <double> (end - begin))
            for j in range(columns):
                gradient[j] = gradient[j] + share * at[j]
            intercept_gradient[0] = intercept_gradient[0] + share
    return (total if is_logistic else total / 2.0) / <double> (end - begin)


def mean_loss(
    str loss, const real[:, ::1] coef not None, const real[::1] intercept, const real[:, ::1] x not None,
    const real[:, ::1] targets not None, const real[:, ::1] weights,
):
    """The loss without the penalty, averaged over rows, each times its weight."""
    cdef const real* row_weights = NULL
    cdef real shift = 0 if intercept is None else intercept[0]
    cdef bint is_logistic = LOSSES.index(loss)
    cdef double mean
    if weights is not None:
        row_weights = &weights[0, 0]
    with nogil:
        mean = mean_of_rows[real](
            is_logistic, x.shape[1], &x[0, 0], &targets[0, 0], row_weights, NULL, 0, x.shape[0], &coef[0, 0], shift, NULL,
            NULL,
        )
    return mean


def steps(
    Plan plan not None, str loss, double l2, const real[:, ::1] coef not None, const real[::1] intercept,
    dict gradients, const real[:, ::1] x not None, const real[:, ::1] targets not None, const real[:, ::1] weights,
    const int64_t[::1] order, Py_ssize_t count, Py_ssize_t first, Py_ssize_t last, double total,
    double[::1] losses not None, double[::1] norms not None,
):
    """Steps for the batches from first to last - 1 of count; the loss and the gradient's norm are written for each.

    Parameters
    ----------
    coef, intercept : arrays of shape (columns, 1) and (1,)
        The plan's parameters; intercept may be None.
    gradients : dict of arrays
        Where the steps are to find them, by the parameters' names: ``coef_0`` and ``intercept_0``.
    x, targets, weights : arrays of shape (rows, columns), (rows, 1) and (rows, 1)
        weights may be None.
    order : array of int64, shape (rows,), or None
        A permutation of the rows.
    total : float
        The sum of the losses of the steps before, each times its number of rows.

    Returns
    -------
    done : int
        ``last``, or the batch whose loss or gradient is not finite: it has been written, but no step made.
    total : float
    """
    cdef real[:, ::1] gradient = gradients["coef_0"]
    cdef real[::1] intercept_gradient = gradients.get("intercept_0")
    cdef const real* row_weights = NULL
    cdef const int64_t* places = NULL
    cdef real none = 0, shift_gradient = 0
    cdef const real* shift = &none
    cdef bint is_logistic = LOSSES.index(loss)
    cdef Py_ssize_t rows = x.shape[0], columns = x.shape[1], batch = first, begin, end, j
    cdef const real* w = &coef[0, 0]
    cdef real* g = &gradient[0, 0]
    cdef tuple grads
    cdef double mean
    if weights is not None:
        row_weights = &weights[0, 0]
    if order is not None:
        places = &order[0]
    if intercept is not None:
        shift = &intercept[0]
    plan.occupy(STEPPING)
    try:
        grads = plan.gather(gradients)
        plan.take_all(grads)
        with nogil:
            while batch < last:
                begin, end = rows * batch // count, rows * (batch + 1) // count
                memset(g, 0, columns * sizeof(real))
                shift_gradient = 0
                mean = mean_of_rows[real](
                    is_logistic, columns, &x[0, 0], &targets[0, 0], row_weights, places, begin, end, w, shift[0], g,
                    &shift_gradient,
                )
                if l2 != 0.0:
                    mean += l2 / 2.0 * dot(columns, w, w)
                    for j in range(columns):
                        g[j] = g[j] + <real> l2 * w[j]
                if intercept is None:
                    shift_gradient = 0
                else:
                    intercept_gradient[0] = shift_gradient
                losses[batch] = mean
                norms[batch] = sqrt(<double> (dot(columns, g, g) + shift_gradient * shift_gradient))
                if not isfinite(mean + norms[batch]):
                    break
                plan.prepare()
                if plan.has_functions:
                    with gil:  # which may have changed the arrays
                        plan.take_all(grads)
                plan.finish()
                total += mean * <double> (end - begin)
                batch += 1
    finally:
        plan.busy = FREE
    return batch, total
