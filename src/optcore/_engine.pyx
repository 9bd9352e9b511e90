# cython: boundscheck=False, wraparound=False
"""Plan: one step over many arrays, bound once to the memory that it changes.

A step checks everything before it writes anything, evaluates schedules, prepares the scalars of the update, makes
the reductions that must come first, and then walks the arrays block by block: gradient transforms, rule, bounds,
averaging, all while the block is in the nearest cache. A failure leaves parameters, state and counter as they were.

Design
------
- Arrays are read through NumPy's C structures, not the buffer protocol: a look at an array costs a few ns instead of
  about 60, so that every step can look again and notice an array that was resized or made read-only since.
- What is no NumPy array becomes a view of its memory once: a parameter or a bound gradient when it is bound, another
  gradient when a step finds it. Steps with NumPy arrays do nothing for that.
- A gradient that needs a transform is copied to a scratch block on the stack; one that needs none is read where it
  lies, and the rule sees the whole array as one run.
- The GIL is given back only where a step takes longer than that costs.
- Rows of a table are packed into blocks before the rule and written back behind it. The rule does not know, and runs
  at full speed however narrow they are; fetching them from memory takes most of the time.
"""

import os
import reprlib
import threading
from _thread import allocate_lock

import numpy

cimport numpy as cnp
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from optcore._rules cimport (
    LANES, MAX_CARRIED, MAX_SCALARS, MAX_STATE, Direction32, Direction64, Loop32, Loop64, Scalars, Trust,
    add_scaled, add_squares, clamp, clip, ema, has_nonfinite, negate, polyak, real, scale, sum_of_lanes,
)
from optcore._rows cimport copy_rows, merged, ordered, sum_rows
from optcore._schedules cimport Compiled, value

from optcore.buffers import as_array, is_array, view

cnp.import_array()

COMMON = {
    "weight_decay": WEIGHT_DECAY, "clip_value": CLIP_VALUE, "clip_norm": CLIP_NORM, "averaging": AVERAGING_DECAY,
}
BLOCK_SIZE = BLOCK

