"""Rows of a table: looked at, ordered, packed and written back."""

from libc.stdint cimport int64_t

from optcore._rules cimport real

cdef tuple ordered(str what, rows, Py_ssize_t height)
cdef tuple merged(rows, values)
cdef void copy_rows(
    const int64_t* rows, Py_ssize_t width, Py_ssize_t begin, Py_ssize_t n, real* table, real* packed, bint back
) noexcept nogil
cdef void sum_rows(
    const int64_t* rows, Py_ssize_t count, Py_ssize_t width, const real* g, double* sums, Py_ssize_t blocks,
    Py_ssize_t block,
) noexcept nogil
