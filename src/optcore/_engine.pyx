# cython: boundscheck=False, wraparound=False
"""Plan: one step over many arrays, bound once to the memory that it changes.

A step checks everything before it writes anything, evaluates schedules, prepares the scalars of the update, makes
the reductions that must come first, and then walks the arrays block by block: gradient transforms, rule, bounds,
averaging, all while the block is in the nearest cache. A failure leaves parameters, state and counter as they were.

Design
------
- Arrays are read through NumPy's C structures, not the buffer protocol: a look at an array costs a few ns instead of
  about 60, so that every step can look again and notice an array that was resized or made read-only since.
- A gradient that needs a transform is copied to a scratch block on the stack; one that needs none is read where it
  lies, and the rule sees the whole array as one run.
- The GIL is given back only where a step takes longer than that costs.
"""

import os
import threading
from _thread import allocate_lock

import numpy

cimport numpy as cnp
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from optcore._rules cimport (
    MAX_HYPER, MAX_SCALARS, MAX_STATE, Kept, Loop32, Loop64, Scalars, add_scaled, clamp, clip, ema, has_nonfinite,
    negate, polyak, real, scale, sum_of_squares,
)
from optcore._curves cimport Curve
from optcore._schedules cimport Compiled, value

cnp.import_array()

cdef enum:
    BLOCK = 1024  # elements: four float64 arrays of this length fit a first-level cache of 48 KiB
    NORM_BLOCK = 4096  # part of the definition of a norm: see `pairwise`
    WITHOUT_GIL = 8192  # elements in all from which a step gives the GIL back
    # Hyper-parameters that every rule has, behind its own; the last two are read from the first group.
    WEIGHT_DECAY = MAX_HYPER
    CLIP_VALUE
    CLIP_NORM
    AVERAGING_DECAY
    SLOTS

COMMON = {
    "weight_decay": WEIGHT_DECAY, "clip_value": CLIP_VALUE, "clip_norm": CLIP_NORM, "averaging": AVERAGING_DECAY,
}
BLOCK_SIZE = BLOCK

cdef enum Nonfinite:
    ALLOW, RAISE, SKIP

cdef enum Busy:
    FREE, STEPPING, INTERIM

cdef enum Averaging:
    NO_AVERAGE, EMA, POLYAK


cdef struct Array:
    # One parameter and what belongs to it.
    Py_ssize_t n
    Py_ssize_t group
    Py_ssize_t first  # its first block, counted over all arrays
    bint single  # float32
    char* p
    char* g
    char* state[MAX_STATE]
    char* average
    char* lower
    char* upper


cdef struct Group:
    double[SLOTS] c
    double[MAX_SCALARS] h
    float[MAX_SCALARS] h32
    Kept kept


cdef struct Scheduled:
    # A hyper-parameter that follows a schedule which needs no Python.
    Group* group
    Py_ssize_t slot
    const Curve* curve
    double low
    double high


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


def check_array(str what, array, dtype=None, shape=None, bint writeable=False):
    """Raises the error that says why an array cannot be used where it lies, and what to do about it.

    Raises
    ------
    TypeError
        Not an array, a subclass with other semantics, or another dtype.
    ValueError
        Another shape or memory layout, unaligned, or read-only where it would be written.
    """
    if not isinstance(array, numpy.ndarray):
        raise TypeError(f"{what} must be a NumPy array, got {type(array).__name__}; use numpy.array(...)")
    if type(array) not in (numpy.ndarray, numpy.memmap):
        raise TypeError(
            f"{what} is a {type(array).__name__}, whose extra meaning would be lost; "
            "pass a plain array: numpy.asarray(...)"
        )
    accepted = "float32 or float64" if dtype is None else str(dtype)
    if array.dtype not in (numpy.float32, numpy.float64) or (dtype is not None and array.dtype != dtype):
        found = array.dtype if array.dtype.isnative else f"{array.dtype} (foreign byte order)"
        raise TypeError(f"{what} has dtype {found}, but must be {accepted}; use .astype(...)")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape}, but its parameter has shape {shape}")
    if not array.flags.aligned:
        raise ValueError(f"{what} is not aligned in memory; use .copy()")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{what} with shape {array.shape} and strides {array.strides} is not C-contiguous; "
            + ("its memory cannot be updated in place: make numpy.ascontiguousarray(...) the parameter" if writeable
               else "use numpy.ascontiguousarray(...)")
        )
    if writeable and not array.flags.writeable:
        raise ValueError(f"{what} is read-only, but is updated in place; make a .copy() the parameter, or use .setflags(write=True)")