cdef double pairwise(double* sums, Py_ssize_t n) noexcept nogil:
    """The sum of n numbers as a tree of neighbours; the numbers are lost."""
    cdef Py_ssize_t i
    if n == 0:
        return 0.0
    while n > 1:
        for i in range(n // 2):
            sums[i] = sums[2 * i] + sums[2 * i + 1]
        if n % 2:
            sums[n // 2] = sums[n - 1]
        n = (n + 1) // 2
    return sums[0]


cdef inline bint plain(object array, int dtype) noexcept:
    """Whether an array's memory can be read in place; the shape is another question."""
    return (
        cnp.PyArray_CheckExact(array)
        and cnp.PyArray_TYPE(array) == dtype
        and cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
        and cnp.PyArray_ISNOTSWAPPED(array)
    )


cdef inline bint same_shape(object array, object other) noexcept:
    cdef int i, dimensions = cnp.PyArray_NDIM(array)
    if dimensions != cnp.PyArray_NDIM(other):
        return False
    for i in range(dimensions):
        if cnp.PyArray_DIMS(array)[i] != cnp.PyArray_DIMS(other)[i]:
            return False
    return True


cdef class Plan:
    """What `optcore.optimizer.Optimizer` builds on: `_bind` once, then `step`."""

    def __dealloc__(self):
        free(self.arrays)
        free(self.groups)
        free(self.sums)
        free(self.begins)
        free(self.ends)
        free(self.curves)

    def _bind(
        self, rule, list arrays, bint mapped, Py_ssize_t groups, bint maximize, bint decoupled,
        bint wide, str on_nonfinite, averaging, Py_ssize_t threads,
    ):
        """arrays: of (name, parameter, group, state arrays, average, lower, upper), all checked but for overlaps.

        Bounds are None, of the parameter's shape (``wide``), or one block of a constant.
        """
        cdef Array* a
        cdef Py_ssize_t i, k
        if self.arrays != NULL:
            raise RuntimeError(f"this {type(self).__name__} is bound to its parameters; make a new one")
        owners, bounds = [], []
        for name, p, _, state, average, lower, upper in arrays:
            owners.append((p, f"parameter {name!r}"))
            owners += [(array, f"the state {key!r} of {name!r}") for key, array in zip(rule.state, state)]
            if average is not None:
                owners.append((average, f"the average of {name!r}"))
            if wide:
                bounds += [(lower, f"the lower bound of {name!r}"), (upper, f"the upper bound of {name!r}")]
        spans = [(b.ctypes.data, b.ctypes.data + b.nbytes, what) for b, what in owners + bounds if b.nbytes]
        spans.sort()
        for (_, end, what), (begin, _, other) in zip(spans, spans[1:]):
            if begin < end:
                raise ValueError(f"{other} and {what} share memory; an update in place needs separate arrays")
        self.owners = sorted((b.ctypes.data, b.ctypes.data + b.nbytes, what) for b, what in owners if b.nbytes)

        self.rule = rule
        self.scalars, self.loop32 = <Scalars> <size_t> rule.scalars, <Loop32> <size_t> rule.loop32
        self.loop64, self.trust = <Loop64> <size_t> rule.loop64, <Trust> <size_t> rule.trust
        self.direction32, self.direction64 = <Direction32> <size_t> rule.direction32, <Direction64> <size_t> rule.direction64
        self.names = tuple(entry[0] for entry in arrays)
        self.params = tuple(entry[1] for entry in arrays)
        self.shapes = tuple(p.view(numpy.ndarray) for p in self.params)
        self.keep = tuple(entry[3:] for entry in arrays)
        self.mapped = mapped
        self.scheduled, self.functions = {}, []
        self.lr_slot = rule.hyper.index("lr") if "lr" in rule.hyper else -1
        self.nonfinite = {"allow": ALLOW, "raise": RAISE, "skip": SKIP}[on_nonfinite]
        self.averaging = {None: NO_AVERAGE, "EMA": EMA, "Polyak": POLYAK}[averaging]
        self.maximize, self.decoupled, self.wide, self.threads = maximize, decoupled, wide, threads
        self.size, self.group_count, self.owned = len(arrays), groups, len(self.owners)

        self.arrays = <Array*> calloc(max(self.size, 1), sizeof(Array))
        self.groups = <Group*> calloc(max(self.group_count, 1), sizeof(Group))
        self.begins = <Py_ssize_t*> calloc(max(self.owned, 1), sizeof(Py_ssize_t))
        self.ends = <Py_ssize_t*> calloc(max(self.owned, 1), sizeof(Py_ssize_t))
        if not (self.arrays and self.groups and self.begins and self.ends):
            raise MemoryError
        for i in range(self.owned):
            self.begins[i], self.ends[i] = self.owners[i][0], self.owners[i][1]
        for i, (_, p, group, state, average, lower, upper) in enumerate(arrays):
            a = &self.arrays[i]
            a.n, a.group, a.single = p.size, group, p.dtype == numpy.float32
            a.width = a.n // max(p.shape[0], 1) if p.ndim else 1
            self.has_single |= a.single
            a.p = cnp.PyArray_BYTES(p)
            for k in range(len(state)):
                a.state[k] = cnp.PyArray_BYTES(state[k])
            if average is not None:
                a.average = cnp.PyArray_BYTES(average)
            if lower is not None:
                a.lower, a.upper = cnp.PyArray_BYTES(lower), cnp.PyArray_BYTES(upper)
        self.all_rows()
        self.norm_blocks = self.blocks
        self.sums = <double*> calloc(max(self.norm_blocks * (2 if self.trust else 1), 1), sizeof(double))
        if not self.sums:
            raise MemoryError

    cdef void all_rows(self) noexcept:
        """Steps change all elements again."""
        cdef Array* a
        cdef Py_ssize_t i
        for i in range(self.size):
            a = &self.arrays[i]
            if a.rows != NULL:
                a.rows = a.g = NULL
            a.count = a.n
        self.number_blocks()

    cdef void number_blocks(self) noexcept:
        cdef Array* a
        cdef Py_ssize_t i
        self.blocks, self.elements = 0, 0
        for i in range(self.size):
            a = &self.arrays[i]
            a.first = self.blocks
            self.blocks += (a.count + NORM_BLOCK - 1) // NORM_BLOCK
            self.elements += a.count

    def _bind_gradients(self, grads):
        """Gradients that every step() without arguments reads, in any library's arrays; None lets them go.

        Returned are NumPy's, in the order of the parameters.
        """
        self._check_idle()
        if grads is None:
            self.bound = None
            return None
        bound = self.views(self.gather(grads), False)
        self.take_all(bound)
        self.bound = bound
        return bound

    def _set(self, Py_ssize_t group, str name, setting, str what, double low, double high, str accepted):
        """One hyper-parameter, by its name in `Rule.hyper` or COMMON: a number, or a function of completed updates.

        ``what``, ``low``, ``high`` and ``accepted`` are for the message of a function's bad value, which comes later.
        """
        # A rule may take over what is common: the weight decay that is a part of its direction.
        cdef Py_ssize_t slot = self.rule.hyper.index(name) if name in self.rule.hyper else COMMON[name]
        cdef Scheduled* curves
        cdef Scheduled* curve
        self._check_idle()
        if isinstance(setting, Compiled) and (<Compiled> setting).depth == 0:
            raise TypeError(f"{what}: this {type(setting).__name__} has not been given its values")
        scheduled = dict(self.scheduled)
        scheduled.pop((group, slot), None)
        if callable(setting):
            scheduled[group, slot] = (setting, what, low, high, accepted)
        curves = <Scheduled*> calloc(len(scheduled) + 1, sizeof(Scheduled))
        if not curves:
            raise MemoryError
        free(self.curves)
        self.curves, self.curve_count, self.scheduled, self.functions = curves, 0, scheduled, []
        for place, (function, _, least, most, _) in scheduled.items():
            if isinstance(function, Compiled) and type(function).__call__ is Compiled.__call__:
                curve = &curves[self.curve_count]
                curve.group, curve.slot = &self.groups[<Py_ssize_t> place[0]], place[1]
                curve.curve, curve.low, curve.high = &(<Compiled> function).curve, least, most
                self.curve_count += 1
            else:
                self.functions.append(place)
        self.has_functions = bool(self.functions)
        if not callable(setting):
            self.groups[group].c[slot] = setting

    # ------------------------------------------------------------------ a step

    def step(self, grads=None, rows=None):
        """Updates every parameter in place, once.

        Parameters
        ----------
        grads : array, sequence or mapping, optional
            Gradients in the structure of the parameters, each of its parameter's shape and dtype, of any library whose
            arrays could be parameters. They are read, never written, and may be read-only. May be left out where gradients were bound when the optimizer was made.
        rows : integer array, sequence or mapping, optional
            Of shape (k,): which rows of a parameter of shape (rows, ...) the gradient is for, whose shape is then
            (k, ...). Only they are touched, in the parameter and in its state: as if the others had not been there
            in this step. Gradients of a repeated row are summed first, in the order given. In a sequence None, and in
            a mapping a name that is missing, stands for a gradient of all rows.

        Raises
        ------
        TypeError, ValueError
            A gradient, its rows or a scheduled value cannot be used. Nothing has been changed.
        FloatingPointError
            A gradient is not finite and ``on_nonfinite="raise"``. Nothing has been changed.

        Notes
        -----
        With ``rows``, SGD without momentum, GradientScaled and Adagrad make exactly the step of the gradient whose other
        rows are zero, but for what that does to the other rows: weight decay, bounds, and with ``maximize`` the sign of
        a zero. What else has state ages only the state of the rows that are named, as torch's SparseAdam does.
        """
        cdef tuple gradients = None, indices = None
        self.occupy(STEPPING)
        try:
            if rows is not None:
                gradients, indices = self.gather_rows(grads, rows)
            elif grads is None:
                if self.bound is None:
                    raise TypeError(
                        "step() needs gradients: none were bound. Pass them here, or as the second argument "
                        "when making the optimizer"
                    )
                gradients = self.bound
            elif self.size > 1 or self.mapped or not isinstance(grads, numpy.ndarray):
                gradients = self.gather(grads)
            # The caller's functions run before arrays are looked at: behind that look no Python code may change them.
            self.prepare()
            if gradients is None:
                self.check_parameter(0)
                self.take(0, grads)
            elif indices is None:
                if self.take_all(gradients):
                    gradients = self.views(gradients, True)
                    self.take_all(gradients)
            else:
                taken = self.take_rows(gradients, indices)
            if self.elements < WITHOUT_GIL:
                self.finish()
            else:
                with nogil:
                    self.finish()
        finally:
            if indices is not None:
                self.all_rows()
            self.busy = FREE

    cdef int occupy(self, Busy busy) except -1:
        if self.busy == STEPPING:
            raise RuntimeError("step() was called while a step of the same optimizer was running")
        if self.busy == HELD:
            raise RuntimeError("compiled code makes the steps of this optimizer; call step() when it has ended (close_plan)")
        if self.busy == INTERIM:
            raise RuntimeError("the parameters are at the look-ahead point; call step() after the with block")
        if self.arrays == NULL:
            raise RuntimeError(f"this {type(self).__name__} was never initialized; call {type(self).__name__}(params)")
        self.busy = busy
        return 0

    def _check_idle(self):
        """RuntimeError while a step runs, which may be in another thread, or one of its schedules."""
        if self.busy == STEPPING:
            raise RuntimeError("the optimizer cannot be changed, copied or saved while one of its steps is running")
        if self.busy == HELD:
            raise RuntimeError(
                "the optimizer cannot be changed, copied or saved while compiled code makes its steps (until close_plan)"
            )

    def _check_not_interim(self):
        if self.busy == INTERIM:
            raise RuntimeError("the parameters are at the look-ahead point; copy the optimizer after the with block")

    cdef tuple gather(self, grads):
        """The gradients in the order of the parameters."""
        if self.mapped:
            if not hasattr(grads, "keys"):
                raise TypeError(
                    f"gradients must be a mapping of names, as the parameters are, got {type(grads).__name__}"
                )
            taken = tuple([grads[name] for name in self.names if name in grads])
            if len(taken) < self.size or len(grads) > self.size:
                missing = [name for name in self.names if name not in grads]
                unknown = [name for name in grads if name not in set(self.names)]
                raise ValueError(
                    f"gradients and parameters must have the same names; missing: {missing}, unknown: {unknown}"
                )
            return taken
        if isinstance(grads, numpy.ndarray) and self.size == 1:
            return (grads,)
        if not isinstance(grads, (list, tuple)):
            if self.size == 1 and is_array(grads):
                return (grads,)
            hint = f"; did you mean lr={grads!r}?" if isinstance(grads, (int, float)) and not self.updates else ""
            raise TypeError(
                f"gradients must be {'one array or ' if self.size == 1 else ''}a list or tuple of {self.size} "
                f"arrays, as the parameters are, got {type(grads).__name__}{hint}"
            )
        taken = tuple(grads)
        for grad in taken[:1]:
            if isinstance(grad, (int, float)):
                raise TypeError(f"gradients must be arrays, got a {type(grads).__name__} of numbers; use numpy.array(...)")
        if len(taken) != self.size:
            raise ValueError(f"got {len(taken)} gradients for {self.size} parameters")
        return taken

    cdef tuple gather_rows(self, grads, rows):
        """Gradients and rows in the order of the parameters; None for all rows."""
        if grads is None:
            raise TypeError("rows= says which rows the gradients are for: pass those in the same call, as grads=")
        kind = type(self).__name__
        if self.trust != NULL or self.rule.carried:
            raise ValueError(f"{kind} needs all of a parameter at every step: it cannot step some rows; leave rows= out")
        if self.averaging != NO_AVERAGE:
            raise ValueError("an average follows all rows at every step: leave out rows=, or averaging= when making the optimizer")
        gradients = self.gather(grads)
        if self.mapped:
            if not hasattr(rows, "keys"):
                raise TypeError(f"rows must be a mapping of names, as the parameters are, got {type(rows).__name__}")
            unknown = [name for name in rows if name not in set(self.names)]
            if unknown:
                raise ValueError(f"rows has unknown names: {unknown}; the parameters are {list(self.names)}")
            return gradients, tuple([rows[name] if name in rows else None for name in self.names])
        if self.size == 1 and not isinstance(rows, (list, tuple)) and is_array(rows):
            return gradients, (rows,)
        if not isinstance(rows, (list, tuple)) or any(isinstance(index, (int, numpy.integer)) for index in rows):
            raise TypeError(
                f"rows must be {'an integer array or ' if self.size == 1 else ''}a list or tuple of {self.size} integer "
                f"arrays, as the parameters are, got {reprlib.repr(rows)}; use numpy.array(...)"
            )
        if len(rows) != self.size:
            raise ValueError(f"got rows for {len(rows)} of {self.size} parameters; give None for those with all rows")
        return gradients, tuple(rows)

    cdef list take_rows(self, tuple grads, tuple indices):
        """Points the arrays to gradients of some rows, in ascending order. What is returned holds their memory."""
        cdef Array* a
        cdef Py_ssize_t i
        cdef list taken = []
        for i in range(self.size):
            taken.append((None, self.view(i, grads[i], True)) if indices[i] is None else self.some_rows(i, grads[i], indices[i]))
        # From here on no Python code runs, which could change what is looked at.
        for i in range(self.size):
            a = &self.arrays[i]
            rows, values = taken[i]
            self.check_parameter(i)
            if rows is None:
                self.take(i, values)
                continue
            a.count = cnp.PyArray_SIZE(rows) * a.width
            if not plain(values, cnp.NPY_FLOAT if a.single else cnp.NPY_DOUBLE) or cnp.PyArray_SIZE(values) != a.count:
                raise ValueError(f"the gradient of {self.names[i]!r} was resized while the step looked at it")
            self.check_overlap(i, <Py_ssize_t> cnp.PyArray_BYTES(values), cnp.PyArray_NBYTES(values))
            a.rows, a.g = <const int64_t*> cnp.PyArray_BYTES(rows), cnp.PyArray_BYTES(values)
        self.number_blocks()
        return taken

    cdef tuple some_rows(self, Py_ssize_t i, values, rows):
        """Rows of array i in ascending order, and their gradients."""
        name, shape, dtype = self.names[i], self.shapes[i].shape, self.shapes[i].dtype
        if not shape:
            raise ValueError(f"parameter {name!r} has shape (), so it has no rows; leave out its rows")
        what = f"the rows of {name!r}"
        if not isinstance(rows, numpy.ndarray) and is_array(rows):
            rows = view(what, rows, brief=True)
        rows, ascending = ordered(what, rows, shape[0])
        values = as_array(f"the gradient of {name!r}", values, dtype, brief=True)
        if type(values) is not numpy.ndarray:  # a memmap
            values = values.view(numpy.ndarray)
        if values.shape != (rows.size, *shape[1:]):
            raise ValueError(
                f"the gradient of {name!r} has shape {values.shape}, but for {rows.size} rows of a parameter of shape "
                f"{shape} it must be {(rows.size, *shape[1:])}"
            )
        return (rows, values) if ascending else merged(rows, values)

    cdef object view(self, Py_ssize_t i, grad, bint brief):
        """What `take` accepts of a gradient that may be another library's."""
        if isinstance(grad, numpy.ndarray):
            return grad
        shape = self.shapes[i]
        return as_array(f"the gradient of {self.names[i]!r}", grad, shape.dtype, shape.shape, brief=brief)

    cdef tuple views(self, tuple grads, bint brief):
        cdef Py_ssize_t i
        return tuple([self.view(i, grads[i], brief) for i in range(self.size)])

    cdef int take_all(self, tuple grads) except -1:
        """Points the arrays to gradients; 1 where some are no NumPy arrays, and must become `views`.

        Those may run any code, so that everything has to be looked at again afterwards.
        """
        cdef Py_ssize_t i
        cdef int foreign = 0
        for i in range(self.size):
            self.check_parameter(i)
            foreign |= self.take(i, grads[i])
        return foreign

    cdef inline int take(self, Py_ssize_t i, object grad) except -1:
        """Points array i to a gradient that can be read in place, if it is a NumPy array; 1 otherwise."""
        cdef Array* a = &self.arrays[i]
        if not plain(grad, cnp.NPY_FLOAT if a.single else cnp.NPY_DOUBLE) or not same_shape(grad, self.shapes[i]):
            if not isinstance(grad, numpy.ndarray):
                return 1
            as_array(f"the gradient of {self.names[i]!r}", grad, self.shapes[i].dtype, self.shapes[i].shape)
        # Memory that was compared with ours before still does not overlap: ours never moves.
        if cnp.PyArray_BYTES(grad) != a.g:
            self.check_overlap(i, <Py_ssize_t> cnp.PyArray_BYTES(grad), cnp.PyArray_NBYTES(grad))
            a.g = cnp.PyArray_BYTES(grad)
        return 0

    cdef inline int check_parameter(self, Py_ssize_t i) except -1:
        """Whether a parameter is still the memory that was bound."""
        cdef Array* a = &self.arrays[i]
        cdef int dtype = cnp.NPY_FLOAT if a.single else cnp.NPY_DOUBLE
        param = self.params[i]
        if (
            cnp.PyArray_BYTES(param) == a.p
            and cnp.PyArray_TYPE(param) == dtype
            and cnp.PyArray_CHKFLAGS(param, cnp.NPY_ARRAY_CARRAY)
            and cnp.PyArray_ISNOTSWAPPED(param)
            and same_shape(param, self.shapes[i])
        ):
            return 0
        what = f"parameter {self.names[i]!r}"
        as_array(what, param, self.shapes[i].dtype, writeable=True)
        raise ValueError(
            f"{what} was resized, reshaped or moved since the optimizer was made (its shape was "
            f"{self.shapes[i].shape}, now {param.shape}); make a new optimizer"
        )

    cdef int check_overlap(self, Py_ssize_t i, Py_ssize_t begin, Py_ssize_t length) except -1:
        """Our spans are disjoint and sorted: the first that ends behind `begin` decides."""
        cdef Py_ssize_t low = 0, high = self.owned, middle
        if length == 0:
            return 0
        while low < high:
            middle = (low + high) // 2
            if self.ends[middle] <= begin:
                low = middle + 1
            else:
                high = middle
        if low < self.owned and self.begins[low] < begin + length:
            raise ValueError(
                f"the gradient of {self.names[i]!r} shares memory with {self.owners[low][2]}, which the step "
                "changes; pass a copy"
            )
        return 0

    cdef int prepare(self) except -1 nogil:
        """The scalars of the next update."""
        cdef const Scheduled* bad
        if not self.follow_curves(&bad):
            with gil:
                self.refuse((bad.group - self.groups, bad.slot), value(bad.curve, self.updates))
        if self.has_functions:
            with gil:
                self.call_functions()
        self.make_scalars()
        return 0

    cdef bint follow_curves(self, const Scheduled** bad) noexcept nogil:
        """Takes the values of schedules that need no Python, until one is out of its range."""
        cdef Py_ssize_t k
        cdef const Scheduled* curve
        cdef double x
        for k in range(self.curve_count):
            curve = &self.curves[k]
            x = value(curve.curve, self.updates)
            if not curve.low <= x <= curve.high:
                bad[0] = curve
                return False
            curve.group.c[curve.slot] = x
        return True

    cdef void make_scalars(self) noexcept nogil:
        cdef Py_ssize_t k, j
        cdef Group* group
        for k in range(self.group_count):
            group = &self.groups[k]
            self.scalars(self.updates + 1, group.c, group.h, &group.kept)
            if self.has_single:
                for j in range(MAX_SCALARS):
                    group.h32[j] = <float> group.h[j]

    cdef int call_functions(self) except -1:
        cdef double x = 0.0
        for place in self.functions:
            given = self.scheduled[place][0](self.updates)
            try:
                x = given
            except TypeError:
                self.refuse(place, given)
            if not self.scheduled[place][2] <= x <= self.scheduled[place][3]:
                self.refuse(place, x)
            self.groups[<Py_ssize_t> place[0]].c[<Py_ssize_t> place[1]] = x
        return 0

    cdef int refuse(self, tuple place, x) except -1:
        _, what, _, _, accepted = self.scheduled[place]
        raise (ValueError if isinstance(x, float) else TypeError)(
            f"{what} must be {accepted}, but its schedule gave {x!r} at t = {self.updates}"
        )

    cdef int finish(self) except -1 nogil:
        """The step itself, of gradients that were looked at, by scalars that were prepared."""
        cdef Verdict verdict = self.look()
        if verdict == REFUSE:
            with gil:
                raise FloatingPointError(self.describe_nonfinite())
        if verdict == LEAVE_OUT:
            self.skipped += 1
        elif self.is_spread():
            with gil:
                self.spread_all()
        else:
            self.move()
        return 0

    cdef Verdict look(self) noexcept nogil:
        """What must be known before anything is written: whether all is finite, and the norm."""
        cdef double limit = self.groups[0].c[CLIP_NORM], norm
        self.factor = 1.0
        if self.nonfinite == ALLOW and not limit < INFINITY:
            return GO
        if measure(self, limit < INFINITY):
            return LEAVE_OUT if self.nonfinite == SKIP else REFUSE
        if limit < INFINITY:
            norm = sqrt(pairwise(self.sums, self.norm_blocks))
            if norm > limit:
                self.factor = limit / norm
        return GO

    cdef bint is_spread(self) noexcept nogil:
        """Whether threads share the step."""
        return self.threads > 1 and self.elements >= WITHOUT_GIL

    cdef void move(self) noexcept nogil:
        if self.trust:
            walk(self, 0, self.blocks, True)
            trust_all(self)
        walk(self, 0, self.blocks, False)
        self.count_step()

    cdef bint is_plain(self) noexcept:
        """Whether a step is the rule and nothing else, until a setting is changed."""
        cdef Py_ssize_t i
        cdef bint plain = not (
            self.curve_count or self.has_functions or self.nonfinite != ALLOW or self.groups[0].c[CLIP_NORM] < INFINITY
            or self.trust != NULL or self.averaging != NO_AVERAGE or self.threads > 1
        )
        self.factor = 1.0  # of the last step it may have been another
        for i in range(self.group_count):
            plain &= self.groups[i].c[WEIGHT_DECAY] == 0.0 and not transforms(self, &self.groups[i])
        for i in range(self.size):
            plain &= self.arrays[i].lower == NULL and self.arrays[i].rows == NULL
        return plain

    # ------------------------------------------------------------------ many steps, compiled

    cdef int hold(self, tuple grads) except -1:
        """Prepares steps by `advance`, of the same gradients. Until `release` the optimizer is busy with them."""
        self.occupy(HELD)
        try:
            self.take_all(grads)
        except BaseException:
            self.busy = FREE
            raise
        self.held, self.plain = grads, self.is_plain()
        return 0

    cdef int advance(self) except -1 nogil:
        """A step."""
        if self.advance_quietly():
            return 0
        self.prepare()
        if self.has_functions:
            with gil:  # which may have changed the arrays
                self.take_all(self.held)
        return self.finish()

    cdef bint advance_quietly(self) noexcept nogil:
        """A step, if it takes no Python; nothing has been changed otherwise.

        Where it is the rule and nothing else, it goes without the questions that take a third of a step of ten elements.
        """
        cdef Py_ssize_t i
        cdef const Array* a
        cdef const Scheduled* bad
        cdef Verdict verdict
        if self.plain:
            self.make_scalars()
            for i in range(self.size):
                a = &self.arrays[i]
                if a.single:
                    self.loop32(a.n, <float*> a.p, <const float*> a.g, <float**> a.state, self.groups[a.group].h32)
                else:
                    self.loop64(a.n, <double*> a.p, <const double*> a.g, <double**> a.state, self.groups[a.group].h)
            self.count_step()
            return True
        if self.has_functions or self.is_spread() or not self.follow_curves(&bad):
            return False
        self.make_scalars()
        verdict = self.look()
        if verdict == GO:
            self.move()
        elif verdict == LEAVE_OUT:
            self.skipped += 1
        return verdict != REFUSE

    cdef void release(self) noexcept:
        self.held, self.busy = None, FREE

    cdef void count_step(self) noexcept nogil:
        cdef Py_ssize_t k, i
        for k in range(self.group_count):
            for i in range(MAX_CARRIED):
                self.groups[k].kept.carried[i] = self.groups[k].kept.after[i]
        self.updates += 1

    cdef str describe_nonfinite(self):
        cdef Array* a
        cdef Py_ssize_t i, k, j
        cdef double value
        for i in range(self.size):
            a = &self.arrays[i]
            for k in range(a.count):
                value = (<float*> a.g)[k] if a.single else (<double*> a.g)[k]
                if value - value != 0:
                    j = k if a.rows == NULL else a.rows[k // a.width] * a.width + k % a.width
                    place = tuple(int(axis) for axis in numpy.unravel_index(j, self.shapes[i].shape))
                    where = f"at index {place}" if a.rows == NULL else f"for element {place} of the parameter"
                    return (
                        f"the gradient of {self.names[i]!r} has {value} {where}; nothing was changed. "
                        "Look for a division by zero or too large a learning rate"
                    )

    # ------------------------------------------------------------------ threads

    cdef int spread_all(self) except -1:
        """Once the step has begun to write it becomes whole, whatever interrupts it."""
        cdef list team = borrow_team(min(self.threads, self.blocks) - 1)
        first = later = None
        if self.trust:
            first = self.spread(team, True)
            trust_all(self)
        later = self.spread(team, False)
        self.count_step()
        return_team(team)
        if later is not None or first is not None:
            raise first if later is None else later
        return 0

    cdef object spread(self, list team, bint directions):
        """Equal shares of blocks, the first for this thread. Returns what interrupted the wait for the others."""
        cdef Py_ssize_t threads = len(team) + 1
        cdef Py_ssize_t share = (self.blocks + threads - 1) // threads, first = share
        cdef Worker worker
        interrupt = None
        for worker in team:
            worker.plan, worker.directions = self, directions
            worker.first, worker.last = first, min(first + share, self.blocks)
            first = worker.last
            worker.go.release()
        with nogil:
            walk(self, 0, share, directions)
        for worker in team:
            while worker.plan is not None:
                try:
                    worker.done.acquire()
                    worker.plan = None
                except BaseException as error:  # a signal's; the lock has not been taken
                    interrupt = error
        return interrupt

    # ------------------------------------------------------------------ look-ahead

    def _enter_interim(self, str key, str name):
        """Moves the parameters to p + mu * v and keeps the old bits; steps are refused until `_leave_interim`."""
        cdef Array* a
        cdef Py_ssize_t i, state = self.rule.state.index(key), slot = self.rule.hyper.index(name)
        self.occupy(STEPPING)
        try:
            self.prepare()
            for i in range(self.size):
                self.check_parameter(i)
            self.backup = [p.copy() for p in self.params]
        except BaseException:
            self.busy = FREE
            raise
        self.busy = INTERIM
        for i in range(self.size):
            a = &self.arrays[i]
            if a.single:
                add_scaled(a.n, <float*> a.p, <const float*> a.state[state], <float> self.groups[a.group].c[slot])
            else:
                add_scaled(a.n, <double*> a.p, <const double*> a.state[state], self.groups[a.group].c[slot])

    def _leave_interim(self):
        """Brings the old bits back, into every array that is still where it was."""
        cdef Py_ssize_t i
        failure = None
        for i in range(self.size):
            try:
                self.check_parameter(i)
            except (TypeError, ValueError) as error:
                failure = error
            else:
                memcpy(self.arrays[i].p, cnp.PyArray_BYTES(self.backup[i]), cnp.PyArray_NBYTES(self.backup[i]))
        self.backup = None
        self.busy = FREE
        if failure is not None:
            raise failure

    # ------------------------------------------------------------------ counters

    @property
    def t(self):
        """Completed updates; the next one is number t + 1, at which schedules are evaluated at t."""
        return self.updates

    @t.setter
    def t(self, value):
        self._check_idle()
        if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)):
            raise TypeError(f"t must be an integer, got {value!r}")
        if not 0 <= value <= 2**62:
            raise ValueError(f"t must be between 0 and 2**62, got {value}")
        self.updates = value

    def _carried(self):
        """What groups carry from step to step, by the names in `Rule.carried`."""
        return [
            {name: self.groups[k].kept.carried[i] for i, name in enumerate(self.rule.carried)}
            for k in range(self.group_count)
        ]

    def _carry(self, list carried):
        """Takes over what `_carried` gave."""
        cdef Py_ssize_t k, i
        for k in range(self.group_count):
            for i, name in enumerate(self.rule.carried):
                self.groups[k].kept.carried[i] = carried[k][name]


cdef bint measure(Plan plan, bint norm) noexcept nogil:
    """Fills plan.sums where a norm is wanted, and says whether something is not finite where that matters."""
    cdef Py_ssize_t i, begin, n, blocks, k = 0
    cdef bint bad = False
    cdef double[LANES] lanes
    cdef Array* a
    for i in range(plan.size):
        a = &plan.arrays[i]
        if norm and a.rows != NULL and a.width > 0:
            n, blocks = a.count // a.width, (a.n + NORM_BLOCK - 1) // NORM_BLOCK
            if a.single:
                sum_rows(a.rows, n, a.width, <const float*> a.g, plan.sums + k, blocks, NORM_BLOCK)
            else:
                sum_rows(a.rows, n, a.width, <const double*> a.g, plan.sums + k, blocks, NORM_BLOCK)
            k += blocks
        begin = 0
        while begin < a.count:
            n = min(NORM_BLOCK, a.count - begin)
            if norm and a.rows == NULL:
                memset(lanes, 0, sizeof(lanes))
                if a.single:
                    add_squares(n, <const float*> a.g + begin, lanes)
                else:
                    add_squares(n, <const double*> a.g + begin, lanes)
                plan.sums[k] = sum_of_lanes(lanes)
                k += 1
            if plan.nonfinite != ALLOW:
                bad |= (
                    has_nonfinite(n, <const float*> a.g + begin) if a.single
                    else has_nonfinite(n, <const double*> a.g + begin)
                )
            begin += n
    return bad


cdef void trust_all(Plan plan) noexcept nogil:
    """What the rule makes of the norms of each array, whose sums `walk` has left."""
    cdef Py_ssize_t i, blocks
    cdef double* sums = plan.sums
    cdef double p_norm, u_norm
    cdef Array* a
    for i in range(plan.size):
        a = &plan.arrays[i]
        blocks = (a.n + NORM_BLOCK - 1) // NORM_BLOCK
        p_norm = sqrt(pairwise(sums + a.first, blocks))
        u_norm = sqrt(pairwise(sums + plan.norm_blocks + a.first, blocks))
        a.trust = plan.trust(plan.groups[a.group].c, p_norm, u_norm)


cdef void walk(Plan plan, Py_ssize_t first, Py_ssize_t last, bint directions) noexcept nogil:
    """Blocks first to last of all arrays: the update, or what must be known of its direction first."""
    cdef Py_ssize_t i, begin, end
    cdef Array* a
    for i in range(plan.size):
        a = &plan.arrays[i]
        begin = max(first - a.first, 0) * NORM_BLOCK
        end = min((last - a.first) * NORM_BLOCK, a.count)
        if begin < end:
            if a.single:
                walk_array(plan, a, <float*> a.p, begin, end, directions)
            else:
                walk_array(plan, a, <double*> a.p, begin, end, directions)


cdef void walk_array(
    Plan plan, const Array* a, real* p, Py_ssize_t begin, Py_ssize_t end, bint directions
) noexcept nogil:
    if directions:
        direct(plan, a, p, begin, end)
    elif a.rows != NULL:
        update_rows(plan, a, p, begin, end)
    else:
        update(plan, a, p, begin, end)


cdef inline bint transforms(Plan plan, const Group* group) noexcept nogil:
    """Whether the rule is to see another gradient than the caller's."""
    return (
        plan.maximize or plan.factor != 1.0 or group.c[CLIP_VALUE] < INFINITY
        or (group.c[WEIGHT_DECAY] != 0.0 and not plan.decoupled)
    )


cdef inline void transform(Plan plan, const Group* group, Py_ssize_t n, const real* p, real* g) noexcept nogil:
    """From the caller's gradient to the rule's, in the order of the specification."""
    if plan.maximize:
        negate(n, g)
    if plan.factor != 1.0:
        scale(n, g, <real> plan.factor)
    if group.c[CLIP_VALUE] < INFINITY:
        clip(n, g, <real> group.c[CLIP_VALUE])
    if group.c[WEIGHT_DECAY] != 0.0 and not plan.decoupled:
        add_scaled(n, g, p, <real> group.c[WEIGHT_DECAY])


cdef inline void apply(
    Plan plan, const Array* a, const Group* group, Py_ssize_t n, real* p, const real* g, real** state,
    const real* lower, const real* upper,
) noexcept nogil:
    """Decoupled decay, rule and bounds."""
    cdef const real* h = <const real*> group.h32 if real is float else <const real*> group.h
    cdef real[MAX_SCALARS] own
    if group.c[WEIGHT_DECAY] != 0.0 and plan.decoupled:
        scale(n, p, <real> (1.0 - group.c[plan.lr_slot] * group.c[WEIGHT_DECAY]))
    if plan.trust != NULL:
        memcpy(own, h, sizeof(own))
        own[0] = <real> a.trust
        h = own
    if real is float:
        plan.loop32(n, p, g, state, h)
    else:
        plan.loop64(n, p, g, state, h)
    if lower != NULL:
        clamp(n, p, lower, upper)


cdef void update(Plan plan, const Array* a, real* p, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Elements begin to end of one array."""
    cdef const Group* group = &plan.groups[a.group]
    cdef double keep = plan.groups[0].c[AVERAGING_DECAY]
    cdef bint changed = transforms(plan, group)
    cdef bint decoupled = group.c[WEIGHT_DECAY] != 0.0 and plan.decoupled
    cdef bint whole = not (changed or decoupled or a.lower or a.average)
    cdef real[BLOCK] scratch
    cdef real* state[MAX_STATE]
    cdef const real* g
    cdef const real* lower
    cdef const real* upper
    cdef Py_ssize_t n, k
    while begin < end:
        n = end - begin if whole else min(BLOCK, end - begin)
        g = <const real*> a.g + begin
        for k in range(MAX_STATE):
            state[k] = <real*> a.state[k] + begin
        if changed:
            memcpy(scratch, g, n * sizeof(real))
            transform(plan, group, n, p + begin, scratch)
            g = scratch
        lower, upper = <const real*> a.lower, <const real*> a.upper
        if a.lower and plan.wide:
            lower, upper = lower + begin, upper + begin
        apply(plan, a, group, n, p + begin, g, state, lower, upper)
        if plan.averaging == EMA:
            ema(n, <real*> a.average + begin, p + begin, <real> keep, <real> (1.0 - keep))
        elif plan.averaging == POLYAK:
            polyak(n, <real*> a.average + begin, p + begin, <real> <double> (plan.updates + 1))
        begin += n


cdef void direct(Plan plan, const Array* a, const real* p, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """The first pass over elements begin to end: the direction in which they are to go, and what it does to the state.

    Of the direction and of the parameter the squares are summed.
    """
    cdef const Group* group = &plan.groups[a.group]
    cdef bint changed = transforms(plan, group)
    cdef real[BLOCK] scratch
    cdef real[BLOCK] u
    cdef real* state[MAX_STATE]
    cdef const real* g
    cdef double[LANES] p_lanes
    cdef double[LANES] u_lanes
    cdef double* sums = plan.sums + a.first
    cdef Py_ssize_t n, k
    while begin < end:
        if begin % NORM_BLOCK == 0:
            memset(p_lanes, 0, sizeof(p_lanes))
            memset(u_lanes, 0, sizeof(u_lanes))
        n = min(BLOCK, end - begin)
        g = <const real*> a.g + begin
        for k in range(MAX_STATE):
            state[k] = <real*> a.state[k] + begin
        if changed:
            memcpy(scratch, g, n * sizeof(real))
            transform(plan, group, n, p + begin, scratch)
            g = scratch
        if real is float:
            plan.direction32(n, u, p + begin, g, state, group.h32)
        else:
            plan.direction64(n, u, p + begin, g, state, group.h)
        add_squares(n, p + begin, p_lanes)
        add_squares(n, <const real*> u, u_lanes)
        sums[begin // NORM_BLOCK] = sum_of_lanes(p_lanes)
        sums[plan.norm_blocks + begin // NORM_BLOCK] = sum_of_lanes(u_lanes)
        begin += n


cdef void update_rows(Plan plan, const Array* a, real* p, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Elements begin to end of one array, counted over the rows of this step."""
    cdef const Group* group = &plan.groups[a.group]
    cdef bint changed = transforms(plan, group)
    cdef real[PACKED] scratch
    cdef real[(MAX_STATE + 3) * PACKED] packed
    cdef real* state[MAX_STATE]
    cdef real* own = packed + MAX_STATE * PACKED
    cdef const real* lower = <const real*> a.lower
    cdef const real* upper = <const real*> a.upper
    cdef const real* g
    cdef Py_ssize_t n, k
    for k in range(MAX_STATE):
        state[k] = packed + k * PACKED
    if a.lower and plan.wide:
        lower, upper = own + PACKED, own + 2 * PACKED
    while begin < end:
        n = min(PACKED, end - begin)
        copy_rows(a.rows, a.width, begin, n, p, own, False)
        for k in range(MAX_STATE):
            if a.state[k] != NULL:
                copy_rows(a.rows, a.width, begin, n, <real*> a.state[k], state[k], False)
        if a.lower and plan.wide:
            copy_rows(a.rows, a.width, begin, n, <real*> a.lower, own + PACKED, False)
            copy_rows(a.rows, a.width, begin, n, <real*> a.upper, own + 2 * PACKED, False)
        g = <const real*> a.g + begin
        if changed:
            memcpy(scratch, g, n * sizeof(real))
            transform(plan, group, n, own, scratch)
            g = scratch
        apply(plan, a, group, n, own, g, state, lower, upper)
        copy_rows(a.rows, a.width, begin, n, p, own, True)
        for k in range(MAX_STATE):
            if a.state[k] != NULL:
                copy_rows(a.rows, a.width, begin, n, <real*> a.state[k], state[k], True)
        begin += n


# ---------------------------------------------------------------------- threads
#
# Not concurrent.futures, which was tried: it runs Python code, in which an interrupt can strike when a share has been
# handed out but not yet noted. A lock is taken and released in C, and one that was not taken can be taken again.


cdef class Worker:
    """A thread that walks the share of a plan which it is given."""

    cdef object go, done
    cdef Plan plan
    cdef Py_ssize_t first, last
    cdef bint directions

    def __cinit__(self):
        self.go, self.done = allocate_lock(), allocate_lock()
        self.go.acquire()
        self.done.acquire()

    def run(self):
        while True:
            self.go.acquire()
            with nogil:
                walk(self.plan, self.first, self.last, self.directions)
            self.done.release()


idle_workers = []  # a child after fork has none of its parent's threads


def borrow_team(Py_ssize_t size):
    """That many waiting threads, some of which may be new. If one cannot be started, nothing has been written."""
    team = []
    try:
        while len(team) < size:
            try:
                team.append(idle_workers.pop())
            except IndexError:
                worker = Worker()
                threading.Thread(target=worker.run, name="optcore", daemon=True).start()
                team.append(worker)
    except BaseException:
        return_team(team)
        raise
    return team


def return_team(team):
    idle_workers.extend(team)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=idle_workers.clear)
