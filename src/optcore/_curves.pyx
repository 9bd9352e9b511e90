"""Smooth schedules over buffers. Their times are doubles already: converting 64-bit integers does not vectorise."""


cdef void fill(const Curve* c, Py_ssize_t n, const double* x, double* out) noexcept nogil:
    cdef Py_ssize_t i
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
