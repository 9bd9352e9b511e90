"""Portable scalar functions: the same bits on every platform, because C libraries differ in the last one.

Only + - * / and comparisons of doubles, each rounded once, so that optcore/reference.py can say the same in
plain Python. Inline and without branches, so that loops over buffers vectorise.

The series of exp and log are Taylor's, whose coefficients need no table: on the reduced ranges they are one or two
terms longer than minimax polynomials, which would be a tenth faster and would have to be explained. The cosine, which
has to be fast, has shorter ones. All constants come from tests/golden/scalars.py, and so do the errors in the
docstrings: the largest of 10**6 arguments each, rounded up.
"""

cimport cython
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset


cdef struct Double2:
    # An unevaluated sum hi + lo of about 106 bits.
    double hi
    double lo


cdef inline Double2 add(double large, double small) noexcept nogil:
    """large + small without error, for |large| >= |small| (Dekker 1971)."""
    cdef double total = large + small
    return Double2(total, small - (total - large))


cdef inline double top(double x) noexcept nogil:
    """The first 26 bits of x: two such numbers have an exact product (Veltkamp 1968)."""
    cdef double big = 134217729.0 * x
    return big - (big - x)


cdef inline Double2 product(Double2 a, Double2 b) noexcept nogil:
    """a * b by Dekker's product (1971): no fused multiply-add, which not every machine has."""
    cdef double a_top = top(a.hi), b_top = top(b.hi)
    cdef double a_rest = a.hi - a_top, b_rest = b.hi - b_top
    cdef double x = a.hi * b.hi
    cdef double error = ((a_top * b_top - x) + a_top * b_rest + a_rest * b_top) + a_rest * b_rest
    return add(x, error + (a.hi * b.lo + a.lo * b.hi))


# Integer powers

cdef inline Double2 squarings(double base, int64_t n) noexcept nogil:
    """base ** n by repeated squaring."""
    cdef Double2 result = Double2(1.0, 0.0), square = Double2(base, 0.0)
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
    # What is worth keeping between powers of one base. Filled with zeros it is empty; in use, table[0] is 1.
    double base
    int64_t start  # n - n % 64 of the left factor
    Double2 left
    Double2[SPLIT] table


cdef inline double power(double base, int64_t n, Powers* powers) noexcept nogil:
    """base ** n for base >= 0 and n >= 0, within 0.501 ulp; 3 ulp below 1e-290, 0.8 above 6e299."""
    cdef int64_t rest = n % SPLIT
    cdef double result
    if powers.table[0].hi != 1.0 or powers.base != base:
        memset(powers, 0, sizeof(Powers))
        powers.base, powers.start, powers.table[0].hi = base, -1, 1.0
    if powers.start != n - rest:
        powers.start = n - rest
        powers.left = squarings(base, n - rest)
    if powers.table[rest].hi == 0.0:
        powers.table[rest] = squarings(base, rest)
    result = product(powers.left, powers.table[rest]).hi
    if result != result:  # from 2**996 on, Dekker's product overflows
        result = pow(base, <double>n)
    return result


# One power at a time, and no place for a cache: base ** 2 ** k is computed once for every k.
cdef enum:
    SQUARES = 63


cdef inline void fill_squares(double base, Double2* squares) noexcept nogil:
    cdef Py_ssize_t k
    squares[0] = Double2(base, 0.0)
    for k in range(1, SQUARES):
        squares[k] = product(squares[k - 1], squares[k - 1])


cdef inline Double2 multiplied(const Double2* squares, int64_t n) noexcept nogil:
    """The same as squarings(base, n)."""
    cdef Double2 result = Double2(1.0, 0.0)
    while n > 0:
        if n & 1:
            result = product(result, squares[0])
        n >>= 1
        squares += 1
    return result


cdef inline double power_from(const Double2* squares, int64_t n) noexcept nogil:
    """The same as power(base, n)."""
    cdef double result = product(multiplied(squares, n - n % SPLIT), multiplied(squares, n % SPLIT)).hi
    if result != result:
        result = pow(squares[0].hi, <double>n)
    return result


# Rounding and powers of two

cdef inline double nearest(double x) noexcept nogil:
    """The integer nearest to x, half to even, for |x| < 2**51."""
    # Near 1.5 * 2**52 the doubles are the integers. SSE2 has no instruction for it that works on vectors.
    return (x + 6755399441055744.0) - 6755399441055744.0


cdef inline uint64_t to_bits(double x) noexcept nogil:
    cdef uint64_t bits = 0
    memcpy(&bits, &x, 8)
    return bits


cdef inline double from_bits(uint64_t bits) noexcept nogil:
    cdef double x = 0.0
    memcpy(&x, &bits, 8)
    return x


