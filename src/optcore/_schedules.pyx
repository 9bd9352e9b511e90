# cython: boundscheck=False, wraparound=False
"""Schedules: values of a curve at one time, or at all times in a buffer.

A curve is a pure function of the number of completed updates and keeps nothing, so that threads may share it. What is
smooth is computed over buffers by loops of _curves.pyx in double arithmetic; the rest element by element.
"""

import numpy

cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from optcore._curves cimport (
    BLOCK, CLAMP, CONSTANT, COSINE, COSINE_RESTARTS, CYCLIC, EVERY, EXPONENTIAL, GROWING, INVERSE_POWER, INVERSE_TIME,
    JOIN, LINEAR, NOAM, PIECEWISE, POLYNOMIAL, ROOT, SHIFT, STEP, TIMES, Curve, Kind, Smooth, cosine,
    exponential, growing, inverse_power, inverse_time, linear, noam, polynomial, root,
)
from optcore._scalars cimport SQUARES, Double2, Powers, fill_squares, log_parts, power, power_from

from optcore._build import SMOOTH

cnp.import_array()

cdef Smooth fill = <Smooth> <size_t> SMOOTH

cdef enum:
    DEEPEST = 32  # each level takes a block of the stack

cdef uint64_t EVER = <uint64_t> 1 << 63

