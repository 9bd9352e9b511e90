"""Smooth schedules over buffers."""

from libc.math cimport sqrt
from libc.stdint cimport uint64_t

from optcore._scalars cimport Double2, cos, from_bits, log_parts, pow_parts, to_bits


cdef void to_doubles(const int64_t* t, Py_ssize_t n, int64_t limit, double* x) noexcept nogil:
    """x = min(t, limit) for t >= 0."""
    cdef Py_ssize_t i
    cdef int64_t bounded
    cdef uint64_t large = to_bits(4503599627370496.0)  # 2**52
    if limit < <int64_t> 1 << 52:  # t is the fraction of 2**52 + t: unlike a conversion, this vectorises
        for i in range(n):
            bounded = t[i] if t[i] < limit else limit
            x[i] = from_bits(<uint64_t> bounded | large) - 4503599627370496.0
    else:
        for i in range(n):
            x[i] = <double> (t[i] if t[i] < limit else limit)


cdef void raise_all(const Curve* c, Py_ssize_t n, double* x, double* out) noexcept nogil:
    """out = raised(c, x)."""
    cdef double high[BLOCK]
    cdef double low[BLOCK]
    cdef Double2 log_x
    cdef Py_ssize_t i
    cdef int64_t k
    if c.n == 0:
        # In several loops, because a processor looks ahead only so far: it then computes more elements at a time.
        for i in range(n):
            log_x = log_parts(x[i])
            high[i], low[i] = log_x.hi, log_x.lo
        for i in range(n):
            out[i] = pow_parts(Double2(high[i], low[i]), c.d)
        return
    if c.n & 1:
        for i in range(n):
            out[i] = sqrt(x[i])
    else:
        for i in range(n):
            out[i] = 1.0
    for k in range(c.n >> 1):
        for i in range(n):
            out[i] = out[i] * x[i]


cdef void fill(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil:
    cdef double x[BLOCK]
    cdef double base[BLOCK]
    cdef Py_ssize_t i
    if c.kind == CONSTANT:
        for i in range(n):
            out[i] = c.a
        return
    to_doubles(t, n, c.limit, x)
    if c.kind == EXPONENTIAL:
        for i in range(n):
            out[i] = exponential(c, x[i])
    elif c.kind == INVERSE_TIME:
        for i in range(n):
            out[i] = inverse_time(c, x[i])
    elif c.kind == INVERSE_POWER:
        for i in range(n):
            base[i] = x[i] + c.b
        raise_all(c, n, base, out)
        for i in range(n):
            out[i] = c.a / out[i]
    elif c.kind == LINEAR:
        for i in range(n):
            out[i] = linear(c, x[i])
    elif c.kind == POLYNOMIAL:
        for i in range(n):
            base[i] = remaining(c, x[i])
        raise_all(c, n, base, out)
        for i in range(n):
            out[i] = polynomial_of(c, x[i], out[i])
    elif c.kind == ROOT:
        for i in range(n):
            out[i] = root(c, x[i])
    elif c.kind == GROWING:
        for i in range(n):
            out[i] = growing(c, x[i])
    elif c.kind == COSINE:  # in three loops, as above
        for i in range(n):
            out[i] = angle(c, x[i])
        for i in range(n):
            out[i] = cos(out[i])
        for i in range(n):
            out[i] = cosine_of(c, x[i], out[i])
    elif c.kind == NOAM:
        for i in range(n):
            out[i] = noam(c, x[i])


SMOOTH = <size_t> <Smooth> fill
