"""Searches of scikit-learn over the settings of a model, recorded while they run, so that they can go on later.

    search = GridSearchCV(model, {"model__lr": [0.01, 0.1]}, cv=5)
    search = sweep(search, X, y, results="sweep.jsonl")     # instead of search.fit(X, y)
    search.best_params_, search.cv_results_, search.predict(X)

What scikit-learn's searches lack is a memory: one that is interrupted has lost everything. So each fit of one setting
on one fold is scored here, by scikit-learn's ``cross_validate``, written to a file, and never done again. The search
itself stays scikit-learn's: it chooses the settings, it is given the scores that were recorded, and it makes the table
and the ranks of them. Whether a score was computed now or is read from the file makes no difference to it, and that is
why a resumed sweep has the result of the uninterrupted one.

Nothing here schedules work: joblib does, on the backend of ``with joblib.parallel_config(...)``, with the search's
``n_jobs``. Every fit has one thread, and its score depends on nothing but the setting and the rows, so the table is
the same for all numbers of workers.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

try:
    import joblib
    from joblib.parallel import get_active_backend
    from sklearn.base import BaseEstimator, clone, is_classifier
    from sklearn.metrics import check_scoring
    from sklearn.model_selection import check_cv, cross_validate
    from sklearn.utils import get_tags, indexable
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'optcore.sweep needs {error.name}; pip install "optcore[sklearn]"', name=error.name
    ) from None

import optcore
from optcore.domains import nearest
from optcore.threads import one_thread

__all__ = ["Interrupted", "ResultsError", "sweep"]

FORMAT = 1
LARGEST = 1e100  # score that counts as one: the squares of larger ones, for their deviation, may overflow
Split = tuple[np.ndarray, np.ndarray]
Progress = Callable[[int, int], Any]


class ResultsError(ValueError):
    """A file of results cannot be used; the message says why. Nothing was changed in it."""


class Interrupted(KeyboardInterrupt):
    """A sweep was interrupted. ``search`` has the ``cv_results_`` of the settings that were done, or is None."""

    def __init__(self, search: Any, done: int, total: int):
        super().__init__(f"{done} of {total} fits were done")
        self.search, self.done, self.total = search, done, total


# ---------------------------------------------------------------------------- one fit


@dataclass(frozen=True, eq=False)
class Work:
    """What all fits of a sweep share, sent to a worker once."""

    model: Any
    X: Any
    y: Any
    scorer: Any
    error_score: Any
    splits: Sequence[Split]


def as_it_is(work: Work) -> Work:
    return work


def evaluate(work: Any, key: str, setting: Mapping[str, Any], fold: int) -> tuple[str, dict[str, Any]]:
    """The record of a model with this setting: fitted on a fold's training rows, scored on the others."""
    record: dict[str, Any] = {"score": None, "fit_time": None, "score_time": None, "failure": None}
    if not isinstance(work, Work):  # where a cluster has one core in all, joblib computes in this process
        work = work.result()
    here = joblib.parallel_config(backend="sequential")  # a worker's own backend would be the cluster's
    with one_thread(), here, np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what diverges is recorded
        try:
            model = clone(work.model).set_params(**clone(dict(setting), safe=False))
            found = cross_validate(
                model, work.X, work.y, cv=[work.splits[fold]], scoring=work.scorer, error_score="raise"
            )
        except Exception as error:
            overflowed = isinstance(error, ValueError) and ("infinity" in str(error) or "NaN" in str(error))
            if isinstance(error, FloatingPointError) or overflowed:
                return key, {**record, "failure": f"diverged: {error}"}
            if work.error_score == "raise":
                raise
            return key, {**record, "failure": f"failed: {type(error).__name__}: {error}"}
    score, record["fit_time"], record["score_time"] = (
        float(found[name][0]) for name in ("test_score", "fit_time", "score_time")
    )
    if abs(score) < LARGEST:
        return key, {**record, "score": score}
    return key, {**record, "failure": f"diverged: the score is {score:g}"}


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which a terminal sends to all: the one that started them ends them.

    So does this process, for that moment. To hold the signal back instead is not to be had: what joblib starts along
    with its workers lets it through again.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    if not ours:  # no handler could be set, or not be set back
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def finished(tasks: Sequence[Any], n_jobs: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """What joblib computes, each as soon as it is there."""
    backend, _ = get_active_backend()
    if backend.supports_return_generator:
        with deaf_to_interrupts():
            records = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(tasks)
        yield from records
        return
    with joblib.Parallel(n_jobs=n_jobs) as parallel:  # multiprocessing and Ray give lists only
        size = 4 * joblib.effective_n_jobs(n_jobs)
        for start in range(0, len(tasks), size):
            yield from parallel(tasks[start : start + size])


# ---------------------------------------------------------------------------- what was done


def digest(*values: Any) -> str:
    return joblib.hash(values, hash_name="sha1")


def named(value: Any) -> str:
    """The name of a function or class, whose repr has its place in memory; the repr of anything else."""
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)


