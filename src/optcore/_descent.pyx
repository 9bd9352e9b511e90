# cython: boundscheck=False, wraparound=False
"""The bookkeeping of a minimization: what is kept of each point, and whether it is the last.

`optcore._minimize` steps and evaluates, and asks here after each point. Where the function is compiled, both happen
here, without the GIL, some steps at a time: the caller looks at the clock and at signals in between.
"""

import math

import numpy

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetContext, PyCapsule_GetName, PyCapsule_GetPointer
from libc.math cimport INFINITY, NAN, fabs, isfinite
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from optcore._engine cimport Plan

cnp.import_array()

# What `decide` returns: the numbers of optcore.stopping.Status, or that the run goes on.
cdef enum:
    GO_ON = -1
    GRADIENT = 0
    MAXITER = 1
    DIVERGED = 2
    TARGET = 6
    STEP = 7
    LOSS = 8

ctypedef double (*WithData)(int n, const double* x, double* gradient, void* data) noexcept nogil
ctypedef double (*WithoutData)(int n, const double* x, double* gradient) noexcept nogil

FIRST_ROOM = 256
SIGNATURES = ("double (int, double *, double *, void *)", "double (int, double *, double *)")


cdef double* doubles(array) except? NULL:
    """The memory of an array of float64, which is not looked at again."""
    if not isinstance(array, numpy.ndarray) or array.dtype != numpy.float64 or not array.flags.carray:
        raise TypeError(f"an array of float64 that can be written is needed, got {array!r}")
    return <double*> cnp.PyArray_DATA(array)


cdef double* pointer(array) except? NULL:
    return NULL if array is None else <double*> cnp.PyArray_DATA(array)


cdef class Function:
    """A compiled function: ``double fun(int n, const double *x, double *gradient, void *data)``.

    Parameters
    ----------
    capsule : PyCapsule
        Its name is the signature, as Cython and SciPy write it; its context the data.

    Raises
    ------
    ValueError
        The signature is another.
    """

    cdef object capsule
    cdef void* pointer
    cdef void* data
    cdef bint takes_data
    cdef readonly int64_t nfev, njev
    """Calls so far, and those that gave a loss to which a gradient belongs."""

    def __cinit__(self, capsule):
        if not PyCapsule_CheckExact(capsule):
            raise TypeError(f"a compiled function comes in a capsule, got {type(capsule).__name__}")
        cdef const char* name = PyCapsule_GetName(capsule)
        found = "" if name == NULL else name.decode()
        signature = found.replace("const ", "")  # where exceptions go is not in the name
        if signature not in SIGNATURES:
            raise ValueError(f"a compiled fun must be {' or '.join(SIGNATURES)}, which also writes the gradient; got {found!r}")
        self.capsule = capsule
        self.pointer = PyCapsule_GetPointer(capsule, name)
        self.data = PyCapsule_GetContext(capsule)
        self.takes_data = signature == SIGNATURES[0]

    def __call__(self, x, g):
        """The loss at x, without the GIL; the gradient is written to g."""
        cdef double* point = doubles(x)
        cdef double* gradient = doubles(g)
        cdef int n = x.size
        cdef double loss
        if g.size != n:
            raise ValueError(f"the gradient has {g.size} elements, and x has {n}")
        with nogil:
            loss = self.call(n, point, gradient)
        return loss

    cdef double call(self, int n, const double* x, double* g) noexcept nogil:
        cdef double loss
        if self.takes_data:
            loss = (<WithData> self.pointer)(n, x, g, self.data)
        else:
            loss = (<WithoutData> self.pointer)(n, x, g)
        self.nfev += 1
        self.njev += isfinite(loss)
        return loss


