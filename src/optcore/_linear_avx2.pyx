include "_linear.pyx"
