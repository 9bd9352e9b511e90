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


def test_the_blocks_of_the_page_compile(tmp_path):
    """The Cython and the C of the page, as they stand there."""
    pytest.importorskip("Cython")
    for language, name in {"cython": "page.pyx", "c": "page_c.c"}.items():
        (tmp_path / name).write_text(re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1])
    subprocess.run([sys.executable, "-m", "cython", "-3", "-I", ROOT, "page.pyx"], cwd=tmp_path, check=True)
    include = ["-I", get_include(), "-I", sysconfig.get_path("include")]
    if sys.platform != "win32":
        for source in ("page.c", "page_c.c"):
            flags = ["-Wall", "-Wno-unused-variable", "-Werror", "-fPIC", "-c"]
            subprocess.run(
                [*shlex.split(os.environ.get("CC", "cc")), *flags, *include, source], cwd=tmp_path, check=True
            )