cdef class Descent:
    """The points of one run, of which the arrays ``x`` and ``g`` hold the current one.

    Parameters
    ----------
    x, g : array of float64, shape (n,)
        Read at every point.
    bounds : pair of such arrays, or None
    settings : optcore.stopping.Settings
        When the run ends, and whether its history is kept.
    keep_last : bool
        Whether a copy of the last point is kept: with xtol it is in any case.
    """

    cdef Py_ssize_t n
    cdef double* x
    cdef double* g
    cdef double* lower  # NULL without bounds
    cdef double* upper
    cdef double* best[2]  # x and gradient
    cdef double* last[2]  # NULL where they are not kept
    cdef double gtol, xtol, ftol, target, divergence
    cdef bint by_loss
    cdef int64_t window, maxiter
    cdef double lowest  # what the loss has to fall below by more than ftol
    cdef int64_t idle, still  # steps in a row without that, and within xtol
    cdef double moved, extent  # the largest change of an element in the last step, and the largest element
    cdef double* rows[4]
    cdef Py_ssize_t room
    cdef tuple keep  # what else is pointed to
    cdef readonly dict columns
    cdef readonly Py_ssize_t size
    """Points so far."""
    cdef readonly double loss, norm, largest
    """Of the current point; the gradient's norm is that of what can be followed within the bounds."""
    cdef readonly double best_loss, last_loss
    cdef readonly object best_x, best_g, last_x, last_g

    def __init__(self, x, g, bounds, settings, bint keep_last):
        lower, upper = bounds or (None, None)
        self.n, self.x, self.g, self.lower, self.upper = x.size, doubles(x), doubles(g), pointer(lower), pointer(upper)
        self.gtol = -1.0 if settings.gtol is None else settings.gtol
        self.xtol = -1.0 if settings.xtol is None else settings.xtol
        self.ftol, self.by_loss = settings.ftol or 0.0, settings.ftol is not None
        self.target = -INFINITY if settings.target is None else settings.target
        self.divergence = INFINITY if settings.divergence is None else settings.divergence
        self.window, self.maxiter = settings.window, min(settings.maxiter, 2**62)
        self.lowest = self.best_loss = self.last_loss = INFINITY
        self.loss = self.norm = self.largest = NAN
        self.best_x, self.best_g = numpy.empty(self.n), numpy.empty(self.n)
        if keep_last or settings.xtol is not None:
            self.last_x, self.last_g = numpy.empty(self.n), numpy.empty(self.n)
        self.best[0], self.best[1] = pointer(self.best_x), pointer(self.best_g)
        self.last[0], self.last[1] = pointer(self.last_x), pointer(self.last_g)
        self.keep = x, g, lower, upper
        self.columns = {}
        if settings.history:
            self.columns = {name: numpy.empty(FIRST_ROOM) for name in ("loss", "gradient_norm", "lr")}
        if settings.history == "x":
            self.columns["x"] = numpy.empty((FIRST_ROOM, self.n))
        self.point_to_columns()

    cdef int point_to_columns(self) except -1:
        cdef Py_ssize_t k
        for k, name in enumerate(("loss", "gradient_norm", "lr", "x")):
            self.rows[k] = pointer(self.columns.get(name))
        self.room = len(self.columns["loss"]) if self.columns else 2**62
        return 0

    cdef int make_room(self) except -1:
        """Twice as much where the columns are full."""
        if self.size < self.room:
            return 0
        columns = {}
        for name, old in self.columns.items():
            columns[name] = numpy.empty((2 * len(old), *old.shape[1:]))
            columns[name][:len(old)] = old
        self.columns = columns
        return self.point_to_columns()

    def history(self):
        """The columns as far as they are filled, and the number of the step."""
        return {
            "step": numpy.arange(self.size),
            **{name: column[:self.size].copy() for name, column in self.columns.items()},
        }

    def go_back(self):
        """To the best point, from which nothing has been idle yet."""
        memcpy(self.x, self.best[0], self.n * sizeof(double))
        memcpy(self.g, self.best[1], self.n * sizeof(double))
        if self.last[0] != NULL:
            memcpy(self.last[0], self.x, self.n * sizeof(double))
            memcpy(self.last[1], self.g, self.n * sizeof(double))
            self.last_loss = self.best_loss
        self.idle = self.still = 0

    def observe(self, double loss, double lr):
        """Keeps what is to be kept of the current point. False where it is no point to go on from.

        ``lr`` is that of the step which led there. ``loss`` is NaN where it was not to be had.
        """
        self.make_room()
        return self.take(loss, lr)

    def decide(self):
        """The status with which the run ends here, or None. The tests stand in the order in which they count."""
        cdef int status = self.status()
        return None if status == GO_ON else status

    cdef bint take(self, double loss, double lr) noexcept nogil:
        cdef double a, g, largest = 0.0, norm = 0.0, moved = 0.0
        cdef Py_ssize_t i, row = self.size
        for i in range(self.n):
            g = self.g[i]
            a = fabs(g)
            largest = a if (a > largest) | (a != a) else largest
            if self.lower != NULL:  # what leads out of the bounds does not count
                a = self.x[i] - self.upper[i]
                g = a if g < a else g
                a = self.x[i] - self.lower[i]
                a = fabs(a if g > a else g)
            norm = a if (a > norm) | (a != a) else norm
        if not isfinite(loss):  # a gradient there means nothing
            largest = norm = NAN
        self.loss, self.largest, self.norm = loss, largest, norm
        if self.rows[0] != NULL:
            self.rows[0][row], self.rows[1][row], self.rows[2][row] = loss, self.norm, lr
        if self.rows[3] != NULL:
            memcpy(self.rows[3] + row * self.n, self.x, self.n * sizeof(double))
        self.size += 1
        if not (isfinite(loss) and isfinite(self.largest)) or loss > self.divergence:
            return False
        if loss < self.best_loss:
            memcpy(self.best[0], self.x, self.n * sizeof(double))
            memcpy(self.best[1], self.g, self.n * sizeof(double))
            self.best_loss = loss
        if self.last[0] != NULL:
            self.extent = 0.0
            for i in range(self.n):
                a = fabs(self.x[i] - self.last[0][i])
                moved = a if a > moved else moved
                self.extent = max(self.extent, fabs(self.x[i]))
            self.moved = moved
            memcpy(self.last[0], self.x, self.n * sizeof(double))
            memcpy(self.last[1], self.g, self.n * sizeof(double))
            self.last_loss = loss
        return True

    cdef int status(self) noexcept nogil:
        cdef Py_ssize_t step = self.size - 1
        if self.loss <= self.target:
            return TARGET
        if self.norm <= self.gtol:
            return GRADIENT
        if self.xtol >= 0.0 and step > 0:
            self.still = self.still + 1 if self.moved <= self.xtol * max(1.0, self.extent) else 0
            if self.still >= self.window:
                return STEP
        if self.by_loss:
            if self.lowest - self.loss > self.ftol * max(1.0, fabs(self.loss)):
                self.lowest, self.idle = self.loss, 0
            else:
                self.idle += 1
            if self.idle >= self.window:
                return LOSS
        return MAXITER if step >= self.maxiter else GO_ON

    def finite(self):
        """Whether the current x is."""
        return self.is_finite()

    cdef bint is_finite(self) noexcept nogil:
        cdef bint finite = True
        cdef Py_ssize_t i
        for i in range(self.n):
            finite &= self.x[i] - self.x[i] == 0.0
        return finite

    def run(self, Plan plan not None, Function function not None, Py_ssize_t steps, double lr):
        """At most so many steps and evaluations, without the GIL; the status with which the run ends, or None.

        DIVERGED stands for a point from which the run cannot go on. The plan's gradients are to be ``g``, bound; ``lr``
        is what the history says where the rule has no learning rate.
        """
        cdef int status = GO_ON
        cdef Py_ssize_t i
        self.make_room()
        plan.hold(plan.bound)
        try:
            with nogil:
                for i in range(min(steps, self.room - self.size)):
                    plan.advance()
                    status = self.evaluate(function, plan.groups[0].c[plan.lr_slot] if plan.lr_slot >= 0 else lr)
                    if status != GO_ON:
                        break
        finally:
            plan.release()
        return None if status == GO_ON else status

    cdef int evaluate(self, Function function, double lr) noexcept nogil:
        if not self.take(function.call(<int> self.n, self.x, self.g) if self.is_finite() else NAN, lr):
            return DIVERGED
        return self.status()