def text_of(setting: Mapping[str, Any]) -> str:
    """A setting as JSON; what JSON does not have, by its name or repr."""
    return json.dumps(dict(setting), sort_keys=True, default=named)


def text_of_split(split: Split) -> str:
    return digest(*(np.asarray(rows, np.int64) for rows in split))[:16]


def text_of_model(model: Any, swept: set[str]) -> dict[str, str]:
    """Its parameters, without those of the sweep and without its parts, which have parameters of their own."""
    found = model.get_params()
    return {
        "class": type(model).__name__,
        **{
            name: f"{type(value).__name__}()" if hasattr(value, "get_params") else named(value)
            for name, value in sorted(found.items())
            if name not in swept and not isinstance(value, list)
        },
    }


class Journal:
    """The records of a sweep, in memory and in a file: a line that says of what, and one for each fit.

    A record is written when it is made. What a crash leaves of a last line is dropped.
    """

    def __init__(self, path: str | os.PathLike[str] | None):
        self.path = None if path is None else Path(path)
        self.records: dict[str, dict[str, Any]] = {}
        self._file: Any = None

    def open(self, header: dict[str, Any]) -> None:
        """Reads what is there, if it is of this sweep; ResultsError otherwise."""
        header = json.loads(json.dumps({"optcore_sweep": FORMAT, **header}))
        if self.path is None:
            return
        if self.path.is_file() and self.path.stat().st_size:
            whole = self._read(header)
            self._file = self.path.open("r+", encoding="utf-8", newline="\n")
            self._file.seek(whole)
            self._file.truncate()
        else:
            self._file = self.path.open("x" if not self.path.exists() else "w", encoding="utf-8", newline="\n")
            self._write(header)

    def _read(self, header: dict[str, Any]) -> int:
        """Fills the records; the number of bytes in whole lines."""
        path, content = self.path, self.path.read_bytes()  # type: ignore[union-attr]
        whole = content.rfind(b"\n") + 1
        lines = []
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                lines.append(json.loads(line))
                if not isinstance(lines[-1], dict):
                    raise ValueError
            except ValueError:
                what = "is no file of results" if number == 1 else f"is broken in line {number}"
                raise ResultsError(f"{path} {what}; name another file, or remove this one to begin anew") from None
        if not lines or "optcore_sweep" not in lines[0]:
            raise ResultsError(f"{path} is no file of results of a sweep; name another file")
        differ = [name for name in header if lines[0].get(name) != header[name]]
        if differ:
            raise ResultsError(
                f"{path} has the results of another sweep: {', '.join(differ)} differ{'s' * (len(differ) == 1)}; "
                "name another file, or remove this one to begin anew"
            )
        for number, line in enumerate(lines[1:], 2):
            key, score, failure = (line.pop(name, None) for name in ("key", "score", "failure"))
            known = type(score) is float and abs(score) < LARGEST and failure is None
            times = all(type(line.get(name)) in (float, type(None)) for name in ("fit_time", "score_time"))
            if not (isinstance(key, str) and times and (known or (score is None and isinstance(failure, str)))):
                raise ResultsError(f"{path} is broken in line {number}; remove the line, and its fit is done again")
            self.records[key] = {**line, "score": score, "failure": failure}
        return whole

    def add(self, key: str, record: dict[str, Any]) -> None:
        self.records[key] = record
        self._write({"key": key, **record})

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry, allow_nan=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


# ---------------------------------------------------------------------------- the search


class Recall(BaseEstimator):
    """Stands for the model in a search: what it is fitted on are row numbers, and its scores those recorded."""

    def __init__(self, model: Any, records: Mapping[str, dict[str, Any]]):
        self.model, self.records = model, records

    def __sklearn_clone__(self) -> Recall:
        return Recall(self.model, self.records)

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.model)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return self.model.get_params(deep)

    def set_params(self, **setting: Any) -> Recall:
        self.setting = setting
        return self

    def fit(self, X: np.ndarray, y: Any) -> Recall:
        self.rows = X
        return self

    def score(self, X: np.ndarray, y: Any) -> float:
        score = self.records[key_of(self.setting, (self.rows.ravel(), X.ravel()))]["score"]
        return math.nan if score is None else score


def key_of(setting: Mapping[str, Any], split: Split) -> str:
    return f"{text_of(setting)} {text_of_split(split)}"


class Stop(Exception):
    """No further settings, please."""