cdef class Plan:
    """What `optcore.optimizer.Optimizer` builds on: `_bind` once, then `step`."""

    cdef Array* arrays
    cdef Group* groups
    cdef double* sums  # one for each block of a norm
    cdef Py_ssize_t size, group_count, blocks, elements, norm_blocks
    cdef object rule
    cdef Scalars scalars
    cdef Loop32 loop32
    cdef Loop64 loop64
    cdef tuple names
    cdef tuple params  # the caller's arrays
    cdef tuple shapes  # views of them that keep their first shape
    cdef tuple keep  # everything else that arrays point into
    cdef tuple bound  # gradients given once, or None
    cdef bint mapped  # parameters came as a mapping
    cdef bint has_single  # some are float32
    cdef list owners  # what lies in memory, by address: (begin, end, name)
    cdef Py_ssize_t* begins
    cdef Py_ssize_t* ends
    cdef Py_ssize_t owned
    cdef dict scheduled  # (group, slot) -> (schedule or function, what, low, high, accepted)
    cdef list functions  # the places of those that are functions
    cdef Scheduled* curves  # and the others
    cdef Py_ssize_t curve_count
    cdef int64_t updates
    cdef double factor  # clip_norm's, in this step
    cdef Py_ssize_t lr_slot
    cdef Nonfinite nonfinite
    cdef Averaging averaging
    cdef bint maximize, decoupled, wide
    cdef Py_ssize_t threads
    cdef Busy busy
    cdef list backup
    cdef public Py_ssize_t skipped
    """Steps left out because a gradient was not finite (``on_nonfinite="skip"``)."""

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
        owners = []
        for name, p, _, state, average, lower, upper in arrays:
            owners.append((p, f"parameter {name!r}"))
            owners += [(array, f"the state {key!r} of {name!r}") for key, array in zip(rule.state, state)]
            if average is not None:
                owners.append((average, f"the average of {name!r}"))
        spans = [(b.ctypes.data, b.ctypes.data + b.nbytes, what) for b, what in owners if b.nbytes]
        self.owners = sorted(spans)
        for (_, end, what), (begin, _, other) in zip(self.owners, self.owners[1:]):
            if begin < end:
                raise ValueError(f"{other} and {what} share memory; an update in place needs separate arrays")

        self.rule = rule
        self.scalars, self.loop32 = <Scalars> <size_t> rule.scalars, <Loop32> <size_t> rule.loop32
        self.loop64 = <Loop64> <size_t> rule.loop64
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
            a.first = self.blocks
            self.has_single |= a.single
            a.p = cnp.PyArray_BYTES(p)
            for k in range(len(state)):
                a.state[k] = cnp.PyArray_BYTES(state[k])
            if average is not None:
                a.average = cnp.PyArray_BYTES(average)
            if lower is not None:
                a.lower, a.upper = cnp.PyArray_BYTES(lower), cnp.PyArray_BYTES(upper)
            self.blocks += (a.n + BLOCK - 1) // BLOCK
            self.norm_blocks += (a.n + NORM_BLOCK - 1) // NORM_BLOCK
            self.elements += a.n
        self.sums = <double*> calloc(max(self.norm_blocks, 1), sizeof(double))
        if not self.sums:
            raise MemoryError

    def _bind_gradients(self, grads):
        """Gradients that every step() without arguments reads."""
        bound = self.gather(grads)
        self.take_all(bound)
        self.bound = bound

    def _set(self, Py_ssize_t group, str name, setting, str what, double low, double high, str accepted):
        """One hyper-parameter, by its name in `Rule.hyper` or COMMON: a number, or a function of completed updates.

        ``what``, ``low``, ``high`` and ``accepted`` are for the message of a function's bad value, which comes later.
        """
        cdef Py_ssize_t slot = COMMON[name] if name in COMMON else self.rule.hyper.index(name)
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
        if not callable(setting):
            self.groups[group].c[slot] = setting

    # ------------------------------------------------------------------ a step

    def step(self, grads=None):
        """Updates every parameter in place, once.

        Parameters
        ----------
        grads : array, sequence or mapping, optional
            Gradients in the structure of the parameters, each of its parameter's shape and dtype. They are read,
            never written. May be left out where gradients were bound when the optimizer was made.

        Raises
        ------
        TypeError, ValueError
            A gradient or a scheduled value cannot be used. Nothing has been changed.
        FloatingPointError
            A gradient is not finite and ``on_nonfinite="raise"``. Nothing has been changed.
        """
        cdef tuple gradients = None
        self.occupy(STEPPING)
        try:
            if grads is None:
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
            else:
                self.take_all(gradients)
            if self.reduce():
                self.walk_all()
                self.updates += 1
        finally:
            self.busy = FREE

    cdef inline int occupy(self, Busy busy) except -1:
        if self.busy == STEPPING:
            raise RuntimeError("step() was called while a step of the same optimizer was running")
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

    cdef int take_all(self, tuple grads) except -1:
        cdef Py_ssize_t i
        for i in range(self.size):
            self.check_parameter(i)
            self.take(i, grads[i])
        return 0

    cdef inline int take(self, Py_ssize_t i, object grad) except -1:
        """Points array i to a gradient that can be read in place."""
        cdef Array* a = &self.arrays[i]
        if not plain(grad, cnp.NPY_FLOAT if a.single else cnp.NPY_DOUBLE) or not same_shape(grad, self.shapes[i]):
            check_array(f"the gradient of {self.names[i]!r}", grad, self.shapes[i].dtype, self.shapes[i].shape)
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
        check_array(what, param, self.shapes[i].dtype, writeable=True)
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

    cdef int prepare(self) except -1:
        """The scalars of the next update."""
        cdef Py_ssize_t k, j
        cdef Group* group
        cdef Scheduled* curve
        cdef double x = 0.0
        for k in range(self.curve_count):
            curve = &self.curves[k]
            x = value(curve.curve, self.updates)
            if not curve.low <= x <= curve.high:
                self.refuse((curve.group - self.groups, curve.slot), x)
            curve.group.c[curve.slot] = x
        if self.functions:
            for place in self.functions:
                given = self.scheduled[place][0](self.updates)
                try:
                    x = given
                except TypeError:
                    self.refuse(place, given)
                if not self.scheduled[place][2] <= x <= self.scheduled[place][3]:
                    self.refuse(place, x)
                self.groups[<Py_ssize_t> place[0]].c[<Py_ssize_t> place[1]] = x
        for k in range(self.group_count):
            group = &self.groups[k]
            self.scalars(self.updates + 1, group.c, group.h, &group.kept)
            if self.has_single:
                for j in range(MAX_SCALARS):
                    group.h32[j] = <float> group.h[j]
        return 0

    cdef int refuse(self, tuple place, x) except -1:
        _, what, _, _, accepted = self.scheduled[place]
        raise (ValueError if isinstance(x, float) else TypeError)(
            f"{what} must be {accepted}, but its schedule gave {x!r} at t = {self.updates}"
        )

    cdef bint reduce(self) except -1:
        """What must be known of all gradients before anything is written; false where the step is to be skipped."""
        cdef double limit = self.groups[0].c[CLIP_NORM], norm
        cdef bint bad
        self.factor = 1.0
        if self.nonfinite == ALLOW and limit == INFINITY:
            return True
        with nogil:
            bad = measure(self, limit < INFINITY)
            norm = sqrt(pairwise(self.sums, self.norm_blocks)) if limit < INFINITY else 0.0
        if bad and self.nonfinite == SKIP:
            self.skipped += 1
            return False
        if bad:
            raise FloatingPointError(self.describe_nonfinite())
        if norm > limit:
            self.factor = limit / norm
        return True

    cdef str describe_nonfinite(self):
        cdef Py_ssize_t i, k
        cdef double value
        for i in range(self.size):
            for k in range(self.arrays[i].n):
                value = (<float*> self.arrays[i].g)[k] if self.arrays[i].single else (<double*> self.arrays[i].g)[k]
                if value - value != 0:
                    place = tuple(int(j) for j in numpy.unravel_index(k, self.shapes[i].shape))
                    return (
                        f"the gradient of {self.names[i]!r} has {value} at index {place}; nothing was changed. "
                        "Look for a division by zero or too large a learning rate"
                    )

    cdef walk_all(self):
        if self.threads > 1 and self.elements >= WITHOUT_GIL:
            self.spread()
        elif self.elements >= WITHOUT_GIL:
            with nogil:
                walk(self, 0, self.blocks)
        else:
            walk(self, 0, self.blocks)

    # ------------------------------------------------------------------ threads

    cdef spread(self):
        """Equal shares of blocks. Once a share is handed out the step becomes whole, whatever interrupts it."""
        cdef Py_ssize_t threads = min(self.threads, self.blocks)
        cdef Py_ssize_t share = (self.blocks + threads - 1) // threads, first
        cdef Worker worker
        team = borrow_team(threads - 1)
        interrupt = None
        first = share
        for worker in team:
            worker.plan, worker.first, worker.last = self, first, min(first + share, self.blocks)
            first = worker.last
            worker.go.release()
        with nogil:
            walk(self, 0, share)
        for worker in team:
            while worker.plan is not None:
                try:
                    worker.done.acquire()
                    worker.plan = None
                except BaseException as error:  # a signal's; the lock has not been taken
                    interrupt = error
        return_team(team)
        if interrupt is not None:
            self.updates += 1
            raise interrupt

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


