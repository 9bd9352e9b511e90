# cython: boundscheck=False, wraparound=False
"""Schedules: values of a curve at one time, or at all times in a buffer.

A curve is a pure function of the number of completed updates and keeps nothing, so that threads may share it. What is
smooth is computed over buffers by loops of _curves.pyx in double arithmetic; the rest element by element.
"""

import numpy

cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from optcore._curves cimport (
    BLOCK, CLAMP, CONSTANT, COSINE, COSINE_RESTARTS, CYCLIC, EVERY, EXPONENTIAL, GROWING, INVERSE_POWER, INVERSE_ROOT,
    INVERSE_TIME, JOIN, LINEAR, NOAM, PIECEWISE, POLYNOMIAL, ROOT, SHIFT, STEP, TIMES, Curve, Kind, Smooth, cosine,
    exponential, growing, inverse_power, inverse_root, inverse_time, linear, noam, polynomial, root,
)
from optcore._scalars cimport Powers, cos, log_parts, power

from optcore._build import SMOOTH

cnp.import_array()

cdef Smooth fill = <Smooth> <size_t> SMOOTH

cdef enum:
    DEEPEST = 64  # each level takes a block of the stack

KINDS = {
    "constant": CONSTANT, "exponential": EXPONENTIAL, "inverse_time": INVERSE_TIME, "inverse_power": INVERSE_POWER,
    "inverse_root": INVERSE_ROOT, "linear": LINEAR, "polynomial": POLYNOMIAL, "root": ROOT, "growing": GROWING,
    "cosine": COSINE, "noam": NOAM, "step": STEP, "piecewise": PIECEWISE, "cosine_restarts": COSINE_RESTARTS,
    "cyclic": CYCLIC, "join": JOIN, "times": TIMES, "clamp": CLAMP, "shift": SHIFT, "every": EVERY,
}


cdef inline double smooth(const Curve* c, int64_t t) noexcept nogil:
    cdef double x = <double> (t if t < c.limit else c.limit)
    if c.kind == CONSTANT:
        return c.a
    if c.kind == EXPONENTIAL:
        return exponential(c, x)
    if c.kind == INVERSE_TIME:
        return inverse_time(c, x)
    if c.kind == INVERSE_POWER:
        return inverse_power(c, x)
    if c.kind == INVERSE_ROOT:
        return inverse_root(c, x)
    if c.kind == LINEAR:
        return linear(c, x)
    if c.kind == POLYNOMIAL:
        return polynomial(c, x)
    if c.kind == ROOT:
        return root(c, x)
    if c.kind == GROWING:
        return growing(c, x)
    if c.kind == COSINE:
        return cosine(c, x)
    return noam(c, x)


# ---------------------------------------------------------------------- curves of the integer t