class Recorded:
    """Before scikit-learn's own class: each round of settings is evaluated with the journal at hand.

    ``_run_search`` is where scikit-learn lets a search say which settings it wants, in one round or several.
    """

    evaluate_all: Callable[[list[Mapping[str, Any]], list[Split]], bool]

    def _run_search(self, evaluate_candidates: Any, callback_ctx: Any = None) -> None:
        rows, y = self.rows_and_y  # type: ignore[attr-defined]

        def round_of(candidates: Any, cv: Any = None, more_results: Any = None, **keywords: Any) -> Any:
            candidates = list(candidates)
            splits = list((cv or self._checked_cv_orig).split(rows, y))  # type: ignore[attr-defined]
            interrupted = not self.evaluate_all(candidates, splits)
            keys = [[key_of(candidate, split) for split in splits] for candidate in candidates]
            done = [i for i, some in enumerate(keys) if all(key in self.journal.records for key in some)]  # type: ignore[attr-defined]
            self.keys.extend(keys[i] for i in done)  # type: ignore[attr-defined]
            if done:
                more = {name: [values[i] for i in done] for name, values in (more_results or {}).items()}
                fixed = check_cv(splits)  # the same again, whatever the splitter would do
                table = evaluate_candidates([candidates[i] for i in done], fixed, more, **keywords)
            if interrupted:
                raise Stop
            return table

        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}  # scikit-learn 1.9 and later
        with contextlib.suppress(Stop):
            super()._run_search(round_of, **context)  # type: ignore[misc]
        if not self.keys:  # type: ignore[attr-defined]
            raise Stop


