"""What is installed: its version, what importing it loads, interpreters, and the workflows that publish it."""

import importlib.metadata
import re
import subprocess
import sys

import pytest
from support import ROOT

import optcore as oc


def output(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_one_version():
    assert importlib.metadata.version("optcore") == oc.__version__


def test_import_is_light():
    """Extras are loaded where they are used, and so is what would take longer to load than the optimizers."""
    loaded = output("import sys, numpy; before = {*sys.modules}; import optcore; print(*{*sys.modules} - before)")
    assert {"optcore", "optcore._engine"} <= set(loaded)
    heavy = {"scipy", "sklearn", "pandas", "matplotlib", "sympy", "joblib", "torch", "tqdm", "typer", "rich", "numba"}
    heavy |= {"concurrent.futures", "difflib", "hashlib", "json", "shutil", "zipfile", "optcore._minimize"}
    assert not heavy & set(loaded)


def test_a_second_interpreter_is_refused():
    """NumPy can be in one interpreter of a process. What another one tries ends in an error that harms nobody."""
    program = """
import sys
import numpy as np
import optcore as oc
try:
    import _interpreters as interpreters
except ModuleNotFoundError:  # before Python 3.13
    import _xxsubinterpreters as interpreters

p, expected = np.ones(3), np.ones(3)
oc.SGD(expected, lr=0.5).step(np.ones(3))
interpreter = interpreters.create()
interpreters.run_string(interpreter, f'''
import sys
sys.path[:] = {sys.path}
try:
    import optcore
except ImportError:
    print("refused", flush=True)
''')
interpreters.destroy(interpreter)
oc.SGD(p, lr=0.5).step(np.ones(3))
print(p.tobytes() == expected.tobytes())
"""
    assert output(program) == ["refused", "True"]


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.skipif(not WORKFLOWS, reason="needs the source tree")
def test_actions_are_pinned():
    """A tag can be moved to other code, a commit cannot."""
    uses = re.findall(r"uses: (.*)", "".join(path.read_text() for path in WORKFLOWS))
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
