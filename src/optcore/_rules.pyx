"""The update rules: one loop each, float32 and float64 from one text.

A loop sees one contiguous run of n elements: parameters p, gradients g, the rule's own state, and h, the scalars
of this step, already rounded to the dtype. It knows nothing of parameter lists, schedules, clipping or threads.
Beside each loop stands the function that prepares h from the hyper-parameters c, in float64. The same names and
lines in plain Python are in optcore/reference.py.

Design
------
- Every operation is rounded once, in the order written. The build forbids contraction and reassociation (setup.py),
  so the bits do not depend on the instruction set, and no loop needs a hand-written tail.
- Selects are written without branches (`|` between comparisons), so that every loop vectorises; a test reads the
  compiler's report.
- Switches never reach a loop. They choose another loop (`centered`) or other scalars (`eps_in`, `eps_out`).
- A rule that needs norms, of its step among others, has a first loop that gives the direction of the step. It runs
  once, and it alone moves what the direction is made of (lamb's moments). The direction is not stored between the two:
  that would cost an array and as much memory traffic as computing it again.
- Momentum does not share a loop with plain RMSProp although momentum = 0 would do: it would carry a dead array.
"""

from typing import NamedTuple

from libc.math cimport copysign as copysign64, copysignf as copysign32, fabs, fabsf, sqrt as sqrt64, sqrtf as sqrt32

from optcore._scalars cimport pow, power


cdef extern from *:
    """
    #ifdef OPTCORE_AVX2
    #define OPTCORE_HAS_AVX2 (__builtin_cpu_supports("avx2") != 0)
    #else
    #define OPTCORE_HAS_AVX2 0
    #endif
    """
    const bint OPTCORE_HAS_AVX2

# Whether there is another build of the loops, and the CPU can run it.
HAS_AVX2 = bool(OPTCORE_HAS_AVX2)


cdef inline real sqrt(real x) noexcept nogil:
    if real is float:
        return sqrt32(x)
    else:
        return sqrt64(x)


cdef inline real magnitude(real x) noexcept nogil:
    if real is float:
        return fabsf(x)
    else:
        return fabs(x)


cdef inline real maximum(real a, real b) noexcept nogil:
    """NaN goes through whichever argument holds it."""
    return a if (a > b) | (a != a) else b


cdef inline real clamped(real x, real lower, real upper) noexcept nogil:
    """min(max(x, lower), upper) for bounds that are numbers; NaN goes through."""
    cdef real raised = lower if x < lower else x
    return upper if raised > upper else raised


cdef inline real sign(real x) noexcept nogil:
    """1, -1, or x itself where it is a zero or NaN."""
    if real is float:
        return copysign32(1, x) if fabsf(x) > 0 else x
    else:
        return copysign64(1, x) if fabs(x) > 0 else x


# ---------------------------------------------------------------------- update rules


cdef void sgd_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    h[0] = c[0]


