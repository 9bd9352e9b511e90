from optcore._curves import SMOOTH as SMOOTH
