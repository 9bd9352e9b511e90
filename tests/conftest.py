"""Settings of the tests."""

import ast
import importlib.util
import os
from pathlib import Path

from hypothesis import settings

# The programs that made the golden values need the libraries that they took them from; the tests do not.
collect_ignore_glob = ["golden/*"]
if not importlib.util.find_spec("torch"):
    collect_ignore_glob.append("torch_support.py")

# What is tried on a developer's machine is random; what passed once passes again where others wait for it.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser):
    parser.addoption("--installed", action="store_true", help="leave out files whose imports are not installed")


def pytest_ignore_collect(collection_path, config):
    if config.getoption("installed") and collection_path.name.startswith("test_") and not importable(collection_path):
        return True
    return None


def importable(path: Path) -> bool:
    """Whether all that a file imports at its top is installed, and all that it needs in turn."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                return False
    return True