cdef void sgd(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Robbins & Monro 1951."""
    cdef real lr = h[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - lr * g[i]


cdef void gradient_scaled_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], scale = c[1]
    h[0] = lr * scale


cdef void gradient_scaled(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """The step grows with the gradient's magnitude."""
    cdef real lr = h[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - lr * magnitude(g[i]) * g[i]


cdef void momentum_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], mu = c[1], dampening = c[2]
    cdef bint ema = c[3] != 0.0
    # The heavy ball starts at the first gradient, the moving average at zero.
    h[0] = 0.0 if t == 1 and not ema else mu
    h[1] = 1.0 - mu if ema else (1.0 if t == 1 else 1.0 - dampening)
    h[2] = lr
    h[3] = mu


cdef void momentum(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Polyak 1964, the learning rate outside the buffer."""
    cdef real* b = state[0]
    cdef real keep = h[0], take = h[1], lr = h[2]
    cdef Py_ssize_t i
    for i in range(n):
        b[i] = keep * b[i] + take * g[i]
        p[i] = p[i] - lr * b[i]


cdef void velocity_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], mu = c[1]
    h[0] = mu
    h[1] = lr


cdef void velocity(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Sutskever et al. 2013, equations 1 and 2: the learning rate inside the velocity."""
    cdef real* v = state[0]
    cdef real mu = h[0], lr = h[1]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = mu * v[i] - lr * g[i]
        p[i] = p[i] + v[i]


cdef void nesterov(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Nesterov 1983 in the one-gradient form of Sutskever et al. 2013."""
    cdef real* b = state[0]
    cdef real keep = h[0], take = h[1], lr = h[2], mu = h[3]
    cdef Py_ssize_t i
    for i in range(n):
        b[i] = keep * b[i] + take * g[i]
        p[i] = p[i] - lr * (g[i] + mu * b[i])


cdef void adagrad_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], lr_decay = c[1], eps = c[2]
    cdef bint inside = c[3] != 0.0
    h[0] = lr / (1.0 + <double> (t - 1) * lr_decay)
    h[1] = eps if inside else 0.0
    h[2] = 0.0 if inside else eps


cdef void adagrad(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Duchi, Hazan & Singer 2011, the diagonal form of Figure 1."""
    cdef real* s = state[0]
    cdef real clr = h[0], eps_in = h[1], eps_out = h[2]
    cdef Py_ssize_t i
    for i in range(n):
        s[i] = s[i] + g[i] * g[i]
        p[i] = p[i] - clr * g[i] / (sqrt(s[i] + eps_in) + eps_out)


cdef void rmsprop_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], alpha = c[1], eps = c[2], mu = c[4]
    cdef bint inside = c[3] != 0.0
    h[0] = lr
    h[1] = alpha
    h[2] = 1.0 - alpha
    h[3] = eps if inside else 0.0
    h[4] = 0.0 if inside else eps
    h[5] = mu


cdef void rmsprop(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Tieleman & Hinton 2012, lecture 6.5."""
    cdef real* s = state[0]
    cdef real lr = h[0], alpha = h[1], take = h[2], eps_in = h[3], eps_out = h[4]
    cdef Py_ssize_t i
    for i in range(n):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        p[i] = p[i] - lr * g[i] / (sqrt(s[i] + eps_in) + eps_out)


cdef void rmsprop_momentum(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """RMSProp with a heavy ball over the scaled gradient."""
    cdef real* s = state[0]
    cdef real* b = state[1]
    cdef real lr = h[0], alpha = h[1], take = h[2], eps_in = h[3], eps_out = h[4], mu = h[5]
    cdef Py_ssize_t i
    for i in range(n):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        b[i] = mu * b[i] + g[i] / (sqrt(s[i] + eps_in) + eps_out)
        p[i] = p[i] - lr * b[i]


cdef void rmsprop_centered(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Graves 2013, equations 38 to 40: the variance in place of the second moment."""
    cdef real* s = state[0]
    cdef real* m = state[1]
    cdef real lr = h[0], alpha = h[1], take = h[2], eps_in = h[3], eps_out = h[4], zero = 0
    cdef Py_ssize_t i
    for i in range(n):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        m[i] = m[i] + take * (g[i] - m[i])
        p[i] = p[i] - lr * g[i] / (sqrt(maximum(s[i] - m[i] * m[i], zero) + eps_in) + eps_out)


cdef void rmsprop_centered_momentum(
    Py_ssize_t n, real* p, const real* g, real** state, const real* h
) noexcept nogil:
    """Graves 2013, equations 38 to 42."""
    cdef real* s = state[0]
    cdef real* m = state[1]
    cdef real* b = state[2]
    cdef real lr = h[0], alpha = h[1], take = h[2], eps_in = h[3], eps_out = h[4], mu = h[5], zero = 0
    cdef Py_ssize_t i
    for i in range(n):
        s[i] = alpha * s[i] + take * g[i] * g[i]
        m[i] = m[i] + take * (g[i] - m[i])
        b[i] = mu * b[i] + g[i] / (sqrt(maximum(s[i] - m[i] * m[i], zero) + eps_in) + eps_out)
        p[i] = p[i] - lr * b[i]


cdef void adadelta_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], rho = c[1], eps = c[2]
    h[0] = lr
    h[1] = rho
    h[2] = 1.0 - rho
    h[3] = eps


cdef void adadelta(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Zeiler 2012, Algorithm 1."""
    cdef real* s = state[0]
    cdef real* a = state[1]
    cdef real lr = h[0], rho = h[1], take = h[2], eps = h[3], d
    cdef Py_ssize_t i
    for i in range(n):
        s[i] = rho * s[i] + take * g[i] * g[i]
        d = sqrt(a[i] + eps) / sqrt(s[i] + eps) * g[i]
        a[i] = rho * a[i] + take * d * d
        p[i] = p[i] - lr * d


cdef void rprop_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double shrink = c[0], grow = c[1], smallest = c[2], largest = c[3], forget = c[4]
    h[0] = shrink
    h[1] = grow
    h[2] = smallest
    h[3] = largest
    h[4] = forget


cdef void rprop(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Igel & Huesken 2000: iRprop-, and with forget = 0 the Rprop- of Riedmiller & Braun 1993."""
    cdef real* prev = state[0]
    cdef real* step = state[1]
    cdef real shrink = h[0], grow = h[1], smallest = h[2], largest = h[3], forget = h[4], one = 1, zero = 0
    cdef real s, factor, kept
    cdef Py_ssize_t i
    for i in range(n):
        kept = g[i]
        s = sign(kept * prev[i])
        factor = grow if s > 0 else (shrink if s < 0 else one)
        step[i] = clamped(step[i] * factor, smallest, largest)
        kept = zero if s * forget < 0 else kept
        p[i] = p[i] - sign(kept) * step[i]
        prev[i] = kept


cdef void adam_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta1 = c[1], beta2 = c[2], eps = c[3]
    cdef int form = <int> c[4]  # eps outside the root, inside, or "hat"
    cdef double bias1 = 1.0 - power(beta1, t, &kept.powers[0])
    cdef double bias2 = 1.0 - power(beta2, t, &kept.powers[1])
    h[0] = beta1
    h[1] = 1.0 - beta1
    h[2] = beta2
    h[3] = 1.0 - beta2
    h[4] = lr * sqrt(bias2) / bias1 if form == 2 else lr / bias1
    h[5] = 1.0 if form == 2 else 1.0 / sqrt(bias2)
    h[6] = eps * bias2 if form == 1 else 0.0
    h[7] = 0.0 if form == 1 else eps


cdef void adam(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Kingma & Ba 2015, Algorithm 1."""
    cdef real* m = state[0]
    cdef real* v = state[1]
    cdef real beta1 = h[0], take1 = h[1], beta2 = h[2], take2 = h[3]
    cdef real step = h[4], root = h[5], eps_in = h[6], eps_out = h[7]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        p[i] = p[i] - step * m[i] / (sqrt(v[i] + eps_in) * root + eps_out)


cdef void amsgrad(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Reddi, Kale & Kumar 2018, Algorithm 2, with Adam's bias corrections."""
    cdef real* m = state[0]
    cdef real* v = state[1]
    cdef real* vmax = state[2]
    cdef real beta1 = h[0], take1 = h[1], beta2 = h[2], take2 = h[3]
    cdef real step = h[4], root = h[5], eps_in = h[6], eps_out = h[7]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        vmax[i] = maximum(vmax[i], v[i])
        p[i] = p[i] - step * m[i] / (sqrt(vmax[i] + eps_in) * root + eps_out)


cdef void adamax_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta1 = c[1], beta2 = c[2], eps = c[3]
    h[0] = beta1
    h[1] = 1.0 - beta1
    h[2] = beta2
    h[3] = eps
    h[4] = lr / (1.0 - power(beta1, t, &kept.powers[0]))


cdef void adamax(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Kingma & Ba 2015, Algorithm 2."""
    cdef real* m = state[0]
    cdef real* u = state[1]
    cdef real beta1 = h[0], take1 = h[1], beta2 = h[2], eps = h[3], step = h[4]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + take1 * g[i]
        u[i] = maximum(beta2 * u[i], magnitude(g[i]) + eps)
        p[i] = p[i] - step * m[i] / u[i]


# Below it, 1 - product is 1: further factors would change nothing.
cdef double NEGLIGIBLE = 2.0**-60


cdef inline double nadam_mu(double beta1, double decay, int64_t t) noexcept nogil:
    return beta1 * (1.0 - 0.5 * pow(0.96, <double> t * decay))


cdef void nadam_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta1 = c[1], beta2 = c[2], eps = c[3], decay = c[4]
    cdef double mu, after
    if kept.until == 0 or kept.until > t or kept.factors[0] != beta1 or kept.factors[1] != decay:
        kept.factors[0], kept.factors[1], kept.until, kept.product = beta1, decay, 0, 1.0
    while kept.until < t and kept.product > NEGLIGIBLE:
        kept.until += 1
        kept.product = kept.product * nadam_mu(beta1, decay, kept.until)
    kept.until = t
    mu, after = nadam_mu(beta1, decay, t), nadam_mu(beta1, decay, t + 1)
    h[0] = beta1
    h[1] = 1.0 - beta1
    h[2] = beta2
    h[3] = 1.0 - beta2
    h[4] = 1.0 / sqrt(1.0 - power(beta2, t, &kept.powers[1]))
    h[5] = eps
    h[6] = lr * (1.0 - mu) / (1.0 - kept.product)
    h[7] = lr * after / (1.0 - kept.product * after)


cdef void nadam(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Dozat 2016."""
    cdef real* m = state[0]
    cdef real* v = state[1]
    cdef real beta1 = h[0], take1 = h[1], beta2 = h[2], take2 = h[3], root = h[4], eps = h[5], cg = h[6], cm = h[7]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        p[i] = p[i] - (cg * g[i] + cm * m[i]) / (sqrt(v[i]) * root + eps)


cdef void radam_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta1 = c[1], beta2 = c[2], eps = c[3]
    cdef double decayed = power(beta2, t, &kept.powers[1])
    cdef double bias1 = 1.0 - power(beta1, t, &kept.powers[0]), bias2 = 1.0 - decayed
    cdef double longest = 2.0 / (1.0 - beta2) - 1.0
    cdef double length = longest - 2.0 * <double> t * decayed / bias2
    cdef double rectified
    h[0] = beta1
    h[1] = 1.0 - beta1
    h[2] = beta2
    h[3] = 1.0 - beta2
    if length > 5.0:
        rectified = sqrt(
            (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        )
        h[4], h[5], h[6] = lr * rectified * sqrt(bias2) / bias1, 1.0, eps
    else:  # too few squares for a variance: the denominator is 1
        h[4], h[5], h[6] = lr / bias1, 0.0, 1.0


cdef void radam(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Liu et al. 2020, Algorithm 2."""
    cdef real* m = state[0]
    cdef real* v = state[1]
    cdef real beta1 = h[0], take1 = h[1], beta2 = h[2], take2 = h[3], step = h[4], root = h[5], eps = h[6], below
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        below = sqrt(v[i]) * root + eps
        p[i] = p[i] - step * m[i] / (below if root > 0 else eps)


cdef void lion_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta1 = c[1], beta2 = c[2]
    h[0] = beta1
    h[1] = 1.0 - beta1
    h[2] = beta2
    h[3] = 1.0 - beta2
    h[4] = lr


cdef void lion(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Chen et al. 2023, Algorithm 2."""
    cdef real* m = state[0]
    cdef real beta1 = h[0], take1 = h[1], beta2 = h[2], take2 = h[3], lr = h[4]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - lr * sign(beta1 * m[i] + take1 * g[i])
        m[i] = beta2 * m[i] + take2 * g[i]


cdef void adabelief_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta1 = c[1], beta2 = c[2], eps = c[3], eps_root = c[4]
    h[0] = beta1
    h[1] = 1.0 - beta1
    h[2] = beta2
    h[3] = 1.0 - beta2
    h[4] = lr / (1.0 - power(beta1, t, &kept.powers[0]))
    h[5] = 1.0 / sqrt(1.0 - power(beta2, t, &kept.powers[1]))
    h[6] = eps
    h[7] = eps_root


cdef void adabelief(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Zhuang et al. 2020, Algorithm 1."""
    cdef real* m = state[0]
    cdef real* s = state[1]
    cdef real beta1 = h[0], take1 = h[1], beta2 = h[2], take2 = h[3], step = h[4], root = h[5], eps = h[6]
    cdef real eps_root = h[7]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + take1 * g[i]
        s[i] = beta2 * s[i] + take2 * (g[i] - m[i]) * (g[i] - m[i]) + eps_root
        p[i] = p[i] - step * m[i] / (sqrt(s[i]) * root + eps)


cdef void ftrl_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta = c[1], l1 = c[2], l2 = c[3]
    h[0] = lr
    h[1] = beta
    h[2] = l1
    h[3] = l2


cdef void ftrl(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """McMahan et al. 2013, Algorithm 1."""
    cdef real* z = state[0]
    cdef real* n_ = state[1]
    cdef real lr = h[0], beta = h[1], l1 = h[2], l2 = h[3], zero = 0, before, after, below, x
    cdef Py_ssize_t i
    for i in range(n):
        before = sqrt(n_[i])
        n_[i] = n_[i] + g[i] * g[i]
        after = sqrt(n_[i])
        z[i] = z[i] + g[i] - (after - before) / lr * p[i]
        below = (beta + after) / lr + l2
        x = -(z[i] - sign(z[i]) * l1) / below
        p[i] = zero if (magnitude(z[i]) <= l1) | (below == 0) else x


cdef void schedule_free_weights(int64_t t, double lr, double power_of_lr, Kept* kept, double* h) noexcept nogil:
    """What the average holds and takes: the weights are powers of the largest learning rate so far."""
    cdef double largest = lr if t == 1 or lr > kept.carried[0] else kept.carried[0]
    cdef double weight = pow(largest, power_of_lr)
    cdef double total = weight if t == 1 else kept.carried[1] + weight
    cdef double take = weight / total if total > 0.0 else 0.0
    kept.after[0] = largest
    kept.after[1] = total
    h[0] = 1.0 - take
    h[1] = take


cdef void schedule_free_sgd_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta = c[1], weight_lr_power = c[2]
    schedule_free_weights(t, lr, weight_lr_power, kept, h)
    h[2] = 1.0 - beta
    h[3] = beta
    h[4] = lr


cdef void schedule_free_sgd(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Defazio et al. 2024, equations 3 to 5."""
    cdef real* z = state[0]
    cdef real* x = state[1]
    cdef real hold = h[0], take = h[1], keep = h[2], beta = h[3], lr = h[4]
    cdef Py_ssize_t i
    for i in range(n):
        z[i] = z[i] - lr * g[i]
        x[i] = hold * x[i] + take * z[i]
        p[i] = keep * z[i] + beta * x[i]


cdef void schedule_free_adamw_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], beta1 = c[1], beta2 = c[2], eps = c[3], decay = c[4], weight_lr_power = c[5]
    schedule_free_weights(t, lr, weight_lr_power, kept, h)
    h[2] = 1.0 - beta1
    h[3] = beta1
    h[4] = beta2
    h[5] = 1.0 - beta2
    h[6] = lr
    h[7] = 1.0 / sqrt(1.0 - power(beta2, t, &kept.powers[1]))
    h[8] = eps
    h[9] = decay


cdef void schedule_free_adamw(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """Defazio et al. 2024, Algorithm 1, its correction of the bias under the root."""
    cdef real* z = state[0]
    cdef real* x = state[1]
    cdef real* v = state[2]
    cdef real hold = h[0], take = h[1], keep = h[2], beta1 = h[3], beta2 = h[4], take2 = h[5]
    cdef real lr = h[6], root = h[7], eps = h[8], decay = h[9]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        z[i] = z[i] - lr * (g[i] / (sqrt(v[i]) * root + eps) + decay * p[i])
        x[i] = hold * x[i] + take * z[i]
        p[i] = keep * z[i] + beta1 * x[i]


cdef void lamb_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double beta1 = c[1], beta2 = c[2], eps = c[3], decay = c[4]
    h[1] = beta1
    h[2] = 1.0 - beta1
    h[3] = beta2
    h[4] = 1.0 - beta2
    h[5] = 1.0 - power(beta1, t, &kept.powers[0])
    h[6] = 1.0 / sqrt(1.0 - power(beta2, t, &kept.powers[1]))
    h[7] = eps
    h[8] = decay


cdef void lamb_direction(
    Py_ssize_t n, real* u, const real* p, const real* g, real** state, const real* h
) noexcept nogil:
    cdef real* m = state[0]
    cdef real* v = state[1]
    cdef real beta1 = h[1], take1 = h[2], beta2 = h[3], take2 = h[4], bias1 = h[5], root = h[6], eps = h[7], decay = h[8]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + take1 * g[i]
        v[i] = beta2 * v[i] + take2 * g[i] * g[i]
        u[i] = m[i] / bias1 / (sqrt(v[i]) * root + eps) + decay * p[i]


cdef double lamb_trust(const double* c, double p_norm, double u_norm) noexcept nogil:
    cdef double lr = c[0]
    return lr * (1.0 if p_norm == 0.0 or u_norm == 0.0 else p_norm / u_norm)


cdef void lamb(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """You et al. 2020, Algorithm 2."""
    cdef real* m = state[0]
    cdef real* v = state[1]
    cdef real step = h[0], bias1 = h[5], root = h[6], eps = h[7], decay = h[8], u
    cdef Py_ssize_t i
    for i in range(n):
        u = m[i] / bias1 / (sqrt(v[i]) * root + eps) + decay * p[i]
        p[i] = p[i] - step * u


cdef void lars_scalars(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil:
    cdef double lr = c[0], mu = c[1], decay = c[4]
    h[1] = lr
    h[2] = mu
    h[3] = decay


cdef void lars_direction(
    Py_ssize_t n, real* u, const real* p, const real* g, real** state, const real* h
) noexcept nogil:
    cdef real decay = h[3]
    cdef Py_ssize_t i
    for i in range(n):
        u[i] = g[i] + decay * p[i]


cdef double lars_trust(const double* c, double p_norm, double u_norm) noexcept nogil:
    cdef double trust_coefficient = c[2], eps = c[3]
    return 1.0 if p_norm == 0.0 or u_norm == 0.0 else trust_coefficient * p_norm / (u_norm + eps)


cdef void lars(Py_ssize_t n, real* p, const real* g, real** state, const real* h) noexcept nogil:
    """You, Gitman & Ginsburg 2017, Algorithm 1."""
    cdef real* b = state[0]
    cdef real trust = h[0], lr = h[1], mu = h[2], decay = h[3], u
    cdef Py_ssize_t i
    for i in range(n):
        u = (g[i] + decay * p[i]) * trust
        b[i] = mu * b[i] - lr * u
        p[i] = p[i] + b[i]


# ---------------------------------------------------------------------- before the rule and after it


cdef void negate(Py_ssize_t n, real* g) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = -g[i]


cdef void scale(Py_ssize_t n, real* g, real factor) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = g[i] * factor


cdef void clip(Py_ssize_t n, real* g, real limit) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        g[i] = clamped(g[i], -limit, limit)


cdef void add_scaled(Py_ssize_t n, real* x, const real* y, real factor) noexcept nogil:
    """Weight decay of the gradient; the step to the point where Nesterov 1983 takes it."""
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = x[i] + factor * y[i]


cdef void clamp(Py_ssize_t n, real* p, const real* lower, const real* upper) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = clamped(p[i], lower[i], upper[i])


cdef void ema(Py_ssize_t n, real* a, const real* p, real decay, real take) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        a[i] = decay * a[i] + take * p[i]


cdef void polyak(Py_ssize_t n, real* a, const real* p, real k) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        a[i] = a[i] + (p[i] - a[i]) / k


cdef void add_squares(Py_ssize_t n, const real* g, double* lanes) noexcept nogil:
    """In lanes, so that the sum has one shape on every machine and still vectorises."""
    cdef double[LANES] sums
    cdef double x
    cdef Py_ssize_t i, j, whole = n - n % LANES
    for j in range(LANES):
        sums[j] = lanes[j]
    for i in range(n // LANES):
        for j in range(LANES):
            x = g[LANES * i + j]
            sums[j] = sums[j] + x * x
    for j in range(n - whole):
        x = g[whole + j]
        sums[j] = sums[j] + x * x
    for j in range(LANES):
        lanes[j] = sums[j]


cdef bint has_nonfinite(Py_ssize_t n, const real* g) noexcept nogil:
    """x - x is zero, or NaN; lanes as above, because a sum in one variable would not vectorise."""
    cdef real[LANES] lanes
    cdef Py_ssize_t i, j, whole = n - n % LANES
    for j in range(LANES):
        lanes[j] = 0
    for i in range(n // LANES):
        for j in range(LANES):
            lanes[j] = lanes[j] + (g[LANES * i + j] - g[LANES * i + j])
    for i in range(whole, n):
        lanes[0] = lanes[0] + (g[i] - g[i])
    for j in range(LANES):
        if lanes[j] != 0:
            return True
    return False


# ---------------------------------------------------------------------- the catalogue of loops


class Rule(NamedTuple):
    """The names of a rule's state arrays, of its hyper-parameters in the order of c, and where its functions are."""

    name: str
    state: tuple
    hyper: tuple
    scalars: int
    loop32: int
    loop64: int
    carried: tuple
    """Names of numbers that a group carries from step to step."""
    direction32: int
    direction64: int
    trust: int
    """These three are 0 where the rule needs no norms."""


RULES = {}


cdef int add(
    str name, tuple state, tuple hyper, Scalars scalars, Loop32 loop32, Loop64 loop64, tuple carried=(),
    Direction32 direction32=NULL, Direction64 direction64=NULL, Trust trust=NULL,
) except -1:
    if len(state) > MAX_STATE or len(hyper) > MAX_HYPER or len(carried) > MAX_CARRIED:
        raise ValueError(f"{name} has more state or hyper-parameters than _rules.pxd makes room for")
    RULES[name] = Rule(
        name, state, hyper, <size_t> scalars, <size_t> loop32, <size_t> loop64, carried,
        <size_t> direction32, <size_t> direction64, <size_t> trust,
    )


MOMENTUM = ("lr", "momentum", "dampening", "ema")
RMSPROP = ("lr", "alpha", "eps", "inside", "momentum")
ADAM = ("lr", "betas[0]", "betas[1]", "eps", "form")
CARRIED = ("largest_lr", "sum_of_weights")

add("sgd", (), ("lr",), sgd_scalars, sgd[float], sgd[double])
add("gradient_scaled", (), ("lr", "scale"), gradient_scaled_scalars, gradient_scaled[float], gradient_scaled[double])
add("momentum", ("b",), MOMENTUM, momentum_scalars, momentum[float], momentum[double])
add("velocity", ("v",), ("lr", "momentum"), velocity_scalars, velocity[float], velocity[double])
add("nesterov", ("b",), MOMENTUM, momentum_scalars, nesterov[float], nesterov[double])
add("adagrad", ("s",), ("lr", "lr_decay", "eps", "inside"), adagrad_scalars, adagrad[float], adagrad[double])
add("rmsprop", ("s",), RMSPROP, rmsprop_scalars, rmsprop[float], rmsprop[double])
add("rmsprop_momentum", ("s", "b"), RMSPROP, rmsprop_scalars, rmsprop_momentum[float], rmsprop_momentum[double])
add("rmsprop_centered", ("s", "m"), RMSPROP, rmsprop_scalars, rmsprop_centered[float], rmsprop_centered[double])
add(
    "rmsprop_centered_momentum", ("s", "m", "b"), RMSPROP,
    rmsprop_scalars, rmsprop_centered_momentum[float], rmsprop_centered_momentum[double],
)
add("adadelta", ("s", "a"), ("lr", "rho", "eps"), adadelta_scalars, adadelta[float], adadelta[double])
add(
    "rprop", ("prev", "step"), ("etas[0]", "etas[1]", "step_sizes[0]", "step_sizes[1]", "forget"),
    rprop_scalars, rprop[float], rprop[double],
)
add("adam", ("m", "v"), ADAM, adam_scalars, adam[float], adam[double])
add("amsgrad", ("m", "v", "vmax"), ADAM, adam_scalars, amsgrad[float], amsgrad[double])
add("adamax", ("m", "u"), ("lr", "betas[0]", "betas[1]", "eps"), adamax_scalars, adamax[float], adamax[double])
add("nadam", ("m", "v"), ("lr", "betas[0]", "betas[1]", "eps", "momentum_decay"), nadam_scalars, nadam[float], nadam[double])
add("radam", ("m", "v"), ("lr", "betas[0]", "betas[1]", "eps"), radam_scalars, radam[float], radam[double])
add("lion", ("m",), ("lr", "betas[0]", "betas[1]"), lion_scalars, lion[float], lion[double])
add(
    "adabelief", ("m", "s"), ("lr", "betas[0]", "betas[1]", "eps", "eps_root"),
    adabelief_scalars, adabelief[float], adabelief[double],
)
add("ftrl", ("z", "n"), ("lr", "beta", "l1", "l2"), ftrl_scalars, ftrl[float], ftrl[double])
add(
    "schedule_free_sgd", ("z", "x"), ("lr", "beta", "weight_lr_power"),
    schedule_free_sgd_scalars, schedule_free_sgd[float], schedule_free_sgd[double], CARRIED,
)
add(
    "schedule_free_adamw", ("z", "x", "v"), ("lr", "betas[0]", "betas[1]", "eps", "weight_decay", "weight_lr_power"),
    schedule_free_adamw_scalars, schedule_free_adamw[float], schedule_free_adamw[double], CARRIED,
)
add(
    "lamb", ("m", "v"), ("lr", "betas[0]", "betas[1]", "eps", "weight_decay"),
    lamb_scalars, lamb[float], lamb[double], (), lamb_direction[float], lamb_direction[double], lamb_trust,
)
add(
    "lars", ("b",), ("lr", "momentum", "trust_coefficient", "eps", "weight_decay"),
    lars_scalars, lars[float], lars[double], (), lars_direction[float], lars_direction[double], lars_trust,
)
