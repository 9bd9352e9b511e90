# cython: boundscheck=False, wraparound=False
"""Rows of a table: looked at, ordered, packed into blocks for the rule, and written back.

A step works on a copy of the indices: what was checked is what is used, whatever becomes of the caller's array.
"""

import numpy

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from optcore._rules cimport LANES, add_scaled, real, sum_of_lanes

cnp.import_array()


cdef tuple ordered(str what, rows, Py_ssize_t height):
    """A copy of the rows as int64, if each is one of 0 to height - 1, and whether they ascend without repetition."""
    cdef const int64_t* index
    cdef int64_t low = 0, high = -1
    cdef bint ascending = True
    cdef Py_ssize_t k
    if type(rows) not in (numpy.ndarray, numpy.memmap):
        raise TypeError(f"{what} must be an array of integers, got {type(rows).__name__}; use numpy.array(...)")
    if rows.dtype.kind not in "iu":
        hint = "numpy.flatnonzero(...) makes indices of a mask" if rows.dtype.kind == "b" else "use .astype(int)"
        raise TypeError(f"{what} must be an array of integers, got dtype {rows.dtype}; {hint}")
    if rows.ndim != 1:
        raise ValueError(f"{what} must have shape (k,), got {rows.shape}; use .ravel()")
    copy = numpy.array(rows, numpy.int64)
    index = <const int64_t*> cnp.PyArray_BYTES(copy)
    for k in range(copy.size):
        low, high = min(low, index[k]), max(high, index[k])
        ascending &= k == 0 or index[k] > index[k - 1]
    if low < 0 or high >= height:
        wrong = int(rows.max()) if rows.dtype.kind == "u" else low if low < 0 else high
        accepted = f"from 0 to {height - 1}" if height else "none, as the parameter has no rows"
        raise ValueError(f"{what} must be {accepted}, got {wrong}" + "; they are not counted from the end" * (wrong < 0))
    return copy, ascending


cdef tuple merged(rows, values):
    """In ascending order, each row once: gradients of the same row are summed in the order given."""
    order = numpy.argsort(rows, kind="stable")
    rows = rows[order]
    unique = rows[numpy.flatnonzero(numpy.diff(rows, prepend=-1))]
    total = numpy.empty((unique.size, *values.shape[1:]), values.dtype)
    places = numpy.ascontiguousarray(order, numpy.int64)
    # From here on no Python code runs, which could change what is looked at.
    width = values.size // rows.size
    if width * unique.size != total.size:
        raise ValueError("gradients of rows were resized while the step looked at them")
    if values.dtype == numpy.float32:
        sum_repeated[float](rows, places, <float*> cnp.PyArray_DATA(values), <float*> cnp.PyArray_DATA(total), width)
    else:
        sum_repeated[double](rows, places, <double*> cnp.PyArray_DATA(values), <double*> cnp.PyArray_DATA(total), width)
    return unique, total


cdef int sum_repeated(rows, places, const real* values, real* total, Py_ssize_t width) except -1:
    cdef const int64_t* index = <const int64_t*> cnp.PyArray_BYTES(rows)
    cdef const int64_t* place = <const int64_t*> cnp.PyArray_BYTES(places)
    cdef const real* g
    cdef real one = 1
    cdef Py_ssize_t k
    for k in range(rows.size):
        g = values + place[k] * width
        if k > 0 and index[k] == index[k - 1]:
            add_scaled(width, total, g, one)
        else:
            total += width if k > 0 else 0
            memcpy(total, g, width * sizeof(real))
    return 0


cdef void copy_rows(
    const int64_t* rows, Py_ssize_t width, Py_ssize_t begin, Py_ssize_t n, real* table, real* packed, bint back
) noexcept nogil:
    """Elements begin to begin + n, counted over the rows, to `packed`, or back to where they belong."""
    cdef Py_ssize_t k = begin // width, offset = begin % width, length
    cdef real* row
    while n > 0:
        length = min(width - offset, n)
        row = table + rows[k] * width + offset
        if back:
            memcpy(row, packed, length * sizeof(real))
        else:
            memcpy(packed, row, length * sizeof(real))
        packed += length
        n -= length
        k += 1
        offset = 0


cdef void sum_rows(
    const int64_t* rows, Py_ssize_t count, Py_ssize_t width, const real* g, double* sums, Py_ssize_t blocks,
    Py_ssize_t block,
) noexcept nogil:
    """The squares of some rows, in the lanes and blocks of that length that they have in the table: the same bits."""
    cdef double[LANES] lanes
    cdef double x
    cdef Py_ssize_t k, j, current = -1
    memset(sums, 0, blocks * sizeof(double))
    for k in range(count):
        for j in range(rows[k] * width, (rows[k] + 1) * width):
            if current < 0 or j >= (current + 1) * block:
                if current >= 0:
                    sums[current] = sum_of_lanes(lanes)
                current = j // block
                memset(lanes, 0, sizeof(lanes))
            x = g[0]
            g += 1
            lanes[j % LANES] = lanes[j % LANES] + x * x
    if current >= 0:
        sums[current] = sum_of_lanes(lanes)