cdef inline double step(const Curve* c, int64_t t, Powers* powers) noexcept nogil:
    return c.a * power(c.b, t // c.n, powers)


cdef inline Py_ssize_t part(const Curve* c, int64_t t) noexcept nogil:
    """How many boundaries t has reached."""
    cdef Py_ssize_t low = 0, high = c.count, middle
    while low < high:
        middle = (low + high) // 2
        if c.boundaries[middle] <= t:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline double cosine_restarts(const Curve* c, int64_t t, Powers* powers) noexcept nogil:
    """Cycle i has n * m ** i updates, the last of which has the end value."""
    cdef int64_t length = c.n, i = 0
    cdef double peak, between
    if c.m == 1:
        i, t = t // length, t % length
    else:
        while t >= length:
            t -= length
            i += 1
            length = length * c.m if length <= INT64_MAX // c.m else INT64_MAX
    if t == length - 1:
        return c.b
    peak = c.a * power(c.c, i, powers)
    between = c.b + (peak - c.b) * (1.0 + cos(3.141592653589793 * <double> t / <double> (length - 1))) / 2.0
    return peak if t == 0 else between


cdef inline double cyclic(const Curve* c, int64_t t, Powers* powers) noexcept nogil:
    """Up from a to b in n updates and down in m; the height shrinks by c in every cycle and by d in every update."""
    cdef int64_t cycle = t // (c.n + c.m), place = t % (c.n + c.m)
    cdef double share = (
        <double> place / <double> c.n if place <= c.n else <double> (c.n + c.m - place) / <double> c.m
    )
    cdef double height = (c.b - c.a) * share
    if c.c != 1.0:
        height = height * power(c.c, cycle, powers)
    if c.d != 1.0:
        height = height * power(c.d, t, powers)
    elif share == 1.0 and (c.c == 1.0 or cycle == 0):
        return c.b
    return c.a + height


# ---------------------------------------------------------------------- all of them


cdef inline int64_t later(int64_t t, int64_t n) noexcept nogil:
    """t + n, or the end of time."""
    return t + n if t <= INT64_MAX - n else INT64_MAX


cdef inline double clamped(double x, double lower, double upper) noexcept nogil:
    cdef double raised = lower if x < lower else x
    return upper if raised > upper else raised


cdef double value(const Curve* c, int64_t t) noexcept nogil:
    """A curve at one time."""
    cdef Powers powers
    cdef Py_ssize_t k
    if c.kind <= NOAM:
        return smooth(c, t)
    if c.kind == PIECEWISE:
        return c.values[part(c, t)]
    if c.kind == JOIN:
        k = part(c, t)
        return value(c.parts[k], t if k == 0 else t - c.boundaries[k - 1])
    if c.kind == TIMES:
        return value(c.parts[0], t) * c.a
    if c.kind == CLAMP:
        return clamped(value(c.parts[0], t), c.a, c.b)
    if c.kind == SHIFT:
        return value(c.parts[0], later(t, c.n))
    if c.kind == EVERY:
        return value(c.parts[0], t // c.n)
    memset(&powers, 0, sizeof(powers))
    if c.kind == STEP:
        return step(c, t, &powers)
    if c.kind == COSINE_RESTARTS:
        return cosine_restarts(c, t, &powers)
    return cyclic(c, t, &powers)


cdef void values(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil:
    """A curve at n times, block by block."""
    cdef Py_ssize_t begin = 0
    while begin < n:
        block(c, min(BLOCK, n - begin), t + begin, out + begin)
        begin += BLOCK


cdef void block(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil:
    cdef int64_t moved[BLOCK]
    cdef Powers powers
    cdef Py_ssize_t i, k, begin
    cdef int64_t first
    if c.kind <= NOAM:
        fill(c, n, t, out)
    elif c.kind == PIECEWISE:
        for i in range(n):
            out[i] = c.values[part(c, t[i])]
    elif c.kind == JOIN:
        begin = 0
        while begin < n:  # neighbours mostly belong to the same part
            k = part(c, t[begin])
            first = 0 if k == 0 else c.boundaries[k - 1]
            i = begin
            while i < n and t[i] >= first and (k == c.count or t[i] < c.boundaries[k]):
                moved[i] = t[i] - first
                i += 1
            block(c.parts[k], i - begin, moved + begin, out + begin)
            begin = i
    elif c.kind == TIMES:
        block(c.parts[0], n, t, out)
        for i in range(n):
            out[i] = out[i] * c.a
    elif c.kind == CLAMP:
        block(c.parts[0], n, t, out)
        for i in range(n):
            out[i] = clamped(out[i], c.a, c.b)
    elif c.kind == SHIFT:
        for i in range(n):
            moved[i] = later(t[i], c.n)
        block(c.parts[0], n, moved, out)
    elif c.kind == EVERY:
        for i in range(n):
            moved[i] = t[i] // c.n
        block(c.parts[0], n, moved, out)
    else:
        memset(&powers, 0, sizeof(powers))
        for i in range(n):
            if c.kind == STEP:
                out[i] = step(c, t[i], &powers)
            elif c.kind == COSINE_RESTARTS:
                out[i] = cosine_restarts(c, t[i], &powers)
            else:
                out[i] = cyclic(c, t[i], &powers)


cdef class Compiled:
    """A curve that Python can call; `optcore.schedules.Schedule` builds on it."""

    def __dealloc__(self):
        free(<void*> self.curve.boundaries)
        free(<void*> self.curve.values)
        free(self.curve.parts)

    def _compile(
        self, str kind, double a=0.0, double b=0.0, double c=0.0, double d=0.0, int64_t n=1, int64_t m=1,
        limit=None, boundaries=(), values=(), parts=(),
    ):
        """Fills the structure, once. What the letters mean for each kind stands in _curves.pxd and above."""
        cdef Py_ssize_t i
        cdef int64_t* ends
        cdef double* levels
        if self.depth:
            raise RuntimeError("a schedule cannot be changed; make a new one")
        self.curve.kind, self.curve.a, self.curve.b, self.curve.c, self.curve.d = KINDS[kind], a, b, c, d
        self.curve.n, self.curve.m = n, m
        self.curve.limit = INT64_MAX if limit is None else limit
        if kind == "exponential":
            self.curve.log_base = log_parts(c)
        self.curve.count = len(boundaries)
        ends = <int64_t*> calloc(len(boundaries) + 1, sizeof(int64_t))
        levels = <double*> calloc(len(values) + 1, sizeof(double))
        self.curve.boundaries, self.curve.values = ends, levels
        self.curve.parts = <Curve**> calloc(len(parts) + 1, sizeof(Curve*))
        if not (ends and levels and self.curve.parts):
            raise MemoryError
        for i in range(len(boundaries)):
            ends[i] = boundaries[i]
        for i in range(len(values)):
            levels[i] = values[i]
        self.keep = tuple(parts)
        for i in range(len(parts)):
            self.curve.parts[i] = &(<Compiled?> self.keep[i]).curve
        depth = 1 + max([part.depth for part in parts], default=0)
        if depth > DEEPEST:
            raise ValueError(f"schedules can be nested {DEEPEST} deep, not {depth}")
        self.depth = depth

    def __call__(self, t, out=None):
        """The value after t = 0, 1, 2, ... completed updates.

        Parameters
        ----------
        t : int or array of integers, none negative
        out : float64 array of the shape of t, optional
            Where to write the values.

        Returns
        -------
        float, or float64 array of the shape of t

        Raises
        ------
        TypeError
            t is not of integers, or out no float64 array.
        ValueError
            Some t is negative, or out has another shape. Nothing has been written.
        """
        cdef int64_t[::1] times
        cdef double[::1] flat
        if type(t) is int and out is None:
            if t < 0:
                raise ValueError(f"t counts completed updates: it cannot be negative, got {t}")
            return value(&self.curve, <int64_t> t)
        given = numpy.asarray(t)
        if given.dtype.kind not in "iu":
            raise TypeError(f"t counts completed updates: it must be an integer or an array of integers, got {t!r}")
        if given.dtype == numpy.uint64 and (given > INT64_MAX).any():
            raise OverflowError("t must be below 2**63")
        whole = numpy.ascontiguousarray(given, numpy.int64)
        if whole.size and whole.min() < 0:
            raise ValueError(f"t counts completed updates: it cannot be negative, got {whole.min()}")
        times = whole.reshape(-1)
        if out is None:
            result = numpy.empty(given.shape)
        else:
            result = out
            if not isinstance(out, numpy.ndarray) or out.dtype != numpy.float64:
                raise TypeError(f"out must be a float64 array, got {getattr(out, 'dtype', type(out).__name__)}")
            if out.shape != given.shape:
                raise ValueError(f"out has shape {out.shape}, but t has shape {given.shape}")
            if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
                raise ValueError("out must be C-contiguous, aligned and writeable")
            if numpy.may_share_memory(out, whole):
                times = whole.copy().reshape(-1)
        flat = result.reshape(-1)
        if times.shape[0]:
            with nogil:
                values(&self.curve, times.shape[0], &times[0], &flat[0])
        return float(result) if given.ndim == 0 and out is None else result
