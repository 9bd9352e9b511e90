# cython: boundscheck=False, wraparound=False
"""Epochs of linear models of one output over dense rows: gradients and steps, without the GIL.

`optcore.networks` has the same in NumPy, for all models. There a step costs some ten calls from Python, which is what
an epoch of small batches takes its time for. Here it costs what its numbers cost.

Losses are computed for many rows together, in loops that compilers turn into vector instructions: exp and log of a row
alone take up to four times as long. What a row adds to the gradient is added for four rows at a time, but in their order.

Every sum has one order, which depends on neither the machine nor a BLAS: a score is summed in LANES lanes, and all that
is summed over rows goes row by row. optcore/reference.py says the same in plain Python.
"""

from libc.math cimport fabs, isfinite, sqrt
from libc.stdint cimport int64_t

from optcore._engine cimport Plan
from optcore._rules cimport LANES, real, sum_of_lanes
from optcore._scalars cimport exp, log

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define OPTCORE_PREFETCH __builtin_prefetch
    #else
    #define OPTCORE_PREFETCH(address) ((void) 0)
    #endif
    """
    void prefetch "OPTCORE_PREFETCH"(const void* address) noexcept nogil

cdef enum:
    AHEAD = 8  # rows in a random order that are asked for before they are needed
    BLOCK = 64  # rows whose losses are computed together: loops that are long enough for vector instructions

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
    return sum_of_lanes(<const real*> sums)


cdef inline void squared_error(
    Py_ssize_t n, const double* scores, const double* targets, double* losses, double* errors
) noexcept nogil:
    """Of each row the loss, and its derivative by the score."""
    cdef Py_ssize_t i
    for i in range(n):
        errors[i] = scores[i] - targets[i]
        losses[i] = errors[i] * errors[i]  # the sum is halved, so that both overflow together


cdef inline void logistic(
    Py_ssize_t n, const double* scores, const double* targets, double* losses, double* errors
) noexcept nogil:
    """The same; target 1 has the probability 1 / (1 + exp(-score))."""
    cdef double margin, power, total, wrong, small
    cdef Py_ssize_t i
    for i in range(n):
        margin = scores[i] if targets[i] > 0.0 else -scores[i]
        power = exp(-fabs(margin))
        total = 1.0 + power
        wrong = (power if margin > 0.0 else 1.0) / total  # the probability of the other class
        errors[i] = -wrong if targets[i] > 0.0 else wrong
        # log(1 + power), where 1 + power is rounded (Kahan): the log of what it is, times what was lost.
        small = log(total) * (power / (total - 1.0))
        small = power if total == 1.0 else small
        losses[i] = small - (0.0 if margin > 0.0 else margin)


cdef inline void set_row(Py_ssize_t n, real* g, const real* x, real share) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        g[j] = share * x[j]


cdef inline void add_row(Py_ssize_t n, real* g, const real* x, real share) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        g[j] = g[j] + share * x[j]


cdef inline void add_rows(
    Py_ssize_t n, real* g, const real* x, const Py_ssize_t* rows, const real* shares
) noexcept nogil:
    """Four rows in their order, for which g is read and written once."""
    cdef const real* x0 = x + rows[0] * n
    cdef const real* x1 = x + rows[1] * n
    cdef const real* x2 = x + rows[2] * n
    cdef const real* x3 = x + rows[3] * n
    cdef real a = shares[0], b = shares[1], c = shares[2], d = shares[3]
    cdef Py_ssize_t j
    for j in range(n):
        g[j] = (((g[j] + a * x0[j]) + b * x1[j]) + c * x2[j]) + d * x3[j]


cdef inline double loss_of_row(
    bint is_logistic, Py_ssize_t columns, const real* x, double target, const real* weight, const real* coef,
    real intercept, real* gradient, real* intercept_gradient,
) noexcept nogil:
    """What `mean_of_rows` is of one row, in the same bits, without what its blocks cost: a third of a step."""
    cdef double score = dot(columns, x, coef) + intercept, loss, error
    cdef real shift = 0  # to which -0 is added, too
    if is_logistic:
        logistic(1, &score, &target, &loss, &error)
    else:
        squared_error(1, &score, &target, &loss, &error)
    if weight != NULL:
        loss, error = loss * weight[0], error * weight[0]
    set_row(columns, gradient, x, <real> error)
    intercept_gradient[0] = shift + <real> error
    return loss if is_logistic else loss / 2.0


cdef double mean_of_rows(
    bint is_logistic, Py_ssize_t columns, const real* x, const real* targets, const real* weights,
    const int64_t* order, Py_ssize_t begin, Py_ssize_t end, const real* coef, real intercept, real* gradient,
    real* intercept_gradient,
) noexcept nogil:
    """The mean loss of rows begin to end of the order. Its gradient is written, unless NULL."""
    cdef double[BLOCK] scores
    cdef double[BLOCK] wanted
    cdef double[BLOCK] losses
    cdef double[BLOCK] errors
    cdef real[BLOCK] shares
    cdef Py_ssize_t[BLOCK] rows
    cdef double total = 0.0, count = <double> (end - begin)
    cdef real shift = 0
    cdef bint first = True
    cdef Py_ssize_t i, n
    while begin < end:
        n = min(BLOCK, end - begin)
        for i in range(n):
            rows[i] = begin + i if order == NULL else order[begin + i]
            wanted[i] = targets[rows[i]]
            scores[i] = dot(columns, x + rows[i] * columns, coef) + intercept
        if is_logistic:
            logistic(n, scores, wanted, losses, errors)
        else:
            squared_error(n, scores, wanted, losses, errors)
        if weights != NULL:
            for i in range(n):
                losses[i], errors[i] = losses[i] * weights[rows[i]], errors[i] * weights[rows[i]]
        for i in range(n):
            total += losses[i]
        if gradient != NULL:
            for i in range(n):
                shares[i] = <real> (errors[i] / count) if count > 1.0 else <real> errors[i]
                shift = shift + shares[i]
            if first:
                set_row(columns, gradient, x + rows[0] * columns, shares[0])
            i = 1 if first else 0
            first = False
            while i + 4 <= n:
                add_rows(columns, gradient, x, rows + i, shares + i)
                i += 4
            while i < n:
                add_row(columns, gradient, x + rows[i] * columns, shares[i])
                i += 1
        begin += n
    if gradient != NULL:
        intercept_gradient[0] = shift
    return (total if is_logistic else total / 2.0) / count


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
    cdef const real* row_weight = NULL
    cdef const int64_t* places = NULL
    cdef real none = 0, shift_gradient = 0
    cdef const real* shift = &none
    cdef bint is_logistic = LOSSES.index(loss)
    cdef Py_ssize_t rows = x.shape[0], columns = x.shape[1], batch = first, begin, end = rows * first // count, row, j
    cdef const real* w = &coef[0, 0]
    cdef real* g = &gradient[0, 0]
    cdef double mean
    if weights is not None:
        row_weights = &weights[0, 0]
    if order is not None:
        places = &order[0]
    if intercept is not None:
        shift = &intercept[0]
    plan.hold(plan.gather(gradients))
    try:
        with nogil:
            while batch < last:
                begin, end = end, rows * (batch + 1) // count
                if end - begin == 1:
                    row = begin
                    if places != NULL:
                        row = places[begin]
                        prefetch(&x[places[min(begin + AHEAD, rows - 1)], 0])
                    if row_weights != NULL:
                        row_weight = row_weights + row
                    mean = loss_of_row[real](
                        is_logistic, columns, &x[row, 0], targets[row, 0], row_weight, w, shift[0], g, &shift_gradient
                    )
                else:
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
                plan.advance()
                total += mean * <double> (end - begin)
                batch += 1
    finally:
        plan.release()
    return batch, total
