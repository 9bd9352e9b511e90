"""Plan: parameters bound once, and the steps over them. The layout of what is declared here is nobody else's business."""

from libc.stdint cimport int64_t

from optcore._curves cimport Curve
from optcore._rules cimport (
    MAX_HYPER, MAX_SCALARS, MAX_STATE, Direction32, Direction64, Kept, Loop32, Loop64, Scalars, Trust,
)

cdef enum:
    BLOCK = 1024  # elements: four float64 arrays of this length fit a first-level cache of 48 KiB
    PACKED = 256  # the same of rows, with parameter, gradient and bounds beside four state arrays
    NORM_BLOCK = 4096  # part of the definition of a norm: see `pairwise`. Threads share a step in blocks of this length
    WITHOUT_GIL = 8192  # elements in all from which a step gives the GIL back
    # Hyper-parameters that every rule has, behind its own; the last two are read from the first group.
    WEIGHT_DECAY = MAX_HYPER
    CLIP_VALUE
    CLIP_NORM
    AVERAGING_DECAY
    SLOTS

cdef enum Nonfinite:
    ALLOW, RAISE, SKIP

cdef enum Busy:
    FREE, STEPPING, INTERIM, HELD

cdef enum Verdict:
    GO, LEAVE_OUT, REFUSE

cdef enum Averaging:
    NO_AVERAGE, EMA, POLYAK


cdef struct Array:
    # One parameter and what belongs to it.
    Py_ssize_t n
    Py_ssize_t group
    Py_ssize_t count  # of the elements that this step changes: all, or those of some rows
    Py_ssize_t first  # the first block of them, counted over all arrays
    Py_ssize_t width  # elements of a row
    const int64_t* rows  # which they are, ascending; NULL where all
    double trust  # h[0], where the rule makes it of norms
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


cdef class Plan:
    cdef Array* arrays
    cdef Group* groups
    cdef double* sums  # one for each block of a norm, and once more where the rule needs two norms
    cdef Py_ssize_t size, group_count, blocks, elements, norm_blocks
    cdef object rule
    cdef Scalars scalars
    cdef Loop32 loop32
    cdef Loop64 loop64
    cdef Direction32 direction32
    cdef Direction64 direction64
    cdef Trust trust
    cdef tuple names
    cdef tuple params  # the caller's arrays
    cdef tuple shapes  # views of them that keep their first shape
    cdef tuple keep  # everything else that arrays point into
    cdef tuple bound  # gradients given once, or None
    cdef tuple held  # those of compiled steps, while there are some
    cdef bint plain  # whether these are the rule and nothing else
    cdef bint mapped  # parameters came as a mapping
    cdef bint has_single  # some are float32
    cdef list owners  # what lies in memory, by address: (begin, end, name)
    cdef Py_ssize_t* begins
    cdef Py_ssize_t* ends
    cdef Py_ssize_t owned
    cdef dict scheduled  # (group, slot) -> (schedule or function, what, low, high, accepted)
    cdef list functions  # the places of those that are functions
    cdef bint has_functions
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
    cdef public Py_ssize_t skipped  # steps left out because a gradient was not finite (``on_nonfinite="skip"``)

    cdef void all_rows(self) noexcept
    cdef void number_blocks(self) noexcept
    cdef int occupy(self, Busy busy) except -1
    cdef tuple gather(self, grads)
    cdef tuple gather_rows(self, grads, rows)
    cdef list take_rows(self, tuple grads, tuple indices)
    cdef tuple some_rows(self, Py_ssize_t i, values, rows)
    cdef object view(self, Py_ssize_t i, grad, bint brief)
    cdef tuple views(self, tuple grads, bint brief)
    cdef int take_all(self, tuple grads) except -1
    cdef int take(self, Py_ssize_t i, object grad) except -1
    cdef int check_parameter(self, Py_ssize_t i) except -1
    cdef int check_overlap(self, Py_ssize_t i, Py_ssize_t begin, Py_ssize_t length) except -1
    cdef int prepare(self) except -1 nogil
    cdef int call_functions(self) except -1
    cdef int refuse(self, tuple place, x) except -1
    cdef bint follow_curves(self, const Scheduled** bad) noexcept nogil
    cdef void make_scalars(self) noexcept nogil
    cdef int finish(self) except -1 nogil
    cdef Verdict look(self) noexcept nogil
    cdef bint is_spread(self) noexcept nogil
    cdef void move(self) noexcept nogil
    cdef bint is_plain(self) noexcept
    cdef int hold(self, tuple grads) except -1
    cdef bint advance_quietly(self) noexcept nogil
    cdef int advance(self) except -1 nogil
    cdef void release(self) noexcept
    cdef void count_step(self) noexcept nogil
    cdef str describe_nonfinite(self)
    cdef int spread_all(self) except -1
    cdef object spread(self, list team, bint directions)
