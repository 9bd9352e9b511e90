"""Smooth schedules over buffers."""

from libc.stdint cimport uint64_t

from optcore._scalars cimport from_bits, to_bits


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


cdef void fill(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil:
    cdef double x[BLOCK]
    cdef Py_ssize_t i
    to_doubles(t, n, c.limit, x)
    if c.kind == CONSTANT:
        for i in range(n):
            out[i] = c.a
    elif c.kind == EXPONENTIAL:
        for i in range(n):
            out[i] = exponential(c, x[i])
    elif c.kind == INVERSE_TIME:
        for i in range(n):
            out[i] = inverse_time(c, x[i])
    elif c.kind == INVERSE_POWER:
        for i in range(n):
            out[i] = inverse_power(c, x[i])
    elif c.kind == INVERSE_ROOT:
        for i in range(n):
            out[i] = inverse_root(c, x[i])
    elif c.kind == LINEAR:
        for i in range(n):
            out[i] = linear(c, x[i])
    elif c.kind == POLYNOMIAL:
        for i in range(n):
            out[i] = polynomial(c, x[i])
    elif c.kind == ROOT:
        for i in range(n):
            out[i] = root(c, x[i])
    elif c.kind == GROWING:
        for i in range(n):
            out[i] = growing(c, x[i])
    elif c.kind == COSINE:
        for i in range(n):
            out[i] = cosine(c, x[i])
    elif c.kind == NOAM:
        for i in range(n):
            out[i] = noam(c, x[i])


SMOOTH = <size_t> <Smooth> fill