def sweep(
    search: Any,
    X: Any,
    y: Any,
    *,
    results: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Does what ``search.fit(X, y)`` does, keeps what was done, and goes on from there.

    Parameters
    ----------
    search : GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV or HalvingRandomSearchCV
        Not changed. It has one score; ``return_train_score`` is ignored. To be resumed, all its ``random_state`` (of
        the model, the folds, the search) must be integers.
    X, y : arrays
        Rows and targets.
    results : path, optional
        A file to keep the scores in. If it is there already, and of the same sweep, only what is missing is done.
    progress : function of two int, optional
        Called with the number of fits that are done and that are known to be needed; a halving search learns of more
        at every round.

    Returns
    -------
    search
        A fitted copy. ``cv_results_`` has scikit-learn's columns, with the times that were recorded; ``failures_`` has
        for each of its rows the reason why there is no score, or "". Where no setting has a score, there is a
        warning, and no ``best_index_``, ``best_params_``, ``best_score_`` or ``best_estimator_``.

    Raises
    ------
    ResultsError
        The file is broken, or of another sweep.
    Interrupted
        By Ctrl-C. What was done is in the file, and in the exception.
    ValueError
        The search has several scores, or a setting names a parameter that the model does not have.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from optcore.estimators import LinearRegressor
    >>> model = Pipeline([("scale", StandardScaler()), ("model", LinearRegressor(epochs=5, random_state=0))])
    >>> grid = {"model__lr": [1e-3, 1.0], "model__optimizer": ["sgd", "adam"]}
    >>> search = sweep(GridSearchCV(model, grid), *load_diabetes(return_X_y=True))
    >>> search.best_params_
    {'model__lr': 1.0, 'model__optimizer': 'adam'}

    On a cluster: ``with joblib.parallel_config(backend="dask", client=client): sweep(...)``.

    Notes
    -----
    A results file holds JSON lines. A fit that fails is recorded, too, unless ``error_score="raise"``; one that
    diverges always is. Values of settings are told apart by their JSON, or where JSON does not have them by their name
    or repr, which must be the same when the sweep is resumed.
    """
    if not (search.scoring is None or isinstance(search.scoring, str) or callable(search.scoring)):
        raise ValueError(f"the search must have one score, got scoring={search.scoring!r}")
    X, y = indexable(X, y)
    model, journal = search.estimator, Journal(results)
    scorer = check_scoring(model, search.scoring)
    rows = np.arange(len(y))[:, np.newaxis]
    counts = {"done": 0, "total": 0}

    def evaluate_all(candidates: list[Mapping[str, Any]], splits: list[Split]) -> bool:
        """Fills the journal; False where it was interrupted."""
        if not counts["total"]:
            journal.open(header(search, candidates, splits, X, y))
        todo = [(key_of(c, split), c, fold) for c in candidates for fold, split in enumerate(splits)]
        missing = list({key: task for key, *task in todo if key not in journal.records}.items())
        counts["total"] += len(todo)
        counts["done"] += len(todo) - len(missing)
        if progress is not None:
            progress(counts["done"], counts["total"])
        if not missing:
            return True
        work: Any = Work(model, X, y, scorer, search.error_score, splits)
        client = getattr(get_active_backend()[0], "client", None)
        if client is not None:
            # joblib would scatter the arrays. What was scattered is gone with the workers that had it, and the sweep
            # hangs; the result of a task is computed anew.
            work = client.submit(as_it_is, work, pure=False)
        tasks = [joblib.delayed(evaluate)(work, key, *task) for key, task in missing]
        found = finished(tasks, search.n_jobs)
        try:
            for key, record in found:
                journal.add(key, record)
                counts["done"] += 1
                if progress is not None:
                    progress(counts["done"], counts["total"])
        except KeyboardInterrupt:
            return False
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that not all results were asked for
                found.close()  # type: ignore[attr-defined]
        return True

    settings = {
        "estimator": Recall(model, journal.records),
        "scoring": None,
        "n_jobs": 1,
        "cv": check_cv(search.cv, y, classifier=is_classifier(model)),
        "verbose": 0,
        "error_score": "raise",
        "return_train_score": False,
    }
    inner = type("RecordedSearch", (Recorded, type(search)), {})(**{**search.get_params(deep=False), **settings})
    inner.rows_and_y, inner.journal, inner.keys = (rows, y), journal, []

    # The search's own Parallel calls what stands for the model, which no other process has.
    backend, n_jobs = get_active_backend()

    def where_wanted(candidates: list[Mapping[str, Any]], splits: list[Split]) -> bool:
        with joblib.parallel_config(backend=backend, n_jobs=n_jobs):
            return evaluate_all(candidates, splits)

    inner.evaluate_all = where_wanted
    try:
        with joblib.parallel_config(backend="sequential"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "One or more of the test scores are non-finite", UserWarning)
            inner.fit(rows, y)
    except Stop:
        raise Interrupted(None, counts["done"], counts["total"]) from None
    finally:
        journal.close()
    done = with_results(search, inner, scorer)
    if counts["done"] < counts["total"]:
        raise Interrupted(done, counts["done"], counts["total"])
    if hasattr(done, "best_index_") and search.refit:
        try:
            refit(done, X, y)
        except KeyboardInterrupt:
            raise Interrupted(done, counts["done"], counts["total"]) from None
    return done


def header(search: Any, candidates: list[Mapping[str, Any]], splits: list[Split], X: Any, y: Any) -> dict[str, Any]:
    """What a sweep is; ValueError where the model does not have a parameter."""
    names = {name for candidate in candidates for name in candidate}
    accepted, scoring = sorted(search.estimator.get_params()), search.scoring
    for name in sorted(names):
        if name not in accepted:
            raise ValueError(f"the model has no parameter {name!r}{nearest(name, accepted)}")
    return {
        "optcore": optcore.__version__,
        "search": type(search).__name__,
        "scoring": named(scoring) if callable(scoring) else scoring,
        "data": digest(X, y),
        "folds": digest([text_of_split(split) for split in splits]),
        "model": text_of_model(search.estimator, names),
        "settings": [text_of(candidate) for candidate in candidates],
    }


def with_results(search: Any, inner: Any, scorer: Any) -> Any:
    """A copy of the search with the attributes that a fit gives it, but for the model."""
    done = clone(search)
    for name, value in vars(inner).items():
        if name.endswith("_") and not name.startswith("_") and name not in ("best_estimator_", "refit_time_"):
            setattr(done, name, value)
    done.scorer_ = scorer
    table, records = done.cv_results_, inner.journal.records
    for name in ("fit_time", "score_time"):
        times = np.array([[records[key].get(name) or 0.0 for key in keys] for keys in inner.keys])
        table[f"mean_{name}"], table[f"std_{name}"] = times.mean(axis=1), times.std(axis=1)
    failures = [[records[key]["failure"] for key in keys if records[key]["failure"]] for keys in inner.keys]
    done.failures_ = [f"{some[0]} ({len(some)} of {len(inner.keys[0])} folds)" if some else "" for some in failures]
    if hasattr(done, "best_index_") and not math.isfinite(table["mean_test_score"][done.best_index_]):
        warnings.warn(f"no setting has a score; the first: {done.failures_[0]}", UserWarning, stacklevel=3)
        for name in ("best_index_", "best_params_", "best_score_"):
            vars(done).pop(name, None)
    return done


def refit(done: Any, X: Any, y: Any) -> None:
    """Fits the best setting on all rows."""
    begin = time.time()
    with one_thread(), joblib.parallel_config(backend="sequential"):
        model = clone(done.estimator).set_params(**clone(done.best_params_, safe=False))
        done.best_estimator_ = model.fit(X, y)
    done.refit_time_ = time.time() - begin
    if hasattr(done.best_estimator_, "feature_names_in_"):
        done.feature_names_in_ = done.best_estimator_.feature_names_in_
