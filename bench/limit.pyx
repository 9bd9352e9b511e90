# cython: language_level=3, boundscheck=False, wraparound=False
"""What no optimizer can beat: a pass that moves Adam's bytes, and a call that does nothing."""


def move(double[::1] p, const double[::1] g, double[::1] m, double[::1] v):
    """Reads p, g, m, v and writes p, m, v, with as little arithmetic as keeps the compiler from leaving it out."""
    cdef double* q = &p[0]
    cdef const double* h = &g[0]
    cdef double* a = &m[0]
    cdef double* b = &v[0]
    cdef Py_ssize_t i, n = p.shape[0]
    with nogil:
        for i in range(n):
            a[i] = a[i] + h[i]
            b[i] = b[i] + h[i]
            q[i] = q[i] + h[i]


cdef class Floor:
    """A bound method of an extension class that does nothing: what calling one costs."""

    def step(self):
        pass