cdef inline double power_of_two(double k) noexcept nogil:
    """2.0 ** k for integers -1022 <= k <= 1023."""
    # The constant is 1.5 * 2**52 + 1023: the sum ends in k + 1023, the exponent field of the result.
    return from_bits(to_bits(k + 6755399441056767.0) << 52)


cdef inline (double, double) split(double x) noexcept nogil:
    """f and k with |x| = f * 2**k and 0.5 <= f < 1, for finite x other than 0."""
    # Numbers below 2**-1022 have no implicit leading bit until they are multiplied by 2**54.
    cdef double normal = x * 18014398509481984.0 if x < 2.2250738585072014e-308 else x
    cdef double bias = 1076.0 if x < 2.2250738585072014e-308 else 1022.0
    cdef uint64_t bits = to_bits(normal)
    # With the exponent of 2**52, the fraction field is an integer added to 2**52: a conversion for vectors.
    cdef double field = from_bits(bits << 1 >> 53 | to_bits(4503599627370496.0)) - 4503599627370496.0
    return from_bits(bits << 12 >> 12 | to_bits(0.5)), field - bias


# Exponential, logarithm and real powers. "Parts" takes or gives a Double2, because y * log(x) may be 700, and
# half its last bit is then hundreds of last bits of the power. ln(2) is cut into 42 bits, whose multiples by
# exponents are exact, and a rest.

cdef inline double exp_parts(Double2 a) noexcept nogil:
    """exp(a.hi + a.lo) for finite a.lo below an ulp of a.hi."""
    # Past these bounds every result is 0 or infinite. The order of the operands lets NaN through.
    cdef double below = 710.0 if a.hi > 710.0 else a.hi
    cdef double x = -746.0 if below < -746.0 else below
    # a = k * ln(2) + r + c
    cdef double k = nearest(x * 1.4426950408889634)
    cdef double first = x - k * 0.6931471805598903
    cdef double rest = a.lo - k * 5.497923018708371e-14
    cdef double r = first + rest  # |r| < 0.347
    cdef double c = rest - (r - first)
    # 1 + r + r**2 / 2! + ... + r**13 / 13!, two terms a line: half as long a chain of dependent operations.
    cdef double rr = r * r
    cdef double p = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    p = p * rr + (1.0 / 3628800.0 + r * (1.0 / 39916800.0))
    p = p * rr + (1.0 / 40320.0 + r * (1.0 / 362880.0))
    p = p * rr + (1.0 / 720.0 + r * (1.0 / 5040.0))
    p = p * rr + (1.0 / 24.0 + r * (1.0 / 120.0))
    p = p * rr + (1.0 / 2.0 + r * (1.0 / 6.0))
    cdef Double2 linear = add(1.0, r)
    cdef double fraction = linear.hi + (linear.lo + (c + rr * p))
    # In two steps, because 2**k itself may be out of range. A subnormal result is rounded in the second.
    cdef double half = nearest(0.5 * k)
    return fraction * power_of_two(half) * power_of_two(k - half)


cdef inline double exp(double x) noexcept nogil:
    """e ** x, within 0.75 ulp."""
    return exp_parts(Double2(x, 0.0))


@cython.cdivision(True)
cdef inline Double2 log_parts(double x) noexcept nogil:
    """The natural logarithm of x, to 2**-63 of itself; hi is -inf for 0 and NaN below."""
    # x = m * 2**e with sqrt(0.5) <= m < sqrt(2), so that e * ln(2) + ln(m) does not cancel.
    cdef double f, k
    f, k = split(x)
    cdef double m = f + f if f < 0.7071067811865476 else f
    cdef double e = k - 1.0 if f < 0.7071067811865476 else k
    # ln(m) = 2 * (s + s**3 / 3 + s**5 / 5 + ...) with s = (m - 1) / (m + 1), |s| < 0.172. Where 53 bits are
    # too few, a number is kept as its top, of 26 bits, and a rest.
    cdef double d = m + 1.0
    cdef double d_top = top(d)
    cdef double s_top = top((m - 1.0) / d)
    cdef double s_rest = (((m - 1.0) - s_top * d_top) - s_top * (m - (d_top - 1.0))) / d
    # z = s * s
    cdef double square = s_top * s_top
    cdef double square_rest = s_rest * (s_top + (s_top + s_rest))
    cdef double z = square + square_rest
    cdef double z_top = top(z)
    cdef double z_rest = (square - z_top) + square_rest
    # p = z / 5 + z**2 / 7 + ... + z**10 / 23
    cdef double zz = z * z
    cdef double p = 1.0 / 21.0 + z * (1.0 / 23.0)
    p = p * zz + (1.0 / 17.0 + z * (1.0 / 19.0))
    p = p * zz + (1.0 / 13.0 + z * (1.0 / 15.0))
    p = p * zz + (1.0 / 9.0 + z * (1.0 / 11.0))
    p = p * zz + (1.0 / 5.0 + z * (1.0 / 7.0))
    p = p * z
    # third = 1 / 3 + p; the last number is what the double 1 / 3 lacks.
    cdef double third = 1.0 / 3.0 + p
    cdef double third_top = top(third)
    cdef double third_rest = ((1.0 / 3.0 - third_top) + p) + 1.850371707708594e-17
    # g = 1 + z * third = ln(m) / (2 * s)
    cdef double g = 1.0 + z * third
    cdef double g_top = top(g)
    cdef double g_rest = ((1.0 - g_top) + z_top * third_top) + (z_top * third_rest + z_rest * third)
    cdef Double2 large = add(e * 0.6931471805598903, 2.0 * (s_top * g_top))
    cdef double small = e * 5.497923018708371e-14 + 2.0 * (s_top * g_rest + s_rest * g)
    cdef Double2 result = add(large.hi, large.lo + small)
    result.hi = result.hi if x < INFINITY else x
    result.hi = result.hi if x > 0.0 else (-INFINITY if x == 0.0 else NAN)
    return result


cdef inline double log(double x) noexcept nogil:
    """The natural logarithm of x, within 0.501 ulp; -inf for 0, NaN below."""
    return log_parts(x).hi


cdef inline double pow_parts(Double2 log_base, double y) noexcept nogil:
    """base ** y from log_base = log_parts(base): where the base is constant, its logarithm is taken once."""
    # No logarithm but 0 is nearer to 0 than 2**-53: past these bounds the result is 0, 1 or infinite.
    cdef double below = 18446744073709551616.0 if y > 18446744073709551616.0 else y
    cdef double bounded = -18446744073709551616.0 if below < -18446744073709551616.0 else below
    cdef Double2 a = product(log_base, Double2(bounded, 0.0))
    # An infinite logarithm makes NaN of Dekker's product, but not of a plain one.
    cdef double plain = log_base.hi * bounded
    a.hi = a.hi if plain * plain < 1000000.0 else plain
    a.lo = a.lo if plain * plain < 1000000.0 else 0.0
    cdef double result = exp_parts(a)
    return result if y != 0.0 else 1.0


cdef inline double pow(double x, double y) noexcept nogil:
    """x ** y for x >= 0, within 0.8 ulp; 0 ** y is 0, 1 or inf; NaN for x < 0."""
    return pow_parts(log_parts(x), y)


# Cosine

cdef inline double cos(double x) noexcept nogil:
    """The cosine of x radians for |x| <= 3.5, within 0.8 ulp; NaN beyond. No schedule goes past pi."""
    # |x| = k * pi/2 + r + c, with pi/2 cut into two doubles, for k = 0, 1 or 2. The multiples of the first one and
    # their differences from x are exact, and c holds what r lacks, so that nothing is lost next to the zero.
    cdef double a = fabs(x)
    cdef double k = nearest(a * 0.6366197723675814)
    cdef double first = a - k * 1.5707963267948966
    cdef double rest = k * 6.123233995736766e-17
    cdef double r = first - rest  # |r| < 0.786
    cdef double c = (first - r) - rest
    # For k = 1 the cosine is -sin(r + c) = -(r - r**3 * p), otherwise cos(r + c) = 1 - r**2 / 2 + r**4 * p with the
    # sign of 1 - k. Both p, polynomials of z = r**2, are one with selected coefficients: half as much to compute.
    cdef bint sine = k == 1.0
    cdef double z = r * r
    cdef double zz = z * z
    cdef double p = (2.505075841826956e-08 if sine else 2.0875912664852156e-09) - z * (1.5896815007836776e-10 if sine else 1.1369298846560313e-11)
    p = p * zz + ((0.00019841269829812066 if sine else 2.480158729442023e-05) - z * (2.755731369363644e-06 if sine else 2.755731576479866e-07))
    p = p * zz + ((0.16666666666666632 if sine else 0.041666666666666644) - z * (0.008333333333322418 if sine else 0.0013888888888882061))
    cdef double half = 0.5 * z
    cdef double near_one = 1.0 - half
    cdef double falling = (r * z * p - c * near_one) - r
    cdef double level = near_one + (((1.0 - near_one) - half) + (zz * p - r * c))
    cdef double result = falling if sine else (1.0 - k) * level
    return result if a <= 3.5 else NAN
