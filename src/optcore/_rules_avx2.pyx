include "_rules.pyx"
