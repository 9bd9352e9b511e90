"""A name means the same thing everywhere; what a rule lacks is named here."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from support import FORMS, make

import optcore as oc
from optcore import reference
from optcore.optimizer import RULES

README = Path(__file__).parents[1] / "README.md"


def test_every_loop_has_a_reference_and_a_class():
    reached = {make(name, form, np.zeros(1))._rule.name for name, form in FORMS}
    assert set(RULES) == reached, "a loop without a class, or a class without a form that reaches it"
    for name in RULES:
        assert callable(getattr(reference, name, None)), f"reference.py lacks {name}"


@pytest.mark.parametrize("name", oc.CATALOGUE)
def test_class(name):
    cls = oc.CATALOGUE[name]
    assert getattr(oc, cls.__name__) is cls
    assert cls.__name__ in oc.__all__
    assert cls.__name__.lower() == name.replace("_", "")
    text = inspect.cleandoc(cls.__doc__)
    for section in ("Parameters", "Examples", ">>> "):
        assert section in text, f"the docstring of {cls.__name__} lacks {section}"
    assert name == "gradient_scaled" or "References" in text
    documented = re.findall(r"^([\w, *]+) :$|^([\w, ]+) : ", text, re.M)
    documented = {word for line in documented for word in re.findall(r"\w+", "".join(line))}
    own = {p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert own <= documented, f"undocumented: {own - documented}"


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_reference_takes_the_keywords_and_defaults_of_the_class(name, form):
    opt = make(name, form, np.zeros(1))
    function = getattr(reference, opt._rule.name)
    here, there = inspect.signature(type(opt)).parameters, inspect.signature(function).parameters
    for key, parameter in there.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert key in here, f"{function.__name__} has {key}, {type(opt).__name__} has not"
            if key != "momentum":  # which chooses the loop
                assert parameter.default == here[key].default


@pytest.mark.skipif(not README.exists(), reason="needs the source tree")
def test_readme_lists_the_catalogue():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README.read_text(), re.M)
    assert rows == [(name, cls.__name__) for name, cls in oc.CATALOGUE.items()]


@pytest.mark.skipif(not README.exists(), reason="needs the source tree")
def test_readme_code_runs(tmp_path, monkeypatch):
    pytest.importorskip("numba")  # of which it has an example
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    blocks = [block for block in blocks if "optcore.torch" not in block]  # test_torch_programs.py runs it
    names = {}
    exec("\n".join(blocks), names)
    assert names["opt"].t == 500
    assert names["s"](499) == 1e-3
    assert np.square(names["residual"]).mean() < np.square(names["y"]).mean()
