"""What the engine needs of schedules."""

from libc.stdint cimport int64_t

from optcore._curves cimport Curve


cdef class Compiled:
    cdef Curve curve
    cdef readonly int depth
    """How deep combinators are nested, the innermost schedule counting 1."""
    cdef tuple keep  # the parts


cdef double value(const Curve* c, int64_t t) noexcept nogil
