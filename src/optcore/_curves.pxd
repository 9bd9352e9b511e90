"""Schedules as C structures, and those that are smooth functions of time."""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from optcore._scalars cimport Double2, cos, pow, pow_parts

cdef enum Kind:
    # Smooth: functions of the double min(t, limit). These have loops over buffers.
    CONSTANT, EXPONENTIAL, INVERSE_TIME, INVERSE_POWER, INVERSE_ROOT, LINEAR, POLYNOMIAL, ROOT, GROWING, COSINE, NOAM
    # Functions of the integer t.
    STEP, PIECEWISE, COSINE_RESTARTS, CYCLIC
    # Functions of other curves.
    JOIN, TIMES, CLAMP, SHIFT, EVERY

cdef struct Curve:
    Kind kind
    double a, b, c, d
    Double2 log_base
    int64_t limit  # where a smooth curve ends
    int64_t n, m
    Py_ssize_t count  # boundaries; there is one value or part more
    const int64_t* boundaries
    const double* values
    Curve** parts


# ---------------------------------------------------------------------- smooth curves
#
# x = min(t, limit) as a double. Ends are selected, not computed, so that they are exact.


cdef inline double exponential(const Curve* c, double x) noexcept nogil:
    return c.a * pow_parts(c.log_base, x / c.b)


cdef inline double inverse_time(const Curve* c, double x) noexcept nogil:
    return c.a / (1.0 + c.c * x / c.b)


cdef inline double inverse_power(const Curve* c, double x) noexcept nogil:
    return c.a / pow(x + c.b, c.c)


cdef inline double inverse_root(const Curve* c, double x) noexcept nogil:
    return c.a / sqrt(x + c.b)


cdef inline double linear(const Curve* c, double x) noexcept nogil:
    cdef double between = c.a + (c.b - c.a) * x / c.c
    return c.b if x >= c.c else between


cdef inline double polynomial(const Curve* c, double x) noexcept nogil:
    cdef double between = (c.a - c.b) * pow(1.0 - x / c.c, c.d) + c.b
    between = c.a if x <= 0.0 else between
    return c.b if x >= c.c else between


cdef inline double root(const Curve* c, double x) noexcept nogil:
    cdef double between = c.b + (c.a - c.b) * (1.0 - sqrt(x / c.c))
    between = c.a if x <= 0.0 else between
    return c.b if x >= c.c else between


cdef inline double growing(const Curve* c, double x) noexcept nogil:
    cdef double value = c.a * (1.0 + c.b * x)
    return value if value < c.c else c.c


cdef inline double cosine(const Curve* c, double x) noexcept nogil:
    cdef double between = c.b + (c.a - c.b) * (1.0 + cos(3.141592653589793 * x / c.c)) / 2.0
    between = c.a if x <= 0.0 else between
    return c.b if x >= c.c else between


cdef inline double noam(const Curve* c, double x) noexcept nogil:
    cdef double s = x + 1.0
    cdef double falling = 1.0 / sqrt(s), rising = s * c.b
    return c.a * (falling if falling < rising else rising)


cdef enum:
    BLOCK = 1024

# A smooth curve at n <= BLOCK times.
ctypedef void (*Smooth)(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil
