include "_curves.pxd"
