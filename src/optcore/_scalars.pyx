"""The scalar functions of _scalars.pxd from Python, to be tried and tested: one value at a time, and over
arrays in C loops, which compilers turn into vector instructions."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memset

cnp.import_array()


# Named apart from the C functions, and given their names at the end.

def _power(double base, int64_t n):
    """base ** n for base >= 0 and integer n >= 0."""
    cdef Powers powers
    memset(&powers, 0, sizeof(powers))
    return power(base, n, &powers)


def _exp(double x):
    """e ** x."""
    return exp(x)


def _log(double x):
    """The natural logarithm of x; -inf for 0, NaN below."""
    return log(x)


def _cos(double x):
    """The cosine of x radians for |x| <= 3.5; NaN beyond."""
    return cos(x)


def _pow(double x, double y):
    """x ** y for x >= 0; NaN below."""
    return pow(x, y)


cdef void* buffer(cnp.ndarray array, int dtype, Py_ssize_t size) except NULL:
    if cnp.PyArray_TYPE(array) != dtype or not cnp.PyArray_ISCARRAY(array) or cnp.PyArray_SIZE(array) != size:
        raise ValueError("expected contiguous arrays of one size, float64 or, for n, int64")
    return cnp.PyArray_DATA(array)


def evaluate(str name, cnp.ndarray out not None, cnp.ndarray x not None, cnp.ndarray y=None):
    """out[i] = f(x[i]) for the function of that name: exp, log, cos, or pow(x[i], y[i])."""
    cdef Py_ssize_t i, size = out.size
    cdef double* to = <double*>buffer(out, cnp.NPY_DOUBLE, size)
    cdef const double* a = <double*>buffer(x, cnp.NPY_DOUBLE, size)
    cdef const double* b = a if y is None else <double*>buffer(y, cnp.NPY_DOUBLE, size)
    if name == "exp":
        for i in range(size):
            to[i] = exp(a[i])
    elif name == "log":
        for i in range(size):
            to[i] = log(a[i])
    elif name == "cos":
        for i in range(size):
            to[i] = cos(a[i])
    elif name == "pow":
        for i in range(size):
            to[i] = pow(a[i], b[i])
    else:
        raise ValueError(f"no function {name!r}")


def evaluate_pow(cnp.ndarray out not None, double base, cnp.ndarray y not None):
    """out[i] = pow(base, y[i]) with the logarithm of the base taken once."""
    cdef Py_ssize_t i, size = out.size
    cdef double* to = <double*>buffer(out, cnp.NPY_DOUBLE, size)
    cdef const double* exponents = <double*>buffer(y, cnp.NPY_DOUBLE, size)
    cdef Double2 log_base = log_parts(base)
    for i in range(size):
        to[i] = pow_parts(log_base, exponents[i])


def evaluate_power(cnp.ndarray out not None, cnp.ndarray base not None, cnp.ndarray n not None):
    """out[i] = power(base[i], n[i]), each call finding the cache as the one before has left it."""
    cdef Powers powers
    cdef Py_ssize_t i, size = out.size
    cdef double* to = <double*>buffer(out, cnp.NPY_DOUBLE, size)
    cdef const double* bases = <double*>buffer(base, cnp.NPY_DOUBLE, size)
    cdef const int64_t* exponents = <int64_t*>buffer(n, cnp.NPY_INT64, size)
    memset(&powers, 0, sizeof(powers))
    for i in range(size):
        to[i] = power(bases[i], exponents[i], &powers)


globals().update(power=_power, exp=_exp, log=_log, cos=_cos, pow=_pow)