cdef bint measure(Plan plan, bint norm) noexcept nogil:
    """Fills plan.sums where a norm is wanted, and says whether something is not finite where that matters."""
    cdef Py_ssize_t i, begin, n, k = 0
    cdef bint bad = False
    cdef Array* a
    for i in range(plan.size):
        a = &plan.arrays[i]
        begin = 0
        while begin < a.n:
            n = min(NORM_BLOCK, a.n - begin)
            if norm:
                plan.sums[k] = (
                    sum_of_squares(n, <const float*> a.g + begin) if a.single
                    else sum_of_squares(n, <const double*> a.g + begin)
                )
                k += 1
            if plan.nonfinite != ALLOW:
                bad |= (
                    has_nonfinite(n, <const float*> a.g + begin) if a.single
                    else has_nonfinite(n, <const double*> a.g + begin)
                )
            begin += n
    return bad


cdef void walk(Plan plan, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Blocks first to last of all arrays."""
    cdef Py_ssize_t i, begin, end
    cdef Array* a
    for i in range(plan.size):
        a = &plan.arrays[i]
        begin = max(first - a.first, 0) * BLOCK
        end = min((last - a.first) * BLOCK, a.n)
        if begin < end:
            if a.single:
                update(plan, a, <float*> a.p, begin, end)
            else:
                update(plan, a, <double*> a.p, begin, end)


cdef void update(Plan plan, const Array* a, real* p, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Elements begin to end of one array, in the order of the specification."""
    cdef Group* group = &plan.groups[a.group]
    cdef double rate = group.c[WEIGHT_DECAY], limit = group.c[CLIP_VALUE]
    cdef double keep = plan.groups[0].c[AVERAGING_DECAY]
    cdef bint coupled = rate != 0.0 and not plan.decoupled
    cdef bint decoupled = rate != 0.0 and plan.decoupled
    cdef bint transforms = plan.maximize or plan.factor != 1.0 or limit < INFINITY or coupled
    cdef bint whole = not (transforms or decoupled or a.lower or a.average)
    cdef real[BLOCK] scratch
    cdef real* state[MAX_STATE]
    cdef const real* g
    cdef Py_ssize_t n, k, bounds
    while begin < end:
        n = end - begin if whole else min(BLOCK, end - begin)
        g = <const real*> a.g + begin
        for k in range(MAX_STATE):
            state[k] = <real*> a.state[k] + begin
        if transforms:
            memcpy(scratch, g, n * sizeof(real))
            g = scratch
            if plan.maximize:
                negate(n, scratch)
            if plan.factor != 1.0:
                scale(n, scratch, <real> plan.factor)
            if limit < INFINITY:
                clip(n, scratch, <real> limit)
            if coupled:
                add_scaled(n, scratch, p + begin, <real> rate)
        if decoupled:
            scale(n, p + begin, <real> (1.0 - group.c[plan.lr_slot] * rate))
        if real is float:
            plan.loop32(n, p + begin, g, state, group.h32)
        else:
            plan.loop64(n, p + begin, g, state, group.h)
        if a.lower:
            bounds = begin if plan.wide else 0
            clamp(n, p + begin, <const real*> a.lower + bounds, <const real*> a.upper + bounds)
        if plan.averaging == EMA:
            ema(n, <real*> a.average + begin, p + begin, <real> keep, <real> (1.0 - keep))
        elif plan.averaging == POLYAK:
            polyak(n, <real*> a.average + begin, p + begin, <real> <double> (plan.updates + 1))
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

    def __cinit__(self):
        self.go, self.done = allocate_lock(), allocate_lock()
        self.go.acquire()
        self.done.acquire()

    def run(self):
        while True:
            self.go.acquire()
            with nogil:
                walk(self.plan, self.first, self.last)
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
