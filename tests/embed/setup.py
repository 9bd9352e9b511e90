"""Builds the clients as their authors would, beside an installed optcore: ``python setup.py build_ext --inplace``."""

import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

import optcore

if sys.platform == "win32":
    FLAGS = ["/fp:precise"]
else:  # no fused multiply-add: it would give the gradients other bits than Python's floats have
    FLAGS = ["-ffp-contract=off", "-Wall", "-Werror"]


def c_client(name, header):
    """The same source, against one header or another."""
    macros = [("NAME", f'"{name}"'), ("INIT", f"PyInit_{name}")]
    return Extension(name, ["c_client.c"], include_dirs=[header], define_macros=macros, extra_compile_args=FLAGS)


setup(
    name="clients",
    ext_modules=[
        c_client("c_client", optcore.get_include()),
        c_client("c_client_of_v1", "v1"),
        *cythonize(
            Extension(
                "cython_client", ["cython_client.pyx"], include_dirs=[optcore.get_include()], extra_compile_args=FLAGS
            )
        ),
    ],
)
