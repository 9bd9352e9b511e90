"""Portable scalar functions: the same bits on every platform, because C libraries differ in the last one.

Only + - * / and comparisons of doubles, each rounded once, so that optcore/reference.py can say the same in
plain Python. Inline, so that loops over buffers vectorise.
"""

from libc.stdint cimport int64_t


cdef struct Double2:
    # An unevaluated sum hi + lo of about 106 bits.
    double hi
    double lo


cdef inline Double2 product(Double2 a, Double2 b) noexcept nogil:
    """a * b by Dekker's product (1971): no fused multiply-add, which not every machine has."""
    cdef double a_big = 134217729.0 * a.hi, b_big = 134217729.0 * b.hi
    cdef double a_top = a_big - (a_big - a.hi), b_top = b_big - (b_big - b.hi)
    cdef double a_rest = a.hi - a_top, b_rest = b.hi - b_top
    cdef double x = a.hi * b.hi
    cdef double error = ((a_top * b_top - x) + a_top * b_rest + a_rest * b_top) + a_rest * b_rest
    cdef Double2 result
    error = error + (a.hi * b.lo + a.lo * b.hi)
    result.hi = x + error
    result.lo = error - (result.hi - x)
    return result


cdef inline Double2 squarings(double base, int64_t n) noexcept nogil:
    """base ** n by repeated squaring."""
    cdef Double2 result, square
    result.hi, result.lo = 1.0, 0.0
    square.hi, square.lo = base, 0.0
    while n > 0:
        if n & 1:
            result = product(result, square)
        n >>= 1
        if n > 0:
            square = product(square, square)
    return result


# base ** n is split as base ** (n - n % 64) * base ** (n % 64): a pure function of base and n, in which the
# left factor changes every 64 steps and the right one comes from a table.
cdef enum:
    SPLIT = 64


cdef struct Powers:
    # What is worth keeping between powers of one base; filled with zeros it is empty.
    double base
    int64_t start  # n - n % 64 of the left factor
    Double2 left
    Double2[SPLIT] table


cdef inline double power(double base, int64_t n, Powers* powers) noexcept nogil:
    """base ** n for 0 <= base <= 1 and n >= 0, within 0.5000001 ulp."""
    cdef int64_t rest = n % SPLIT, i
    if powers.table[0].hi != 1.0 or powers.base != base:
        powers.base = base
        powers.start = -1
        for i in range(SPLIT):
            powers.table[i] = squarings(base, i)
    if powers.start != n - rest:
        powers.start = n - rest
        powers.left = squarings(base, n - rest)
    return product(powers.left, powers.table[rest]).hi
