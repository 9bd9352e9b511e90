"""docs/embedding.md: its examples run, its table is whole."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
from support import ROOT

from optcore._rules import RULES
from optcore.embedding import get_include

FILE = ROOT / "docs" / "embedding.md"
if not FILE.exists():
    pytest.skip("needs the source tree", allow_module_level=True)

PAGE = FILE.read_text()
EXAMPLES = dict(re.findall(r"## (ctypes|cffi|numba|SciPy)\n.*?```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize("caller", ["ctypes", "cffi", "numba", "SciPy"])
def test_the_examples_of_the_page_run(caller, capsys):
    pytest.importorskip(caller.lower())
    exec(EXAMPLES[caller], {})
    printed, said = capsys.readouterr().out, re.findall(r"print\(.*# (?:close to )?(.*)", EXAMPLES[caller])[0]
    found = [float(number) for number in re.findall(r"[-\d.e]+", printed)]
    # They are descents that have not ended, and a quadrature.
    np.testing.assert_allclose(found, [float(number) for number in said.split(",")], atol=0.01)


def test_the_page_lists_the_rules():
    rows = [
        f"| `{rule.name}` | {', '.join(f'`{key}`' for key in rule.state) or 'none'} | "
        f"{', '.join(f'`{key}`' for key in rule.hyper)} |"
        for rule in RULES.values()
    ]
    missing = [row for row in rows if row not in PAGE]
    assert not missing, "docs/embedding.md needs these rows:\n" + "\n".join(missing)


def block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_cython_of_the_page_fits(tmp_path):
    """By the setup.py of the page: y = 2 + 3 x."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    (tmp_path / "fit.pyx").write_text(block("cython"))
    (tmp_path / "setup.py").write_text(block("python"))
    program = """
import numpy as np, optcore as oc, fit
x, w, g = np.linspace(0.0, 1.0, 10), np.zeros(2), np.zeros(2)
fit.fit(oc.Adam(w, g, lr=oc.Linear(0.1, steps=3000)), x, 2.0 + 3.0 * x, w, g, 3000)
print(*np.round(w, 3))
"""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}  # an editable install
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    for command in (build, [sys.executable, "-c", program]):
        result = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    assert result.stdout == "2.0 3.0\n"


@pytest.mark.skipif(sys.platform == "win32", reason="asks a compiler as POSIX has it")
def test_the_c_of_the_page_compiles(tmp_path):
    (tmp_path / "page.c").write_text(block("c"))
    include = ["-I", get_include(), "-I", sysconfig.get_path("include")]
    flags = ["-Wall", "-Wno-unused-variable", "-Werror", "-fPIC", "-c"]
    subprocess.run([*shlex.split(os.environ.get("CC", "cc")), *flags, *include, "page.c"], cwd=tmp_path, check=True)
