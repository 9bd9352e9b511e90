"""The update rules as C functions, for the engine."""

from libc.stdint cimport int64_t

from optcore._scalars cimport Powers

ctypedef fused real:
    float
    double

cdef enum:
    MAX_STATE = 4
    MAX_HYPER = 8
    MAX_SCALARS = 10
    MAX_CARRIED = 2
    LANES = 8

ctypedef void (*Loop32)(Py_ssize_t n, float* p, const float* g, float** state, const float* h) noexcept nogil
ctypedef void (*Loop64)(Py_ssize_t n, double* p, const double* g, double** state, const double* h) noexcept nogil

# Of a rule that must know norms first. Direction gives u, the direction of the step; it runs once in each step, before
# the loop, and what it changes in the state the loop finds changed. Trust makes h[0] of the norms of p and u.
ctypedef void (*Direction32)(
    Py_ssize_t n, float* u, const float* p, const float* g, float** state, const float* h
) noexcept nogil
ctypedef void (*Direction64)(
    Py_ssize_t n, double* u, const double* p, const double* g, double** state, const double* h
) noexcept nogil
ctypedef double (*Trust)(const double* c, double p_norm, double u_norm) noexcept nogil

cdef struct Kept:
    # What `Rule.carried` names, and what it is to be when the step has been made.
    double carried[MAX_CARRIED]
    double after[MAX_CARRIED]
    # The rest saves work from step to step, but changes no result.
    Powers powers[2]
    double factors[2]  # of which nadam's product is: its beta1 and its decay
    int64_t until  # the last factor that it has
    double product

# Fills h, the scalars of update t = 1, 2, ..., from c, the hyper-parameters in the order of `Rule.hyper`.
ctypedef void (*Scalars)(int64_t t, const double* c, double* h, Kept* kept) noexcept nogil

# Before the rule and after it: each changes its first buffer in place.
cdef void negate(Py_ssize_t n, real* g) noexcept nogil
cdef void scale(Py_ssize_t n, real* g, real factor) noexcept nogil
cdef void clip(Py_ssize_t n, real* g, real limit) noexcept nogil
cdef void add_scaled(Py_ssize_t n, real* x, const real* y, real factor) noexcept nogil
cdef void clamp(Py_ssize_t n, real* p, const real* lower, const real* upper) noexcept nogil
cdef void ema(Py_ssize_t n, real* a, const real* p, real decay, real take) noexcept nogil
cdef void polyak(Py_ssize_t n, real* a, const real* p, real k) noexcept nogil

# Reductions. The squares of a block are summed in LANES lanes, run by run: each but the last is a multiple of LANES long.
cdef void add_squares(Py_ssize_t n, const real* g, double* lanes) noexcept nogil

cdef inline real sum_of_lanes(const real* lanes) noexcept nogil:
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))

cdef bint has_nonfinite(Py_ssize_t n, const real* g) noexcept nogil
