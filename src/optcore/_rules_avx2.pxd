include "_rules.pxd"
