"""Schedules as C structures, and those that are smooth functions of time."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from optcore._scalars cimport Double2, cos, pow, pow_parts

cdef enum Kind:
    # Smooth: functions of the double min(t, limit). These have loops over buffers.
    CONSTANT, EXPONENTIAL, INVERSE_TIME, INVERSE_POWER, LINEAR, POLYNOMIAL, ROOT, GROWING, COSINE, NOAM
    # Functions of the integer t.
    STEP, PIECEWISE, COSINE_RESTARTS, CYCLIC
    # Functions of other curves.
    JOIN, TIMES, CLAMP, SHIFT, EVERY

cdef struct Curve:
    Kind kind
    double a, b, c, d
    Double2 log_base
    const Double2* squares  # of the base of an integer power, see _scalars.pxd
    int64_t limit  # where a smooth curve ends
    int64_t n, m
    bint by_cycle
    Py_ssize_t count  # boundaries; there is one value or part more
    const int64_t* boundaries
    const double* values
    Curve** parts

cdef enum:
    BLOCK = 512


# ---------------------------------------------------------------------- smooth curves
#
# x = min(t, limit) as a double. Ends are selected, not computed, so that they are exact.


cdef inline double exponential(const Curve* c, double x) noexcept nogil:
    return c.a * pow_parts(c.log_base, x / c.b)


cdef inline double inverse_time(const Curve* c, double x) noexcept nogil:
    return c.a / (1.0 + c.c * x / c.b)


cdef inline double raised(const Curve* c, double x) noexcept nogil:
    """x ** d. Where d is a small multiple of 1/2, n is 2 * d: a root and products, many times as fast as pow."""
    cdef double result
    cdef int64_t k
    if c.n == 0:
        return pow(x, c.d)
    result = sqrt(x) if c.n & 1 else 1.0
    for k in range(c.n >> 1):
        result = result * x
    return result


cdef inline double inverse_power(const Curve* c, double x) noexcept nogil:
    return c.a / raised(c, x + c.b)


cdef inline double linear(const Curve* c, double x) noexcept nogil:
    cdef double between = c.a + (c.b - c.a) * x / c.c
    between = c.a if x <= 0.0 else between
    return c.b if x >= c.c else between


cdef inline double remaining(const Curve* c, double x) noexcept nogil:
    return 1.0 - x / c.c


cdef inline double polynomial_of(const Curve* c, double x, double power) noexcept nogil:
    cdef double between = (c.a - c.b) * power + c.b
    between = c.a if x <= 0.0 else between
    return c.b if x >= c.c else between


cdef inline double polynomial(const Curve* c, double x) noexcept nogil:
    return polynomial_of(c, x, raised(c, remaining(c, x)))


cdef inline double root(const Curve* c, double x) noexcept nogil:
    cdef double between = c.b + (c.a - c.b) * (1.0 - sqrt(x / c.c))
    between = c.a if x <= 0.0 else between
    return c.b if x >= c.c else between


cdef inline double growing(const Curve* c, double x) noexcept nogil:
    cdef double value = c.a * (1.0 + c.b * x)
    return value if value < c.c else c.c


cdef inline double angle(const Curve* c, double x) noexcept nogil:
    return 3.141592653589793 * x / c.c


cdef inline double cosine_of(const Curve* c, double x, double cosine) noexcept nogil:
    cdef double between = c.b + (c.a - c.b) * (1.0 + cosine) / 2.0
    between = c.a if x <= 0.0 else between
    return c.b if x >= c.c else between


cdef inline double cosine(const Curve* c, double x) noexcept nogil:
    return cosine_of(c, x, cos(angle(c, x)))


cdef inline double noam(const Curve* c, double x) noexcept nogil:
    cdef double s = x + 1.0
    cdef double falling = 1.0 / sqrt(s), rising = s * c.b
    return c.a * (falling if falling < rising else rising)


# A smooth curve at n <= BLOCK times.
ctypedef void (*Smooth)(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil
