"""The update rules and schedules in plain Python: bit for bit what the compiled kernels compute.

Names and lines are those of src/optcore/*.pxd and *.pyx, on Python floats, which are IEEE doubles as well. Slow, and
meant to be read, and to be compared with.
"""

import math

# Arithmetic: scalar functions of + - * / alone, because C libraries differ in the last bit.


class Double2:
    """An unevaluated sum hi + lo of about 106 bits."""

    __slots__ = ("hi", "lo")

    def __init__(self, hi, lo):
        self.hi = hi
        self.lo = lo


def add(large, small):
    """large + small without error, for |large| >= |small| (Dekker 1971)."""
    total = large + small
    return Double2(total, small - (total - large))


def top(x):
    """The first 26 bits of x: two such numbers have an exact product (Veltkamp 1968)."""
    big = 134217729.0 * x
    return big - (big - x)


def product(a, b):
    """a * b by Dekker's product (1971): no fused multiply-add, which not every machine has."""
    a_top, b_top = top(a.hi), top(b.hi)
    a_rest, b_rest = a.hi - a_top, b.hi - b_top
    x = a.hi * b.hi
    error = ((a_top * b_top - x) + a_top * b_rest + a_rest * b_top) + a_rest * b_rest
    return add(x, error + (a.hi * b.lo + a.lo * b.hi))


# Integer powers


def squarings(base, n):
    """base ** n by repeated squaring."""
    result, square = Double2(1.0, 0.0), Double2(base, 0.0)
    while n > 0:
        if n & 1:
            result = product(result, square)
        n >>= 1
        if n > 0:
            square = product(square, square)
    return result


def power(base, n):
    """base ** n for base >= 0 and n >= 0, within 0.501 ulp; 3 ulp below 1e-290, 0.8 above 6e299."""
    # In two factors, the second of which the kernel keeps in a table of 64.
    rest = n % 64
    result = product(squarings(base, n - rest), squarings(base, rest)).hi
    if result != result:  # from 2**996 on, Dekker's product overflows
        result = pow(base, float(n))
    return result


# Rounding and powers of two


def nearest(x):
    """The integer nearest to x, half to even, for |x| < 2**51."""
    # Near 1.5 * 2**52 the doubles are the integers. SSE2 has no instruction for it that works on vectors.
    return (x + 6755399441055744.0) - 6755399441055744.0


def power_of_two(k):
    """2.0 ** k for integers -1022 <= k <= 1023."""
    return math.ldexp(1.0, int(k)) if k == k else k


def split(x):
    """f and k with |x| = f * 2**k and 0.5 <= f < 1, for finite x other than 0."""
    return math.frexp(abs(x))


# Exponential, logarithm and real powers. "Parts" takes or gives a Double2, because y * log(x) may be 700, and
# half its last bit is then hundreds of last bits of the power. ln(2) is cut into 42 bits, whose multiples by
# exponents are exact, and a rest.


def exp_parts(a):
    """exp(a.hi + a.lo) for finite a.lo below an ulp of a.hi."""
    # Past these bounds every result is 0 or infinite. The order of the operands lets NaN through.
    below = 710.0 if a.hi > 710.0 else a.hi
    x = -746.0 if below < -746.0 else below
    # a = k * ln(2) + r + c
    k = nearest(x * 1.4426950408889634)
    first = x - k * 0.6931471805598903
    rest = a.lo - k * 5.497923018708371e-14
    r = first + rest  # |r| < 0.347
    c = rest - (r - first)
    # 1 + r + r**2 / 2! + ... + r**13 / 13!, two terms a line: half as long a chain of dependent operations.
    rr = r * r
    p = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    p = p * rr + (1.0 / 3628800.0 + r * (1.0 / 39916800.0))
    p = p * rr + (1.0 / 40320.0 + r * (1.0 / 362880.0))
    p = p * rr + (1.0 / 720.0 + r * (1.0 / 5040.0))
    p = p * rr + (1.0 / 24.0 + r * (1.0 / 120.0))
    p = p * rr + (1.0 / 2.0 + r * (1.0 / 6.0))
    linear = add(1.0, r)
    fraction = linear.hi + (linear.lo + (c + rr * p))
    # In two steps, because 2**k itself may be out of range. A subnormal result is rounded in the second.
    half = nearest(0.5 * k)
    return fraction * power_of_two(half) * power_of_two(k - half)


def exp(x):
    """e ** x, within 0.75 ulp."""
    return exp_parts(Double2(x, 0.0))


def log_parts(x):
    """The natural logarithm of x, to 2**-63 of itself; hi is -inf for 0 and NaN below."""
    # x = m * 2**e with sqrt(0.5) <= m < sqrt(2), so that e * ln(2) + ln(m) does not cancel.
    f, k = split(x)
    m = f + f if f < 0.7071067811865476 else f
    e = k - 1.0 if f < 0.7071067811865476 else k
    # ln(m) = 2 * (s + s**3 / 3 + s**5 / 5 + ...) with s = (m - 1) / (m + 1), |s| < 0.172. Where 53 bits are
    # too few, a number is kept as its top, of 26 bits, and a rest.
    d = m + 1.0
    d_top = top(d)
    s_top = top((m - 1.0) / d)
    s_rest = (((m - 1.0) - s_top * d_top) - s_top * (m - (d_top - 1.0))) / d
    # z = s * s
    square = s_top * s_top
    square_rest = s_rest * (s_top + (s_top + s_rest))
    z = square + square_rest
    z_top = top(z)
    z_rest = (square - z_top) + square_rest
    # p = z / 5 + z**2 / 7 + ... + z**10 / 23
    zz = z * z
    p = 1.0 / 21.0 + z * (1.0 / 23.0)
    p = p * zz + (1.0 / 17.0 + z * (1.0 / 19.0))
    p = p * zz + (1.0 / 13.0 + z * (1.0 / 15.0))
    p = p * zz + (1.0 / 9.0 + z * (1.0 / 11.0))
    p = p * zz + (1.0 / 5.0 + z * (1.0 / 7.0))
    p = p * z
    # third = 1 / 3 + p; the last number is what the double 1 / 3 lacks.
    third = 1.0 / 3.0 + p
    third_top = top(third)
    third_rest = ((1.0 / 3.0 - third_top) + p) + 1.850371707708594e-17
    # g = 1 + z * third = ln(m) / (2 * s)
    g = 1.0 + z * third
    g_top = top(g)
    g_rest = ((1.0 - g_top) + z_top * third_top) + (z_top * third_rest + z_rest * third)
    large = add(e * 0.6931471805598903, 2.0 * (s_top * g_top))
    small = e * 5.497923018708371e-14 + 2.0 * (s_top * g_rest + s_rest * g)
    result = add(large.hi, large.lo + small)
    result.hi = result.hi if x < math.inf else x
    result.hi = result.hi if x > 0.0 else (-math.inf if x == 0.0 else math.nan)
    return result


def log(x):
    """The natural logarithm of x, within 0.501 ulp; -inf for 0, NaN below."""
    return log_parts(x).hi


def pow_parts(log_base, y):
    """base ** y from log_base = log_parts(base): where the base is constant, its logarithm is taken once."""
    # No logarithm but 0 is nearer to 0 than 2**-53: past these bounds the result is 0, 1 or infinite.
    below = 18446744073709551616.0 if y > 18446744073709551616.0 else y
    bounded = -18446744073709551616.0 if below < -18446744073709551616.0 else below
    a = product(log_base, Double2(bounded, 0.0))
    # An infinite logarithm makes NaN of Dekker's product, but not of a plain one.
    plain = log_base.hi * bounded
    a.hi = a.hi if plain * plain < 1000000.0 else plain
    a.lo = a.lo if plain * plain < 1000000.0 else 0.0
    result = exp_parts(a)
    return result if y != 0.0 else 1.0


def pow(x, y):
    """x ** y for x >= 0, within 0.8 ulp; 0 ** y is 0, 1 or inf; NaN for x < 0."""
    return pow_parts(log_parts(x), y)


# Cosine


def cos(x):
    """The cosine of x radians for |x| <= 3.5, within 0.8 ulp; NaN beyond. No schedule goes past pi."""
    # |x| = k * pi/2 + r + c, with pi/2 cut into two doubles, for k = 0, 1 or 2. The multiples of the first one and
    # their differences from x are exact, and c holds what r lacks, so that nothing is lost next to the zero.
    a = abs(x)
    k = nearest(a * 0.6366197723675814)
    first = a - k * 1.5707963267948966
    rest = k * 6.123233995736766e-17
    r = first - rest  # |r| < 0.786
    c = (first - r) - rest
    # For k = 1 the cosine is -sin(r + c) = -(r - r**3 * p), otherwise cos(r + c) = 1 - r**2 / 2 + r**4 * p with the
    # sign of 1 - k. Both p, polynomials of z = r**2, are one with selected coefficients: half as much to compute.
    sine = k == 1.0
    z = r * r
    zz = z * z
    p = (2.505075841826956e-08 if sine else 2.0875912664852156e-09) - z * (
        1.5896815007836776e-10 if sine else 1.1369298846560313e-11
    )
    p = p * zz + (
        (0.00019841269829812066 if sine else 2.480158729442023e-05)
        - z * (2.755731369363644e-06 if sine else 2.755731576479866e-07)
    )
    p = p * zz + (
        (0.16666666666666632 if sine else 0.041666666666666644)
        - z * (0.008333333333322418 if sine else 0.0013888888888882061)
    )
    half = 0.5 * z
    near_one = 1.0 - half
    falling = (r * z * p - c * near_one) - r
    level = near_one + (((1.0 - near_one) - half) + (zz * p - r * c))
    result = falling if sine else (1.0 - k) * level
    return result if a <= 3.5 else math.nan


# ---------------------------------------------------------------------- elements


def sqrt(x):
    """The square root in the precision of x. (Of a float32 it is exact to go through float64: 53 >= 2 * 24 + 2.)"""
    return type(x)(math.sqrt(x))


def maximum(a, b):
    """The larger; NaN goes through."""
    return a if a > b or a != a else b


def clamped(x, lower, upper):
    """min(max(x, lower), upper) for bounds that are numbers; NaN goes through."""
    raised = lower if x < lower else x
    return upper if raised > upper else raised


def sign(x):
    """1, -1, or x itself where it is a zero or NaN."""
    return type(x)(1) if x > 0 else type(x)(-1) if x < 0 else x


def rounded(p, *scalars):
    """The scalars in the precision of the elements of p."""
    return [type(x)(h) for x in p[:1] for h in scalars] or scalars


# ---------------------------------------------------------------------- update rules
#
# Each takes p and g, lists of floats or of numpy.float32 scalars, and the lists of its state, and changes p and the
# state in place. t = 1, 2, ... is the number of the update. Scalars are computed in float64, then rounded once.


def sgd(p, g, state, t, *, lr):
    """Robbins & Monro 1951."""
    (lr,) = rounded(p, lr)
    for i in range(len(p)):
        p[i] = p[i] - lr * g[i]


def gradient_scaled(p, g, state, t, *, lr, scale=1.0):
    """The step grows with the gradient's magnitude."""
    (lr,) = rounded(p, lr * scale)
    for i in range(len(p)):
        p[i] = p[i] - lr * abs(g[i]) * g[i]


def momentum_scalars(t, momentum, dampening, velocity):
    """What the buffer keeps and takes. The heavy ball starts at the first gradient, the moving average at zero."""
    if velocity == "ema":
        return momentum, 1 - momentum
    return (0.0, 1.0) if t == 1 else (momentum, 1 - dampening)


def momentum(p, g, state, t, *, lr, momentum=0.9, dampening=0.0, velocity="heavy_ball"):
    """Polyak 1964, the learning rate outside the buffer."""
    (b,) = state
    keep, take, lr = rounded(p, *momentum_scalars(t, momentum, dampening, velocity), lr)
    for i in range(len(p)):
        b[i] = keep * b[i] + take * g[i]
        p[i] = p[i] - lr * b[i]


def velocity(p, g, state, t, *, lr, momentum=0.9):
    """Sutskever et al. 2013, equations 1 and 2: the learning rate inside the velocity."""
    (v,) = state
    mu, lr = rounded(p, momentum, lr)
    for i in range(len(p)):
        v[i] = mu * v[i] - lr * g[i]
        p[i] = p[i] + v[i]


def nesterov(p, g, state, t, *, lr, momentum=0.9, dampening=0.0, velocity="heavy_ball"):
    """Nesterov 1983 in the one-gradient form of Sutskever et al. 2013."""
    (b,) = state
    keep, take, lr, mu = rounded(p, *momentum_scalars(t, momentum, dampening, velocity), lr, momentum)
    for i in range(len(p)):
        b[i] = keep * b[i] + take * g[i]
        p[i] = p[i] - lr * (g[i] + mu * b[i])


def inside_and_outside(eps, eps_form):
    """Both forms of a root with eps are one: sqrt(s + eps_in) + eps_out."""
    return (eps, 0.0) if eps_form == "inside" else (0.0, eps)


def adagrad(p, g, state, t, *, lr=1e-2, lr_decay=0.0, eps=1e-10, eps_form="outside"):
    """Duchi, Hazan & Singer 2011, the diagonal form of Figure 1."""
    (s,) = state
    clr, eps_in, eps_out = rounded(p, lr / (1 + (t - 1) * lr_decay), *inside_and_outside(eps, eps_form))
    for i in range(len(p)):
        s[i] = s[i] + g[i] * g[i]
        p[i] = p[i] - clr * g[i] / (sqrt(s[i] + eps_in) + eps_out)


def rmsprop(p, g, state, t, *, lr=1e-2, alpha=0.99, eps=1e-8, eps_form="outside"):
    """Tieleman & Hinton 2012, lecture 6.5."""
    (s,) = state
    lr, alpha, take, eps_in, eps_out = rounded(p, lr, alpha, 1 - alpha, *inside_and_outside(eps, eps_form))
    for i in range(len(p)):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        p[i] = p[i] - lr * g[i] / (sqrt(s[i] + eps_in) + eps_out)


def rmsprop_momentum(p, g, state, t, *, lr=1e-2, alpha=0.99, eps=1e-8, eps_form="outside", momentum=0.9):
    """RMSProp with a heavy ball over the scaled gradient."""
    s, b = state
    lr, alpha, take, mu = rounded(p, lr, alpha, 1 - alpha, momentum)
    eps_in, eps_out = rounded(p, *inside_and_outside(eps, eps_form))
    for i in range(len(p)):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        b[i] = mu * b[i] + g[i] / (sqrt(s[i] + eps_in) + eps_out)
        p[i] = p[i] - lr * b[i]


def rmsprop_centered(p, g, state, t, *, lr=1e-2, alpha=0.99, eps=1e-8, eps_form="outside"):
    """Graves 2013, equations 38 to 40: the variance in place of the second moment."""
    s, m = state
    lr, alpha, take, zero = rounded(p, lr, alpha, 1 - alpha, 0.0)
    eps_in, eps_out = rounded(p, *inside_and_outside(eps, eps_form))
    for i in range(len(p)):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        m[i] = m[i] + take * (g[i] - m[i])
        p[i] = p[i] - lr * g[i] / (sqrt(maximum(s[i] - m[i] * m[i], zero) + eps_in) + eps_out)


def rmsprop_centered_momentum(p, g, state, t, *, lr=1e-2, alpha=0.99, eps=1e-8, eps_form="outside", momentum=0.9):
    """Graves 2013, equations 38 to 42."""
    s, m, b = state
    lr, alpha, take, mu, zero = rounded(p, lr, alpha, 1 - alpha, momentum, 0.0)
    eps_in, eps_out = rounded(p, *inside_and_outside(eps, eps_form))
    for i in range(len(p)):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        m[i] = m[i] + take * (g[i] - m[i])
        b[i] = mu * b[i] + g[i] / (sqrt(maximum(s[i] - m[i] * m[i], zero) + eps_in) + eps_out)
        p[i] = p[i] - lr * b[i]


def adadelta(p, g, state, t, *, lr=1.0, rho=0.9, eps=1e-6):
    """Zeiler 2012, Algorithm 1."""
    s, a = state
    lr, rho, take, eps = rounded(p, lr, rho, 1 - rho, eps)
    for i in range(len(p)):
        s[i] = rho * s[i] + take * g[i] * g[i]
        d = sqrt(a[i] + eps) / sqrt(s[i] + eps) * g[i]
        a[i] = rho * a[i] + take * d * d
        p[i] = p[i] - lr * d


def rprop(p, g, state, t, *, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0), variant="irprop-"):
    """Igel & Huesken 2000: iRprop-, and without forgetting the Rprop- of Riedmiller & Braun 1993."""
    prev, step = state
    shrink, grow, smallest, largest, one, zero = rounded(p, *etas, *step_sizes, 1.0, 0.0)
    for i in range(len(p)):
        s = sign(g[i] * prev[i])
        factor = grow if s > 0 else shrink if s < 0 else one
        step[i] = clamped(step[i] * factor, smallest, largest)
        kept = zero if s < 0 and variant == "irprop-" else g[i]
        p[i] = p[i] - sign(kept) * step[i]
        prev[i] = kept


def adam_scalars(t, lr, betas, eps, eps_form):
    """Step and root with the corrections of the bias, and both eps."""
    bias1 = 1 - power(betas[0], t)
    bias2 = 1 - power(betas[1], t)
    if eps_form == "hat":
        return lr * math.sqrt(bias2) / bias1, 1.0, 0.0, eps
    if eps_form == "inside":
        return lr / bias1, 1 / math.sqrt(bias2), eps * bias2, 0.0
    return lr / bias1, 1 / math.sqrt(bias2), 0.0, eps


def adam(p, g, state, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, eps_form="outside"):
    """Kingma & Ba 2015, Algorithm 1."""
    m, v = state
    beta1, take1, beta2, take2 = rounded(p, betas[0], 1 - betas[0], betas[1], 1 - betas[1])
    step, root, eps_in, eps_out = rounded(p, *adam_scalars(t, lr, betas, eps, eps_form))
    for i in range(len(p)):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        p[i] = p[i] - step * m[i] / (sqrt(v[i] + eps_in) * root + eps_out)


def amsgrad(p, g, state, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, eps_form="outside"):
    """Reddi, Kale & Kumar 2018, Algorithm 2, with Adam's bias corrections."""
    m, v, vmax = state
    beta1, take1, beta2, take2 = rounded(p, betas[0], 1 - betas[0], betas[1], 1 - betas[1])
    step, root, eps_in, eps_out = rounded(p, *adam_scalars(t, lr, betas, eps, eps_form))
    for i in range(len(p)):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        vmax[i] = maximum(vmax[i], v[i])
        p[i] = p[i] - step * m[i] / (sqrt(vmax[i] + eps_in) * root + eps_out)


def adamax(p, g, state, t, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8):
    """Kingma & Ba 2015, Algorithm 2."""
    m, u = state
    beta1, take1, beta2, eps = rounded(p, betas[0], 1 - betas[0], betas[1], eps)
    (step,) = rounded(p, lr / (1 - power(betas[0], t)))
    for i in range(len(p)):
        m[i] = beta1 * m[i] + take1 * g[i]
        u[i] = maximum(beta2 * u[i], abs(g[i]) + eps)
        p[i] = p[i] - step * m[i] / u[i]


def nadam(p, g, state, t, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3):
    """Dozat 2016."""
    m, v = state

    def mu(t):
        return betas[0] * (1 - 0.5 * pow(0.96, t * momentum_decay))

    product = 1.0
    for i in range(1, t + 1):
        product = product * mu(i)
        if product <= 2.0**-60:  # 1 - product is 1
            break
    beta1, take1, beta2, take2 = rounded(p, betas[0], 1 - betas[0], betas[1], 1 - betas[1])
    root, eps = rounded(p, 1 / math.sqrt(1 - power(betas[1], t)), eps)
    cg, cm = rounded(p, lr * (1 - mu(t)) / (1 - product), lr * mu(t + 1) / (1 - product * mu(t + 1)))
    for i in range(len(p)):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        p[i] = p[i] - (cg * g[i] + cm * m[i]) / (sqrt(v[i]) * root + eps)


def radam_scalars(t, lr, betas, eps):
    """Step, root and eps: those of Adam, rectified, or where there are too few squares for a variance, of momentum."""
    decayed = power(betas[1], t)
    bias1, bias2 = 1 - power(betas[0], t), 1 - decayed
    longest = 2 / (1 - betas[1]) - 1
    length = longest - 2 * t * decayed / bias2
    if length > 5:
        rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        return lr * rectified * math.sqrt(bias2) / bias1, 1.0, eps
    return lr / bias1, 0.0, 1.0


def radam(p, g, state, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    """Liu et al. 2020, Algorithm 2."""
    m, v = state
    beta1, take1, beta2, take2 = rounded(p, betas[0], 1 - betas[0], betas[1], 1 - betas[1])
    step, root, eps = rounded(p, *radam_scalars(t, lr, betas, eps))
    for i in range(len(p)):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        below = sqrt(v[i]) * root + eps if root > 0 else eps
        p[i] = p[i] - step * m[i] / below


def lion(p, g, state, t, *, lr=1e-4, betas=(0.9, 0.99)):
    """Chen et al. 2023, Algorithm 2."""
    (m,) = state
    beta1, take1, beta2, take2, lr = rounded(p, betas[0], 1 - betas[0], betas[1], 1 - betas[1], lr)
    for i in range(len(p)):
        p[i] = p[i] - lr * sign(beta1 * m[i] + take1 * g[i])
        m[i] = beta2 * m[i] + take2 * g[i]


def adabelief(p, g, state, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, eps_root=1e-16):
    """Zhuang et al. 2020, Algorithm 1."""
    m, s = state
    beta1, take1, beta2, take2 = rounded(p, betas[0], 1 - betas[0], betas[1], 1 - betas[1])
    step, root = rounded(p, lr / (1 - power(betas[0], t)), 1 / math.sqrt(1 - power(betas[1], t)))
    eps, eps_root = rounded(p, eps, eps_root)
    for i in range(len(p)):
        m[i] = beta1 * m[i] + take1 * g[i]
        s[i] = beta2 * s[i] + take2 * (g[i] - m[i]) * (g[i] - m[i]) + eps_root
        p[i] = p[i] - step * m[i] / (sqrt(s[i]) * root + eps)


def ftrl(p, g, state, t, *, lr, beta=1.0, l1=0.0, l2=0.0):
    """McMahan et al. 2013, Algorithm 1."""
    z, n = state
    lr, beta, l1, l2, zero = rounded(p, lr, beta, l1, l2, 0.0)
    for i in range(len(p)):
        before = sqrt(n[i])
        n[i] = n[i] + g[i] * g[i]
        after = sqrt(n[i])
        z[i] = z[i] + g[i] - (after - before) / lr * p[i]
        below = (beta + after) / lr + l2
        p[i] = zero if abs(z[i]) <= l1 or below == 0 else -(z[i] - sign(z[i]) * l1) / below


def schedule_free_weights(t, lr, weight_lr_power, carried):
    """What the average holds and takes: its weights are powers of the largest learning rate so far."""
    largest, total = carried if t > 1 else (lr, 0.0)
    largest = lr if lr > largest else largest
    weight = pow(largest, weight_lr_power)
    carried[:] = largest, total + weight
    take = weight / carried[1] if carried[1] > 0 else 0.0
    return 1 - take, take


def schedule_free_sgd(p, g, state, t, *, lr, beta=0.9, weight_lr_power=2.0):
    """Defazio et al. 2024, equations 3 to 5. Behind its arrays the state has two numbers."""
    z, x, carried = state
    hold, take = rounded(p, *schedule_free_weights(t, lr, weight_lr_power, carried))
    keep, beta, lr = rounded(p, 1 - beta, beta, lr)
    for i in range(len(p)):
        z[i] = z[i] - lr * g[i]
        x[i] = hold * x[i] + take * z[i]
        p[i] = keep * z[i] + beta * x[i]


def schedule_free_adamw(
    p, g, state, t, *, lr=2.5e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, weight_lr_power=2.0
):
    """Defazio et al. 2024, Algorithm 1, its correction of the bias under the root."""
    z, x, v, carried = state
    hold, take = rounded(p, *schedule_free_weights(t, lr, weight_lr_power, carried))
    keep, beta1, beta2, take2 = rounded(p, 1 - betas[0], betas[0], betas[1], 1 - betas[1])
    lr, root, eps, decay = rounded(p, lr, 1 / math.sqrt(1 - power(betas[1], t)), eps, weight_decay)
    for i in range(len(p)):
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        z[i] = z[i] - lr * (g[i] / (sqrt(v[i]) * root + eps) + decay * p[i])
        x[i] = hold * x[i] + take * z[i]
        p[i] = keep * z[i] + beta1 * x[i]


def lamb(p, g, state, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
    """You et al. 2020, Algorithm 2."""
    m, v = state
    beta1, take1, beta2, take2 = rounded(p, betas[0], 1 - betas[0], betas[1], 1 - betas[1])
    bias1, root = rounded(p, 1 - power(betas[0], t), 1 / math.sqrt(1 - power(betas[1], t)))
    eps, decay = rounded(p, eps, weight_decay)
    u = list(p)
    for i in range(len(p)):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        u[i] = m[i] / bias1 / (sqrt(v[i]) * root + eps) + decay * p[i]
    p_norm, u_norm = norm([p]), norm([u])
    (step,) = rounded(p, lr * (1.0 if p_norm == 0 or u_norm == 0 else p_norm / u_norm))
    for i in range(len(p)):
        p[i] = p[i] - step * u[i]


def lars(p, g, state, t, *, lr, momentum=0.9, trust_coefficient=1e-3, eps=0.0, weight_decay=0.0):
    """You, Gitman & Ginsburg 2017, Algorithm 1."""
    (b,) = state
    lr, mu, decay = rounded(p, lr, momentum, weight_decay)
    u = list(p)
    for i in range(len(p)):
        u[i] = g[i] + decay * p[i]
    p_norm, u_norm = norm([p]), norm([u])
    (trust,) = rounded(p, 1.0 if p_norm == 0 or u_norm == 0 else trust_coefficient * p_norm / (u_norm + eps))
    for i in range(len(p)):
        u[i] = u[i] * trust
        b[i] = mu * b[i] - lr * u[i]
        p[i] = p[i] + b[i]


# ---------------------------------------------------------------------- before the rule and after it
#
# Each changes its first list in place.


def negate(g):
    for i in range(len(g)):
        g[i] = -g[i]


def scale(g, factor):
    (factor,) = rounded(g, factor)
    for i in range(len(g)):
        g[i] = g[i] * factor


def clip(g, limit):
    (limit,) = rounded(g, limit)
    for i in range(len(g)):
        g[i] = clamped(g[i], -limit, limit)


def add_scaled(x, y, factor):
    """Weight decay of the gradient; the step to the point where Nesterov 1983 takes it."""
    (factor,) = rounded(x, factor)
    for i in range(len(x)):
        x[i] = x[i] + factor * y[i]


def clamp(p, lower, upper):
    for i in range(len(p)):
        p[i] = clamped(p[i], lower[i], upper[i])


def ema(a, p, decay):
    decay, take = rounded(p, decay, 1 - decay)
    for i in range(len(p)):
        a[i] = decay * a[i] + take * p[i]


def polyak(a, p, k):
    (k,) = rounded(p, k)
    for i in range(len(p)):
        a[i] = a[i] + (p[i] - a[i]) / k


def sum_of_squares(g):
    """Of one block of at most 4096 elements: eight lanes in float64, then neighbours."""
    lanes = [0.0] * 8
    for i in range(len(g)):
        lanes[i % 8] = lanes[i % 8] + float(g[i]) * float(g[i])
    return pairwise(lanes)


def pairwise(sums):
    """The sum of a list as a tree of neighbours."""
    while len(sums) > 1:
        pairs = [left + right for left, right in zip(sums[::2], sums[1::2], strict=False)]
        sums = pairs + sums[len(sums) & ~1 :]
    return sums[0] if sums else 0.0


def norm(grads):
    """The Euclidean norm of all gradients together."""
    blocks = [g[i : i + 4096] for g in grads for i in range(0, len(g), 4096)]
    return math.sqrt(pairwise([sum_of_squares(block) for block in blocks]))


def picked(rows, values):
    """Where the elements of the named rows are, and their gradients; those of a repeated row are summed in order."""
    width = len(values) // max(len(rows), 1)
    sums = {}
    for k, row in enumerate(rows):
        value = values[k * width : (k + 1) * width]
        sums[row] = [a + b for a, b in zip(sums[row], value, strict=True)] if row in sums else value
    places = [row * width + i for row in sorted(sums) for i in range(width)]
    return places, [x for row in sorted(sums) for x in sums[row]]


def step(
    rule,
    params,
    grads,
    states,
    t,
    *,
    maximize=False,
    clip_norm=math.inf,
    clip_value=math.inf,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    bounds=None,
    averaging=None,
    averages=None,
    whole=None,
    **hyper,
):
    """Update number t of several parameters: what happens before the rule, the rule, and what happens after it.

    ``rule`` is one of the functions above and ``hyper`` its keywords; ``params``, ``grads`` and ``averages`` are lists
    of lists, ``states`` a list of the rule's states, ``bounds`` a pair of lists of lists, ``averaging`` the decay of
    an EMA or "polyak". ``whole`` are the gradients whose norm counts, if not ``grads``. Gradients stay as they are.
    """
    total = norm(whole or grads) if clip_norm < math.inf else 0.0
    for k, p in enumerate(params):
        g = list(grads[k])
        if maximize:
            negate(g)
        if total > clip_norm:
            scale(g, clip_norm / total)
        if clip_value < math.inf:
            clip(g, clip_value)
        if weight_decay and not decoupled_weight_decay:
            add_scaled(g, p, weight_decay)
        if weight_decay and decoupled_weight_decay:
            scale(p, 1 - hyper["lr"] * weight_decay)
        rule(p, g, states[k], t, **hyper)
        if bounds is not None:
            clamp(p, bounds[0][k], bounds[1][k])
        if averaging == "polyak":
            polyak(averages[k], p, t)
        elif averaging is not None:
            ema(averages[k], p, averaging)


def step_rows(rule, params, grads, states, t, rows, *, bounds=None, **options):
    """As ``step``, of some rows: for each parameter a list of their numbers, or None where the gradient is for all."""
    named = [picked(r, g) if r is not None else (range(len(g)), g) for r, g in zip(rows, grads, strict=True)]
    places, grads = [where for where, _ in named], [g for _, g in named]

    def taken(lists):
        return [[x[i] for i in where] for x, where in zip(lists, places, strict=True)]

    whole = [[0.0] * len(p) for p in params]
    for k, where in enumerate(places):
        for i, x in zip(where, grads[k], strict=True):
            whole[k][i] = x
    some, kept = taken(params), [taken(state) for state in zip(*states, strict=True)]
    some_states = [list(state) for state in zip(*kept, strict=True)] or states
    if bounds is not None:
        bounds = [taken(side) for side in bounds]
    step(rule, some, grads, some_states, t, bounds=bounds, whole=whole, **options)
    for k, where in enumerate(places):
        for now, before in zip([some[k], *some_states[k]], [params[k], *states[k]], strict=True):
            for i, x in zip(where, now, strict=True):
                before[i] = x


# ---------------------------------------------------------------------- linear models
#
# Rows and coefficients are lists of floats or of numpy.float32 scalars; losses and errors are doubles.


def dot(x, y):
    """The sum of products: eight lanes in the precision of x, then neighbours."""
    lanes = [type(x[0])(0)] * 8
    for i in range(len(x)):
        lanes[i % 8] = lanes[i % 8] + x[i] * y[i]
    return pairwise(lanes)


def squared_error(score, target):
    """Half of it is the loss of a row; and the derivative of that half by the score."""
    return (score - target) * (score - target), score - target


def logistic(score, target):
    """The loss of a row, and its derivative by the score; target 1 has the probability 1 / (1 + exp(-score))."""
    margin = score if target > 0.0 else -score
    power = exp(-abs(margin))
    total = 1.0 + power
    wrong = (power if margin > 0.0 else 1.0) / total  # the probability of the other class
    # log(1 + power), where 1 + power is rounded (Kahan): the log of what it is, times what was lost.
    small = power if total == 1.0 else log(total) * (power / (total - 1.0))
    return small - (0.0 if margin > 0.0 else margin), -wrong if target > 0.0 else wrong


def linear_batch(loss, rows, targets, weights, coef, intercept, l2):
    """The mean loss of a batch with the penalty, its gradient by coef and by the intercept, and the gradient's norm.

    ``loss`` is one of the two functions above; ``weights`` are those of the rows, or None. So may intercept be.
    """
    real = type(coef[0])
    total, count, shift, gradient = 0.0, float(len(rows)), real(0), None
    for i, x in enumerate(rows):
        value, error = loss(float(dot(x, coef) + (real(0) if intercept is None else intercept)), float(targets[i]))
        if weights is not None:
            value, error = value * float(weights[i]), error * float(weights[i])
        total += value
        share = real(error / count)
        shift = shift if intercept is None else shift + share
        products = [share * element for element in x]
        gradient = (
            products if gradient is None else [g + product for g, product in zip(gradient, products, strict=True)]
        )
    mean = (total / 2.0 if loss is squared_error else total) / count
    if l2:
        mean += l2 / 2.0 * float(dot(coef, coef))
        gradient = [g + real(l2) * w for g, w in zip(gradient, coef, strict=True)]
    return mean, gradient, shift, math.sqrt(dot(gradient, gradient) + shift * shift)


# ---------------------------------------------------------------------- schedules
#
# Each takes the fields of the class of that name, in their order, and the number t of completed updates, an int. Ends
# are selected, not computed, so that they are exact. Combinators take functions of t.

FOREVER = 2**63 - 1


def constant(lr, t):
    return lr


def step_decay(lr, size, gamma, t):
    """The class is Step."""
    return lr * power(gamma, t // size)


def multi_step(lr, milestones, gamma, t):
    return lr * power(gamma, sum(milestone <= t for milestone in milestones))


def piecewise(values, boundaries, t):
    return values[sum(boundary <= t for boundary in boundaries)]


def exponential(lr, rate, steps, staircase, t):
    if staircase:
        return step_decay(lr, steps, rate, t)
    return lr * pow(rate, float(t) / float(steps))


def inverse_time(lr, rate, steps, t):
    return lr / (1.0 + rate * float(t) / float(steps))


def raised(x, power):
    """x ** power: a root and products where the power is a small multiple of 1/2."""
    if 2.0 * power not in range(1, 9):
        return pow(x, power)
    result = math.sqrt(x) if 2.0 * power % 2.0 == 1.0 else 1.0
    for _ in range(int(power)):
        result = result * x
    return result


def inverse_power(lr, power, offset, t):
    return lr / raised(float(t) + offset, power)


def linear(start, end, steps, t):
    if t == 0:
        return start
    return start + (end - start) * float(t) / float(steps) if t < steps else end


def polynomial(start, end, steps, power, t):
    if t == 0:
        return start
    return (start - end) * raised(1.0 - float(t) / float(steps), power) + end if t < steps else end


def root(start, end, steps, t):
    if t == 0:
        return start
    return end + (start - end) * (1.0 - math.sqrt(float(t) / float(steps))) if t < steps else end


def growing(lr, rate, cap, t):
    return min(cap, lr * (1.0 + rate * float(t)))


def cosine(start, end, steps, t):
    if t == 0 < steps:
        return start
    return end + (start - end) * (1.0 + cos(math.pi * float(t) / float(steps))) / 2.0 if t < steps else end


def cosine_restarts(start, end, steps, mult, decay, t):
    cycle, length = t // steps, steps
    if mult == 1:
        t = t % steps
    else:
        cycle = 0
        while t >= length:
            t, cycle, length = t - length, cycle + 1, min(length * mult, FOREVER)
    return cosine(start * power(decay, cycle), end, length - 1, t)


def cyclic(low, high, up, down, mode, gamma, t):
    down = up if down is None else down
    cycle, place = t // (up + down), t % (up + down)
    share = place / up if place <= up else (up + down - place) / down
    factor = {"triangular": 1.0, "triangular2": power(0.5, cycle), "exp_range": power(gamma, t)}[mode]
    return high if share == factor == 1.0 else low + (high - low) * share * factor


def one_cycle(peak, steps, pct, start, end, shape, t):
    start = peak / 25 if start is None else start
    end = start / 10_000 if end is None else end
    piece = {"cosine": cosine, "linear": linear}[shape]
    top = min(max(round(pct * (steps - 1)), 1), steps - 2)
    return piece(start, peak, top, t) if t < top else piece(peak, end, steps - 1 - top, t - top)


def noam(d, warmup, scale, t):
    s = float(t) + 1.0
    return scale * pow(float(d), -0.5) * min(1.0 / math.sqrt(s), s * pow(float(warmup), -1.5))


def warmup_stable_decay(lr, warmup, stable, decay, end, shape, t):
    if t < warmup:
        return linear(0.0, lr, warmup, t + 1)
    if t < warmup + stable:
        return lr
    return {"linear": linear, "cosine": cosine, "sqrt": root}[shape](lr, end, decay, t - warmup - stable)


def warmup(steps, then, start, t):
    return linear(start, then(0), steps, t + 1) if t < steps else then(t - steps)


def join(schedules, boundaries, t):
    part = sum(boundary <= t for boundary in boundaries)
    return schedules[part](t if part == 0 else t - boundaries[part - 1])


def times(schedule, factor, t):
    return schedule(t) * factor


def clamp_schedule(schedule, low, high, t):
    return clamped(schedule(t), low, high)


def shift(schedule, n, t):
    return schedule(min(t + n, FOREVER))


def every(schedule, n, t):
    return schedule(t // n)