KINDS = {
    "constant": CONSTANT, "exponential": EXPONENTIAL, "inverse_time": INVERSE_TIME, "inverse_power": INVERSE_POWER,
    "linear": LINEAR, "polynomial": POLYNOMIAL, "root": ROOT, "growing": GROWING,
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


cdef struct Run:
    # Times from first on, count of them, which share a part, a cycle or a quotient.
    int64_t first
    uint64_t count
    int64_t index


cdef inline Py_ssize_t run_end(const Run* run, Py_ssize_t begin, Py_ssize_t n, const int64_t* t) noexcept nogil:
    """How far the times from begin on belong to the run. Neighbours mostly do: what they share is computed once."""
    while begin < n and <uint64_t> (t[begin] - run.first) < run.count:
        begin += 1
    return begin


cdef inline Run part(const Curve* c, int64_t t) noexcept nogil:
    """Between which boundaries t is."""
    cdef int64_t low = 0, high = c.count, middle, first
    while low < high:
        middle = (low + high) // 2
        if c.boundaries[middle] <= t:
            low = middle + 1
        else:
            high = middle
    first = 0 if low == 0 else c.boundaries[low - 1]
    return Run(first, EVER if low == c.count else <uint64_t> (c.boundaries[low] - first), low)


cdef inline Run quotient(int64_t n, int64_t t) noexcept nogil:
    return Run(t - t % n, n, t // n)


cdef inline Run restart(const Curve* c, int64_t t) noexcept nogil:
    """Cycle i has n * m ** i updates."""
    cdef int64_t length = c.n, first = 0, i = 0
    if c.m == 1:
        return quotient(length, t)
    while t - first >= length:
        first += length
        i += 1
        length = length * c.m if length <= INT64_MAX // c.m else INT64_MAX
    return Run(first, length, i)


cdef inline Curve cycle(const Curve* c, Run run) noexcept nogil:
    """The cosine of one cycle: its last update has the end value."""
    cdef Curve result
    memset(&result, 0, sizeof(result))
    result.kind, result.b = COSINE, c.b
    result.a = c.a * power_from(c.squares, run.index)
    result.limit = <int64_t> (run.count - 1)
    result.c = <double> result.limit
    return result


cdef inline double cyclic(const Curve* c, int64_t place, double factor) noexcept nogil:
    """Up from a to b in n updates and down in m; the height, at most b - a, is multiplied by the factor."""
    cdef double share = (
        <double> place / <double> c.n if place <= c.n else <double> (c.n + c.m - place) / <double> c.m
    )
    cdef double between = c.a + (c.b - c.a) * share * factor
    return c.b if share == 1.0 and factor == 1.0 else between


# ---------------------------------------------------------------------- all of them


cdef inline int64_t later(int64_t t, int64_t n) noexcept nogil:
    """t + n, or the end of time."""
    return t + n if t <= INT64_MAX - n else INT64_MAX


cdef inline double clamped(double x, double lower, double upper) noexcept nogil:
    cdef double raised = lower if x < lower else x
    return upper if raised > upper else raised


cdef double value(const Curve* c, int64_t t) noexcept nogil:
    """A curve at one time."""
    cdef Run run
    cdef Curve cosine
    if c.kind <= NOAM:
        return smooth(c, t)
    if c.kind == STEP:
        return c.a * power_from(c.squares, t // c.n)
    if c.kind == PIECEWISE:
        return c.values[part(c, t).index]
    if c.kind == COSINE_RESTARTS:
        run = restart(c, t)
        cosine = cycle(c, run)
        return smooth(&cosine, t - run.first)
    if c.kind == CYCLIC:
        run = quotient(c.n + c.m, t)
        return cyclic(c, t - run.first, power_from(c.squares, run.index if c.by_cycle else t))
    if c.kind == JOIN:
        run = part(c, t)
        return value(c.parts[run.index], t - run.first)
    if c.kind == TIMES:
        return value(c.parts[0], t) * c.a
    if c.kind == CLAMP:
        return clamped(value(c.parts[0], t), c.a, c.b)
    if c.kind == SHIFT:
        return value(c.parts[0], later(t, c.n))
    return value(c.parts[0], t // c.n)


cdef void values(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil:
    """A curve at n times, block by block."""
    cdef Py_ssize_t begin = 0
    while begin < n:
        block(c, min(BLOCK, n - begin), t + begin, out + begin)
        begin += BLOCK


cdef void block(const Curve* c, Py_ssize_t n, const int64_t* t, double* out) noexcept nogil:
    """A curve at n <= BLOCK times."""
    cdef int64_t moved[BLOCK]
    cdef Powers powers
    cdef Curve cosine
    cdef Run run
    cdef double shared = 1.0
    cdef Py_ssize_t i, begin = 0, end
    if c.kind <= NOAM:
        fill(c, n, t, out)
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
        while begin < n:
            run = quotient(c.n, t[begin])
            end = run_end(&run, begin, n, t)
            for i in range(begin, end):
                moved[i] = run.index
            begin = end
        block(c.parts[0], n, moved, out)
    elif c.kind == JOIN or c.kind == COSINE_RESTARTS:
        while begin < n:
            run = part(c, t[begin]) if c.kind == JOIN else restart(c, t[begin])
            end = run_end(&run, begin, n, t)
            for i in range(begin, end):
                moved[i] = t[i] - run.first
            if c.kind == JOIN:
                block(c.parts[run.index], end - begin, moved + begin, out + begin)
            else:
                cosine = cycle(c, run)
                fill(&cosine, end - begin, moved + begin, out + begin)
            begin = end
    else:
        memset(&powers, 0, sizeof(powers))
        while begin < n:
            run = part(c, t[begin]) if c.kind == PIECEWISE else quotient(c.n + c.m, t[begin])  # a step has m = 0
            end = run_end(&run, begin, n, t)
            if c.kind == PIECEWISE:
                shared = c.values[run.index]
            elif c.kind == STEP:
                shared = c.a * power(c.c, run.index, &powers)
            elif c.by_cycle:
                shared = power(c.c, run.index, &powers)
            for i in range(begin, end):
                if c.kind != CYCLIC:
                    out[i] = shared
                else:
                    out[i] = cyclic(c, t[i] - run.first, shared if c.by_cycle else power(c.c, t[i], &powers))
            begin = end


def refused(t):
    """The error about a t out of range."""
    if t < 0:
        return ValueError(f"t counts completed updates: it cannot be negative, got {t}")
    return OverflowError(f"t must be below 2**63, got {t}")


cdef class Compiled:
    """A curve that Python can call; `optcore.schedules.Schedule` builds on it."""

    def __dealloc__(self):
        free(<void*> self.curve.boundaries)
        free(<void*> self.curve.values)
        free(<void*> self.curve.squares)
        free(self.curve.parts)

    def _compile(
        self, str kind, double a=0.0, double b=0.0, double c=0.0, double d=0.0, int64_t n=1, int64_t m=0,
        int64_t limit=INT64_MAX, bint by_cycle=False, boundaries=(), values=(), parts=(),
    ):
        """Fills the structure, once. What the letters mean for each kind stands in _curves.pxd and above."""
        cdef Py_ssize_t i
        cdef int64_t* ends
        cdef double* levels
        cdef Double2* squares
        if self.depth:
            raise RuntimeError("a schedule cannot be changed; make a new one")
        self.curve.kind, self.curve.a, self.curve.b, self.curve.c, self.curve.d = KINDS[kind], a, b, c, d
        self.curve.n, self.curve.m = n, m
        self.curve.limit, self.curve.by_cycle = limit, by_cycle
        if kind == "exponential":
            self.curve.log_base = log_parts(c)
        if kind in ("step", "cosine_restarts", "cyclic"):
            squares = <Double2*> calloc(SQUARES, sizeof(Double2))
            if not squares:
                raise MemoryError
            self.curve.squares = squares
            fill_squares(c, squares)
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
            if not (<Compiled?> self.keep[i]).depth:
                raise ValueError("a part has not been given its values")
            if type(self.keep[i]).__call__ is not Compiled.__call__:
                raise TypeError(
                    f"{type(self.keep[i]).__name__} has values of its own, which a combinator would not see; "
                    "use a function of t"
                )
            self.curve.parts[i] = &(<Compiled> self.keep[i]).curve
        depth = 1 + max([(<Compiled> part).depth for part in parts], default=0)
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
        OverflowError
            Some t is 2**63 or above.
        """
        cdef const int64_t[::1] times
        cdef double[::1] flat
        if self.depth == 0:
            raise TypeError(f"this {type(self).__name__} has not been given its values")
        if type(t) is int and out is None:
            if not 0 <= t <= INT64_MAX:
                raise refused(t)
            return value(&self.curve, <int64_t> t)
        given = numpy.asarray(t)
        if given.dtype.kind not in "iu":
            raise TypeError(f"t counts completed updates: it must be an integer or an array of integers, got {t!r}")
        if given.dtype == numpy.uint64 and given.size and given.max() > INT64_MAX:
            raise refused(given.max())
        whole = numpy.ascontiguousarray(given, numpy.int64)
        if whole.size and whole.min() < 0:
            raise refused(whole.min())
        times = whole.reshape(-1)
        if out is None:
            result = numpy.empty(given.shape)
        else:
            result = out
            if type(out) not in (numpy.ndarray, numpy.memmap) or out.dtype != numpy.float64:
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
