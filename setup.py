"""Builds the compiled core. Everything else about the project is in pyproject.toml."""

import os
import sys
import sysconfig

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

MACROS = [("NPY_NO_DEPRECATED_API", "NPY_1_22_API_VERSION")]
MODULES = ["_scalars", "_rules", "_curves", "_schedules", "_rows", "_engine", "_descent", "_linear", "_c_api"]
LINK_FLAGS = ["-Wl,--strip-all"] if sys.platform == "linux" else []  # symbols are 5 % of a wheel

if sys.platform == "win32":
    # /fp:precise forbids contraction and reassociation, as the flags below do.
    FLAGS = ["/O2", "/fp:precise"]
    SMALL = "/O1"
else:
    FLAGS = [
        "-O3",  # gcc vectorises loops with selects at -O3 only
        "-ffp-contract=off",  # a fused multiply-add rounds once: other bits on other CPUs
        "-fno-math-errno",  # or no loop with a square root is vectorised
        "-fno-trapping-math",  # or no loop with a select is vectorised
        "-g0",  # debug information is two thirds of a wheel
    ]
    SMALL = "-Os"
    if sysconfig.get_platform().endswith("x86_64"):
        # The loops once more for 256-bit registers, chosen at import: twice as fast on CPUs whose divider is as
        # wide, measured on Zen 4. No -mfma: the bits must not change.
        MODULES += ["_rules_avx2", "_curves_avx2", "_linear_avx2"]
        MACROS.append(("OPTCORE_AVX2", "1"))
# Flags put after ours win: the tests build at -O0 and for the native CPU and compare bits.
FLAGS += os.environ.get("OPTCORE_EXTRA_CFLAGS", "").split()


def extension(module, source, flags=()):
    return Extension(
        f"optcore.{module}",
        [source],
        include_dirs=[numpy.get_include(), "optcore/include"],
        define_macros=MACROS,
        extra_compile_args=[*FLAGS, *flags],
        extra_link_args=LINK_FLAGS,
    )


setup(
    ext_modules=cythonize(
        [extension(module, f"src/optcore/{module}.pyx", ["-mavx2"] * module.endswith("_avx2")) for module in MODULES]
        # What Cython otherwise puts into each module that has a memoryview: a fifth of a wheel, and no loop of ours.
        + [extension("_shared", "src/optcore/_shared.c", [SMALL])],
        shared_utility_qualified_name="optcore._shared",
        include_path=["src", "."],
        build_dir="build/cython",
        compiler_directives={"language_level": "3", "cdivision": True, "embedsignature": True},
    ),
)
