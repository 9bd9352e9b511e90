"""Which build of the compiled loops is used: the one for 256-bit registers where the CPU has them.

It has the same bits, and is up to twice as fast where the CPU's divider is as wide. The variable is for tests of that.
"""

import os

from optcore._rules import HAS_AVX2

if HAS_AVX2 and not os.environ.get("OPTCORE_BASELINE"):
    from optcore import _linear_avx2 as linear
    from optcore._curves_avx2 import SMOOTH
    from optcore._rules_avx2 import RULES
else:
    from optcore import _linear as linear
    from optcore._curves import SMOOTH
    from optcore._rules import RULES

__all__ = ["RULES", "SMOOTH", "linear"]
