include "_curves.pyx"
