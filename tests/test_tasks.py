"""The tasks: gradients, minima and rows are what independent sources say, and a text means what one would think."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from optcore.compare import Settings, compare
from optcore.data import DataError, badly_scaled, sparse_linear
from optcore.problems import PROBLEMS
from optcore.tasks import L2, TASKS, Function, Linear, load_task


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def shaped(vector, task):
    """The parameters of a task from one vector."""
    start = task.start()
    ends = np.cumsum([array.size for array in start])[:-1]
    return [part.reshape(array.shape) for part, array in zip(np.split(vector, ends), start, strict=True)]


@pytest.mark.parametrize("name", TASKS)
def test_gradient_is_that_of_the_objective(name):
    task = load_task(name)
    task = replace(task, x=task.x[:50], y=task.y[:50])  # check_grad asks for the objective once per parameter
    vector = np.random.default_rng(1).normal(size=flat(task.start()).size)
    error = check_grad(
        lambda v: task.objective(shaped(v, task)), lambda v: flat(task.gradient(shaped(v, task), *task.rows)), vector
    )
    # check_grad differentiates by steps h of 1.5e-8. Each derivative is off by h times the second one, which is below
    # the mean square of the column, and by the roundings of the objective over h.
    curvature, value = np.square(task.x).mean(axis=0).max(), task.objective(shaped(vector, task))
    assert error < np.sqrt(vector.size) * (1.5e-8 * 2 * curvature + 2 * 2.2e-16 * value / 1.5e-8)


@pytest.mark.parametrize("name", TASKS)
def test_the_start_is_always_the_same_and_new(name):
    task = load_task(name, seed=3)
    first, again = task.start(), load_task(name, seed=3).start()
    for a, b, c in zip(first, again, task.start(), strict=True):
        assert np.array_equal(a, b)
        assert not np.shares_memory(a, c)


def test_objectives_are_the_textbooks():
    weights = np.random.default_rng(2).normal(size=31)
    task = load_task("breast_cancer")
    probability = 1 / (1 + np.exp(-task.x @ weights))
    expected = log_loss(task.y, probability) + L2 / 2 * np.sum(weights[:-1] ** 2)
    np.testing.assert_allclose(task.objective([weights]), expected, rtol=1e-12)  # a few roundings
    task = load_task("diabetes")
    # The mean predicts a standardised target.
    assert task.objective(task.start()) == pytest.approx(1.0, rel=1e-12)
    weights = np.zeros(11)
    weights[-1] = 3.0  # the intercept is not penalised
    assert task.objective([weights]) == pytest.approx(10.0, rel=1e-12)


def test_the_neural_network_is_scikit_learns():
    task = load_task("mlp")
    random = np.random.default_rng(2)
    w1, b1, w2, b2 = params = [random.normal(size=p.shape) for p in task.start()]
    model = MLPClassifier((b1.size,), activation="tanh")
    model.partial_fit(task.x, task.y, classes=range(10))
    model.coefs_, model.intercepts_ = [w1, w2], [b1, b2]
    for x, y, loss in (
        (task.held_out_x, task.held_out_y, task.held_out_loss(params)),
        (task.x, task.y, task.objective(params) - 1e-3 / 2 * (np.sum(w1**2) + np.sum(w2**2))),
    ):
        np.testing.assert_allclose(loss, log_loss(y, model.predict_proba(x)), rtol=1e-12)  # a few roundings


def test_large_scores_do_not_overflow():
    task = load_task("mlp")
    params = [p * 1e6 for p in task.start()]
    assert np.isfinite(task.objective(params))
    assert all(np.isfinite(g).all() for g in task.gradient(params, *task.rows))


@pytest.mark.parametrize("name", ["diabetes", "badly_scaled"])
def test_best_known_loss_is_the_minimum_of_least_squares(name):
    task = load_task(name)
    columns = task.x.shape[1]
    # The penalty as further rows.
    x = np.vstack([task.x, np.diag(np.sqrt(len(task.y) * task.penalty / 2))[:-1]])
    weights = np.linalg.lstsq(x, np.append(task.y, np.zeros(columns - 1)), rcond=None)[0]
    best, how = task.best_known()
    # Both are at the minimum but for roundings, which at a minimum count squared, and those of the sum.
    np.testing.assert_allclose(best, task.objective([weights]), rtol=1e-12)
    result = compare(name, settings=Settings(("sgd",), rates=(0.01,), epochs=5))
    assert (result.best_known_loss, result.how_known) == (best, how) == (best, "the minimum that scikit-learn finds")


@pytest.mark.parametrize("name", ["breast_cancer", "sparse_linear"])
def test_best_known_loss_is_the_minimum_of_the_logistic_loss(name):
    task = load_task(name)
    params = task.best_params()
    assert task.best_known()[0] == task.objective(params)
    # Strictly convex, so a gradient of zero is the minimum; what is left raises the loss by less than its square / L2.
    (gradient,) = task.gradient(params, *task.rows)
    assert np.abs(gradient).max() < 1e-9


@pytest.mark.parametrize("name", TASKS)
def test_a_fifth_is_held_out(name):
    task = load_task(name)
    rows = {"diabetes": 442, "breast_cancer": 569, "badly_scaled": 500, "sparse_linear": 1250, "mlp": 1797}[name]
    assert task.held_out_rows == len(task.held_out_x) == len(task.held_out_y) == -(-rows // 5)
    assert [len(array) for array in task.rows] == [rows - task.held_out_rows] * 2


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_the_rest_is_standardised(name):
    task = load_task(name)
    # Means and deviations of a few hundred numbers of size 1 are off by some roundings.
    np.testing.assert_allclose(task.x[:, :-1].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(task.x[:, :-1].std(axis=0), 1.0, rtol=1e-12)
    assert np.all(task.x[:, -1] == 1.0)
    assert np.abs(task.held_out_x[:, :-1].mean(axis=0)).max() > 0.01  # by the training rows, not by their own
    if name == "breast_cancer":
        np.testing.assert_allclose(task.y.mean(), task.held_out_y.mean(), atol=0.01)  # classes are shared out
        assert task.data.classes == ("malignant", "benign")


def test_made_data_are_what_they_say():
    found, again = badly_scaled(), badly_scaled()
    assert np.array_equal(found.x, again.x)
    assert np.array_equal(found.y, again.y)
    deviations = found.x.std(axis=0)
    # Deviations of 500 numbers are off by some percent, and neighbours differ by 88 %.
    np.testing.assert_allclose(deviations, 0.03 * 1000 ** (np.arange(12) / 11), rtol=0.1)
    shares = found.y @ (found.x / deviations) / 500  # each about sqrt(0.9 / 12), give or take 1 / sqrt(500)
    assert np.all(abs(abs(shares) - 0.3) < 0.2)

    found, again = sparse_linear(), sparse_linear()
    assert np.array_equal(found.x, again.x)
    assert np.array_equal(found.y, again.y)
    assert set(np.unique(found.x)) == {0.0, 1.0}
    assert found.x[:, :5].all()
    assert 0.9 < np.mean(found.x == 0) < 0.95
    shares, expected = found.x.mean(axis=0), np.minimum(1, 5 / np.arange(1, 401))
    deviations = np.sqrt(expected * (1 - expected) / 1250)
    assert np.all(abs(shares - expected) <= 5 * deviations)  # of 400 at random, one in 4000 would be beyond


def test_made_data_are_used_as_they_are():
    task = load_task("badly_scaled")
    both = np.vstack([task.x, task.held_out_x])
    order, original = np.lexsort(both.T), badly_scaled().x
    assert np.array_equal(both[order][:, :-1], original[np.lexsort(np.column_stack([original, np.ones(500)]).T)])
    assert not task.penalty.any()


def test_digits_are_scikit_learns():
    task = load_task("mlp")
    found = np.vstack([task.x, task.held_out_x]) * 16
    labels = np.append(task.y, task.held_out_y)
    x, expected = load_digits(return_X_y=True)
    order, other = np.lexsort([*found.T, labels]), np.lexsort([*x.T, expected])
    assert np.array_equal(found[order], x[other])
    assert np.array_equal(labels[order], expected[other])


# ---------------------------------------------------------------------------- functions


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_named_function(name):
    task, problem = load_task(name), PROBLEMS[name]
    assert (task.name, task.rows, task.held_out_rows) == (name, (), 0)
    (start,) = params = task.start()
    assert np.array_equal(start, problem.start)
    assert start.flags.writeable
    assert not np.shares_memory(start, task.start()[0])
    start += 0.25
    assert task.objective(params) == problem.fun(start)
    (gradient,) = task.gradient(params)
    assert np.array_equal(gradient, problem.jac(start))
    assert task.held_out_loss(params) is None
    assert task.best_known() == (problem.minimum, "the minimum")
    assert task.heading.startswith(f"{name}: {problem.description}, from {problem.variables[0]} = ")
    assert f"\nIt is {problem.fun(problem.start):g} there. Its minimum is {problem.minimum:g}, at " in task.heading
    assert "The slope is 0" not in task.heading


def test_a_function_from_another_start():
    task = load_task("himmelblau", start=[-1, 0.5])
    assert task.start()[0].tolist() == [-1.0, 0.5]
    assert load_task("himmelblau").start()[0].tolist() == [0.0, 0.0]
    assert task.heading == (
        "himmelblau: (x^2 + y - 11)^2 + (x + y^2 - 7)^2, from x = -1, y = 0.5\nIt is 150.312 there. Its minimum is 0, "
        "at (3, 2), (-2.80512, 3.13131), (-3.77931, -3.28319), (3.58443, -1.84813)."
    )


def test_a_formula():
    text = "(1 - x)**2 +\n\t100*(y - x**2)**2"
    task = load_task(text, start=[-1.2, 1.0])
    assert (task.name, task.rows) == ("formula", ())
    assert task.heading == "formula: (1 - x)**2 + 100*(y - x**2)**2, from x = -1.2, y = 1\nIt is 24.2 there."
    params = [np.array([0.5, 2.0])]
    assert task.objective(params) == 0.25 + 100 * 1.75**2
    assert task.gradient(params)[0].tolist() == [-1.0 - 400 * 0.5 * 1.75, 200 * 1.75]
    best, how = task.best_known()
    assert best == np.inf
    assert how.startswith("the lowest of all runs here, as the minimum is not known")
    assert task.facts() == {
        "formula": "(1 - x)**2 + 100*(y - x**2)**2",
        "variables": ["x", "y"],
        "start": [-1.2, 1.0],
        "minimum": None,
        "minimizers": [],
    }
    assert load_task(text).start()[0].tolist() == [1.0, 1.0]


def test_what_cannot_move_and_what_is_long_is_said():
    assert load_task("double_well", start=[0.0]).heading == (
        "double_well: x^4 - 4 x^2, from x = 0\nIt is 0 there. Its minimum is -4, at -1.41421, 1.41421.\n"
        "The slope is 0 there, so that few will move; --start can name another place."
    )
    heading = load_task("rosenbrock_10").heading
    assert ", from x1 = -1.2, x2 = 1, x3 = -1.2, x4 = 1, x5 = -1.2, x6 = 1, ...\n" in heading
    assert heading.endswith("Its minimum is 0, at (1, 1, 1, 1, 1, 1, ...).")


@pytest.mark.parametrize(
    ("text", "start", "message"),
    [
        ("rosenbrock", [1], "--start must have a number for each of x, y, in this order, got 1"),
        ("x + y*z", [1, 2, 3, 4], "--start must have a number for each of x, y, z, in this order, got 4"),
        ("rosenbrock", [1, np.inf], "--start must be finite"),
        ("rosenbrock", "ab", "--start must be an array of numbers, got 'ab'"),
        ("rosenbrock", [1, 1e200], "rosenbrock is inf at the start, x = 1, y = 1e+200; --start can name another"),
        ("x*1e201 + y", None, "formula is 1e+201 at the start, x = 1, y = 1"),
        ("log(x)", [0], "formula is -inf at the start, x = 0"),
        ("y + sqrt(x)", [0, 1], "the slope of formula in x is inf at the start, x = 0, y = 1; --start can name"),
        ("asin(x)", [2], "formula is nan at the start, x = 2"),
        ("diabetes", [1], "--start is for functions; diabetes has its own start"),
    ],
)
def test_bad_starts(text, start, message):
    with pytest.raises(DataError) as info:
        load_task(text, start=start)
    assert str(info.value).startswith(message)


ROWS = "a,y\n" + "".join(f"{i},{i * i % 7}\n" for i in range(12))


@pytest.mark.parametrize("path", ["prices", "x+y", "(copy)", "f(x).csv", "data/(1)", "x*y.csv"])
def test_a_file_that_exists_is_no_formula(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / path).write_text(ROWS)
    assert isinstance(load_task(path, "y"), Linear)


def test_a_name_comes_before_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("diabetes", "rosenbrock"):
        (tmp_path / name).write_text(ROWS)
    assert load_task("diabetes").data.name == "diabetes"
    assert isinstance(load_task("rosenbrock"), Function)


@pytest.mark.parametrize("text", ["x**2", "exp(x)-x", "x+x/y", "2.*x**2.", " x*x ", "x*y/1.5", "(x)"])
def test_formulas_are_known_by_their_signs(text):
    assert isinstance(load_task(text), Function)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "rosenbrok",
            "there is no task, function or file 'rosenbrok'; did you mean 'rosenbrock'? Accepted: diabetes, ",
        ),
        ("breast-cancer", "there is no task, function or file 'breast-cancer'; did you mean 'breast_cancer'?"),
        ("data/prices", "there is no task, function or file 'data/prices'"),
        ("x", "there is no task, function or file 'x'. Accepted: "),
        ("", "there is no task, function or file ''. Accepted: "),
        ("x - y", "there is no task, function or file 'x - y'"),
        ("x\x00", "there is no task, function or file 'x\\x00'"),
        ("nowhere.csv", "there is no file nowhere.csv"),
        ("old (1).csv", "there is no file old (1).csv"),
        ("folder", "folder is a folder"),
        ("folder (2)", "folder (2) is a folder"),
        ("x^2", "in 'x^2', at character 2, '^': use ** for a power"),
        ("x + " + "9" * 10**4, "a formula of at most 1000 characters is read, not of 10004"),
    ],
)
def test_texts_that_are_nothing(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder (2)").mkdir()
    with pytest.raises(DataError) as info:
        load_task(text)
    assert str(info.value).startswith(message)


def test_a_name_that_is_not_known_is_told_all():
    with pytest.raises(DataError) as info:
        load_task("nothing")
    assert f"Accepted: {', '.join([*TASKS, *PROBLEMS])}, the path of a CSV file, and formulas" in str(info.value)
