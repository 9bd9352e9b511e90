"""``optcore sweep``: the arguments, the model and the table around :func:`optcore.sweep.sweep`."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import os
import socket
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optcore.data import KINDS, MOST_NUMBERS
from optcore.domains import NOT_NEGATIVE, POSITIVE, Domain, check_choice, check_number, nearest
from optcore.terminal import check_folder, check_picture_format, fail, not_written, parse_number, print_whole

if TYPE_CHECKING:
    from rich.console import Console

    from optcore.data import Data

__all__ = ["sweep"]

BUNDLED = ("diabetes", "breast_cancer")
SEARCHES, MODELS, BACKENDS = ("grid", "random", "halving"), ("linear", "mlp"), ("loky", "dask", "ray")
SHOWN, NAMED = 40, 10  # settings in the table, and below it
PATIENCE = 10  # seconds for a scheduler to answer


def sweep(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="diabetes, breast_cancer, or the path of a CSV file with a header, or of a Parquet file.",
        ),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the file that is to be predicted.")
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            metavar="|".join(KINDS),
            help="What the column has: numbers or classes. auto: text, two different values, and whole numbers of "
            f"which at most {MOST_NUMBERS} differ in ten times as many rows are classes.",
        ),
    ] = "auto",
    model: Annotated[str, typer.Option(metavar="|".join(MODELS), help="What is trained.")] = "linear",
    hidden: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Units of each hidden layer of an mlp. Without it: 100.")
    ] = None,
    optimizers: Annotated[str, typer.Option(metavar="A,B,...", help="Names of optimizers to try.")] = "adam",
    lr: Annotated[
        str,
        typer.Option(
            metavar="X,Y,...",
            help="Learning rates to try; for --search random also a range, such as 1e-5:1e-1, in which all orders of "
            "magnitude are as likely.",
        ),
    ] = "0.0001,0.001,0.01,0.1",
    batch_size: Annotated[
        str, typer.Option(metavar="N,N,...", help="Rows for a step, at most, to try; all: every row.")
    ] = "64",
    epochs: Annotated[str, typer.Option(metavar="N,N,...", help="Passes over the training rows to try.")] = "100",
    l2: Annotated[
        str, typer.Option(metavar="X,Y,...", help="Penalties to try, l2/2 |w|^2; or a range, as for --lr.")
    ] = "0",
    search: Annotated[
        str,
        typer.Option(
            metavar="|".join(SEARCHES),
            help="All settings; a sample of them; or all with few epochs, and the best third of each round with three "
            "times as many, up to EPOCHS.",
        ),
    ] = "grid",
    samples: Annotated[int, typer.Option(min=1, help="How many settings a random search tries.")] = 20,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the rows; each is predicted from the others.")] = 5,
    scoring: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A score of scikit-learn. Without it: r2, or accuracy for classes."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of folds, batches, weights and samples.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes at a time, each with one thread; -1: one for each core. Without it: 1, on Ray all cores; "
            "Dask uses all."
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="|".join(BACKENDS), help="Where they run: here, or on a cluster.")
    ] = "loky",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the cluster, such as tcp://host:8786.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep each score there; with the same command, go on from what it has."),
    ] = None,
    save_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the best model, fitted on all rows, for joblib.load.")
    ] = None,
    save_plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the scores into this file.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the whole table, with the scores of all folds.")
    ] = None,
) -> None:
    """Try settings of a model by cross-validation, and fit the best on all rows.

    The columns are standardised, and a target of numbers, too. A setting that diverges has no score and comes last.
    The same seed gives the same table, whatever the number of processes, here or on a cluster.

    A saved model is a pickle: load only files that you trust, for loading can run any program.
    """
    from optcore.compare import in_catalogue
    from optcore.data import DataError
    from optcore.sweep import Interrupted, ResultsError
    from optcore.sweep import sweep as run

    try:
        for name, value, accepted in (("--model", model, MODELS), ("--search", search, SEARCHES)):
            check_choice(name, value, accepted)
        check_choice("--backend", backend, BACKENDS)
        check_choice("--task", task, KINDS)
        if jobs == 0:
            raise ValueError("--jobs must be at least 1, or -1 for one process on each core, got 0")
        swept: dict[str, list[Any]] = {
            "optimizer": in_catalogue(parts("--optimizers", optimizers)),
            "lr": numbers("--lr", lr, POSITIVE),
            "batch_size": whole_numbers("--batch-size", batch_size, "all"),
            "epochs": whole_numbers("--epochs", epochs),
            "l2": numbers("--l2", l2, NOT_NEGATIVE),
        }
        for name in ("lr", "l2"):
            if search != "random" and not isinstance(swept[name], list):
                raise ValueError(f"--{name}: a range is for --search random; {search} needs values with commas between")
        if hidden is not None and model != "mlp":
            raise ValueError("--hidden is for --model mlp")
        layers = tuple(whole_numbers("--hidden", hidden or "100", ordered=False))
        if search == "halving" and len(swept["epochs"]) > 1:
            raise ValueError("--search halving shares out the epochs itself: give one number of --epochs, the most")
        if scheduler is not None and backend == "loky":
            raise ValueError("--scheduler is for --backend dask or ray")
        if scheduler is None and backend == "dask":
            raise ValueError("--backend dask needs --scheduler, such as tcp://host:8786")
    except (ValueError, TypeError) as error:
        fail(error)
    for option, path in (
        ("--results", results),
        ("--save-model", save_model),
        ("--save-plot", save_plot),
        ("--json", json_file),
    ):
        check_folder(option, path)
    check_picture_format(save_plot)
    try:
        table = load_table(data, target, task)
        check_folds(table, folds)
        scoring = scoring_name(scoring, table)
        searching = search_of(table, model, layers, swept, search, samples, folds, scoring, seed, jobs)
    except ValueError as error:
        fail(error)

    from rich.console import Console
    from tqdm import tqdm

    console = Console(highlight=False, markup=False)
    introduce(console, table, searching, folds, seed, task == "auto")
    interrupted: Interrupted | None = None
    with tqdm(total=1, unit="fit", leave=False, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            with cluster(backend, scheduler), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that nothing has a score is said below
                done = run(searching, columns(table), labels(table), results=results, progress=progress)
        except Interrupted as error:
            interrupted, done = error, error.search
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except (DataError, ResultsError) as error:
            fail(error)
        except OSError as error:
            if error.filename is None:
                lost(error, results)
            not_written(error)
        except Exception as error:
            if type(error).__name__ not in LOSSES:
                raise
            lost(error, results)
    if done is not None:
        show(console, done, scoring)
    if interrupted is not None:
        kept = f"the same command goes on from {results}" if results else "with --results FILE, it could go on"
        print(
            f"optcore: interrupted; {interrupted.done} of {interrupted.total} fits were done; {kept}", file=sys.stderr
        )
        raise typer.Exit(130)
    try:
        save(console, done, table, scoring, folds, seed, save_model, save_plot, json_file)
    except OSError as error:
        not_written(error)
    if not hasattr(done, "best_params_"):
        advice = "; lower --lr" if any(failure.startswith("diverged") for failure in done.failures_) else ""
        print(f"optcore: no setting has a score, so there is no best{advice}", file=sys.stderr)
        raise typer.Exit(1)


LOSSES = (
    "TerminatedWorkerError",
    "BrokenProcessPool",
    "KilledWorker",
    "CancelledError",
    "FutureCancelledError",
    "ActorDiedError",
)
"""What says that workers were lost, in packages that need not be installed."""


def lost(error: Exception, results: Path | None) -> None:
    """Ends the command: workers were lost, and not what they did."""
    kept = f"; what was done is in {results}, and the same command goes on from there" if results else ""
    print(f"optcore: {' '.join(str(error).split()) or type(error).__name__}{kept}", file=sys.stderr)
    raise typer.Exit(1) from None


# ---------------------------------------------------------------------------- what was asked for


def parts(option: str, text: str) -> list[str]:
    """What is between commas, each once; ValueError where there is nothing."""
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise ValueError(f"{option} takes values with commas between, got {text!r}")
    return list(dict.fromkeys(found))


def numbers(option: str, text: str, domain: Domain) -> Any:
    """Numbers from the smallest on, or what draws them from a range, with even chances for their logarithms."""
    if ":" not in text:
        return sorted({check_number(option, parse_number(option, part), domain) for part in parts(option, text)})
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low = high = math.nan
    if not 0 < low < high < math.inf:
        raise ValueError(f"{option} takes values with commas between, or one range LOW:HIGH above 0, got {text}")
    from scipy.stats import loguniform

    return loguniform(low, high)


def whole_numbers(option: str, text: str, all_rows: str = "", ordered: bool = True) -> list[Any]:
    """Integers from 1 on, from the smallest on; where there is a word for all rows, that is None, at the end."""
    found = parts(option, text) if ordered else [part.strip() for part in text.split(",")]
    kind = f"whole numbers from 1 on{f', or {all_rows}' if all_rows else ''}"
    for part in found:
        if part != all_rows and not (part.isascii() and part.isdigit() and int(part) > 0):
            raise ValueError(f"{option} takes {kind}, with commas between, got {part!r}")
    chosen = [int(part) for part in found if part != all_rows]
    return (sorted(set(chosen)) if ordered else chosen) + [None] * (all_rows in found and bool(all_rows))


def scoring_name(given: str | None, data: Data) -> str:
    """The name of a score that suits the target; ValueError where it does not."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.metrics import get_scorer, get_scorer_names

    if given is None:
        return "r2" if data.classes is None else "accuracy"
    if given not in get_scorer_names():
        known = get_scorer_names()
        raise ValueError(f"--scoring must be a name of scikit-learn's, got {given!r}{nearest(given, known)}")
    y = labels(data)
    dummy = DummyRegressor() if data.classes is None else DummyClassifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            get_scorer(given)(dummy.fit(data.x, y), data.x, y)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"--scoring {given} is not for {data.target!r}, {data.kind}: {reason}") from None
    return given


def check_folds(data: Data, folds: int) -> None:
    """ValueError where a fold would lack rows, or a class."""
    import numpy as np

    if data.classes is None:
        if folds > len(data.y):
            raise ValueError(f"--folds must be at most the number of rows, {len(data.y)}, got {folds}")
        return
    values, counts = np.unique(data.y, return_counts=True)
    if folds > counts.min():
        name = data.classes[int(values[counts.argmin()])]
        raise ValueError(
            f"--folds must be at most the number of rows of the rarest class, {counts.min()} ({name}), got {folds}"
        )


def columns(data: Data) -> Any:
    """The table with the names of its columns, which the model keeps, and compares with those it is given later."""
    import pandas

    return pandas.DataFrame(data.x, columns=list(data.columns), copy=False)


def labels(data: Data) -> Any:
    """The target; of classes, what the file has, so that the model predicts it."""
    import numpy as np

    return data.y if data.classes is None else np.array(data.classes)[data.y.astype(int)]


def search_of(
    data: Data,
    model: str,
    hidden: tuple[int, ...],
    swept: dict[str, list[Any]],
    search: str,
    samples: int,
    folds: int,
    scoring: str,
    seed: int,
    jobs: int | None,
) -> Any:
    """The search of scikit-learn that was asked for, with names of parameters as its model has them."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, RandomizedSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from optcore import estimators

    kind = "Regressor" if data.classes is None else "Classifier"
    cls = getattr(estimators, f"{'MLP' if model == 'mlp' else 'Linear'}{kind}")
    # A value that is not varied is a value of the model, and does not make the table wider.
    fixed = {name: values[0] for name, values in swept.items() if isinstance(values, list) and len(values) == 1}
    trained = cls(**({"hidden_layer_sizes": hidden} if model == "mlp" else {}), random_state=seed, **fixed)
    pipeline = Pipeline([("scale", StandardScaler()), ("model", trained)])
    prefix = "model__"
    if data.classes is None:
        pipeline, prefix = TransformedTargetRegressor(pipeline, transformer=StandardScaler()), "regressor__model__"
    grid = {prefix + name: values for name, values in swept.items() if name not in fixed}
    splitter = KFold if data.classes is None else StratifiedKFold
    shared = {
        "scoring": scoring,
        "n_jobs": jobs,
        "cv": splitter(folds, shuffle=True, random_state=seed),
    }
    if search == "grid":
        return GridSearchCV(pipeline, grid, **shared)
    if search == "random":
        if all(isinstance(values, list) for values in grid.values()):
            samples = min(samples, math.prod(map(len, grid.values())))
        return RandomizedSearchCV(pipeline, grid, n_iter=samples, random_state=seed, **shared)
    if not grid:
        raise ValueError("--search halving needs more than one setting to choose from")
    most = swept["epochs"][0]
    return HalvingGridSearchCV(
        pipeline, grid, resource=f"{prefix}epochs", max_resources=most, random_state=seed, **shared
    )


def load_table(source: str, target: str | None, kind: str) -> Data:
    """A bundled data set by name, or a file."""
    from optcore import data

    if source in BUNDLED:
        if target is not None:
            raise data.DataError(f"--target is for files; {source} has its own target")
        if kind != "auto":
            raise data.DataError(f"--task is for files; {source} has its own target")
        return getattr(data, source)()
    if not Path(source).is_file():
        close = difflib.get_close_matches(source, BUNDLED, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; the bundled data sets are {' and '.join(BUNDLED)}"
        raise data.DataError(f"{source} is a folder" if Path(source).is_dir() else f"there is no file {source}{hint}")
    return data.load_file(Path(source), target, kind)


@contextlib.contextmanager
def cluster(backend: str, scheduler: str | None) -> Iterator[None]:
    """joblib on the backend; ends the command where it is not there."""
    import joblib

    if backend == "loky":
        yield
        return
    if backend == "dask":
        try:
            from distributed import Client
        except ModuleNotFoundError:
            fail('--backend dask needs dask.distributed; pip install "optcore[dask]"')
        try:
            client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            fail(f"--scheduler: {scheduler} does not answer: {' '.join(str(error).split())}")
        with client:
            if not client.scheduler_info(n_workers=-1)["workers"]:
                fail(f"--scheduler: {scheduler} has no workers; start some with: dask worker {scheduler}")
            with joblib.parallel_config(backend="dask", client=client):
                yield
        return
    try:
        import ray
        from ray.util.joblib import register_ray
    except ModuleNotFoundError:
        fail("--backend ray needs Ray; pip install ray")
    try:
        # Without an address, Ray would look for the cluster that was started here last, if it is gone for minutes.
        scheduler = scheduler or os.environ.get("RAY_ADDRESS", "local")
        host, _, port = scheduler.removeprefix("ray://").rpartition(":")
        if port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), PATIENCE).close()
        ray.init(address=scheduler, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        fail(f"--scheduler: {scheduler} does not answer: {' '.join(str(error).split())}")
    register_ray()
    try:
        with joblib.parallel_config(backend="ray", n_jobs=-1):
            yield
    finally:
        ray.shutdown()


# ---------------------------------------------------------------------------- what was found


def short(name: str) -> str:
    return name.rpartition("__")[2]


def shown(value: Any) -> str:
    if value is None:
        return "all"
    return f"{value:g}" if isinstance(value, float) else str(value)


def score_text(score: float) -> str:
    return f"{score:.5f}" if abs(score) < 1e5 else f"{score:.4g}"


def setting_text(params: dict[str, Any]) -> str:
    return ", ".join(f"{short(name)} {shown(value)}" for name, value in params.items()) or "the only setting"


def order(done: Any) -> list[int]:
    """Rows of the table: the last round of a halving search first, then by score, those without one last."""
    table = done.cv_results_
    rounds, scores = table.get("iter", [0] * len(table["params"])), table["mean_test_score"]
    worth = [score if math.isfinite(score) else -math.inf for score in scores]
    return sorted(range(len(worth)), key=lambda i: (-rounds[i], -worth[i], i))


def introduce(console: Console, data: Data, searching: Any, folds: int, seed: int, guessed: bool) -> None:
    """What is going to be done."""
    params = searching.estimator.get_params()
    varied = set(offered(searching))
    if hasattr(searching, "resource"):
        varied.add(searching.resource)
    names = [name for name in params if short(name) in ("optimizer", "lr", "batch_size", "epochs", "l2")]
    fixed = {name: params[name] for name in names if name not in varied}
    trained = next(value for name, value in params.items() if short(name) == "model")
    console.print(
        f"{data.name}: {data.target} ({data.kind}) from {len(data.columns)} columns; {len(data.y)} rows in "
        f"{folds} folds, seed {seed}.\n"
        f"{type(trained).__name__} with {setting_text(fixed) if fixed else 'varied settings'}."
    )
    if guessed and data.classes is not None and type(data.classes[0]) is int:
        console.print(f"{data.target} is taken for classes; --task regression takes it for a number.")


def show(console: Console, done: Any, scoring: str) -> None:
    """The table, the best setting, and what has no score."""
    from rich import box
    from rich.table import Table

    results, rows = done.cv_results_, order(done)
    names = list(dict.fromkeys(name for params in results["params"] for name in params))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(short(name), justify="left" if short(name) == "optimizer" else "right", no_wrap=True)
    for head in (scoring, "std", "fit s"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("outcome")
    best = getattr(done, "best_index_", None)
    for i in rows[:SHOWN]:
        params, failure = results["params"][i], done.failures_[i]
        cells = [shown(params[name]) if name in params else "" for name in names]
        if failure:
            numbers_of = ["-", "-", "-"]
        else:
            numbers_of = [
                score_text(results["mean_test_score"][i]),
                score_text(results["std_test_score"][i]),
                f"{results['mean_fit_time'][i]:.3f}",
            ]
        table.add_row(*cells, *numbers_of, failure.partition(":")[0], style="bold" if i == best else None)
    console.print()
    print_whole(console, table)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more; --json has all.")
    console.print()
    if best is not None:
        so_far = "" if hasattr(done, "best_estimator_") else " so far"
        console.print(
            f"Best{so_far}: {setting_text(results['params'][best])}: {scoring} "
            f"{score_text(results['mean_test_score'][best])}, std {score_text(results['std_test_score'][best])} over "
            f"{done.n_splits_} folds."
        )
    failed = [i for i in rows if done.failures_[i]]
    for word in ("diverged", "failed"):
        some = [i for i in failed if done.failures_[i].startswith(word)]
        if some:
            listed = [setting_text(results["params"][i]) for i in some[:NAMED]]
            listed += [f"and {len(some) - NAMED} more"] * (len(some) > NAMED)
            console.print(
                f"{word.capitalize()}: {'; '.join(listed)}.\nThe first: {done.failures_[some[0]].partition(': ')[2]}"
            )


def as_dict(done: Any, data: Data, scoring: str, folds: int, seed: int) -> dict[str, Any]:
    """The table in types that strict JSON has; a score that does not exist is null."""
    results, best = done.cv_results_, getattr(done, "best_index_", None)

    def number(value: Any) -> float | None:
        return float(value) if math.isfinite(value) else None

    return {
        "data": data.name,
        "target": data.target,
        "classes": data.classes and list(data.classes),
        "columns": list(data.columns),
        "rows": len(data.y),
        "folds": folds,
        "seed": seed,
        "search": type(done).__name__,
        "scoring": scoring,
        "best": None if best is None else {short(k): v for k, v in results["params"][best].items()},
        "settings": [
            {
                **{short(name): value for name, value in results["params"][i].items()},
                **({"round": int(results["iter"][i])} if "iter" in results else {}),
                "score": number(results["mean_test_score"][i]),
                "std": number(results["std_test_score"][i]),
                "scores": [number(results[f"split{fold}_test_score"][i]) for fold in range(folds)],
                "fit_seconds": float(results["mean_fit_time"][i]),
                "failure": done.failures_[i] or None,
            }
            for i in order(done)
        ],
    }


def save(
    console: Console,
    done: Any,
    data: Data,
    scoring: str,
    folds: int,
    seed: int,
    model: Path | None,
    picture: Path | None,
    json_file: Path | None,
) -> None:
    """Writes the files and tells where they are."""
    if json_file is not None:
        text = json.dumps(as_dict(done, data, scoring, folds, seed), allow_nan=False, indent=1)
        json_file.write_text(text + "\n", encoding="utf-8")
        console.print(f"Table: {json_file}", soft_wrap=True)
    if not hasattr(done, "best_estimator_"):
        return
    if picture is not None:
        save_scores(done, scoring, picture)
        console.print(f"Picture: {picture}", soft_wrap=True)
    if model is not None:
        import joblib

        temporary = model.with_name(f"{model.name}.{os.getpid()}.tmp")
        try:
            joblib.dump(done.best_estimator_, temporary)
            os.replace(temporary, model)
        except OSError as error:
            error.filename = str(model)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        console.print(f"Model: {model}, for joblib.load; a pickle, to be loaded only by who trusts it", soft_wrap=True)


def save_scores(done: Any, scoring: str, path: Path) -> None:
    """A picture of the scores.

    Where two parameters or more have lists of values, those with most of them make a map, with the best score for each
    pair. A single one, and ranges, are axes.
    """
    import numpy as np
    from matplotlib.figure import Figure

    from optcore.plot_runs import sweep_map, sweep_points

    params = [{short(name): value for name, value in each.items()} for each in done.cv_results_["params"]]
    scores = done.cv_results_["mean_test_score"]
    names = dict.fromkeys(name for each in params for name in each)
    varied = {name: ordered({each.get(name): None for each in params}) for name in names}
    ranges = [short(name) for name, values in offered(done).items() if not isinstance(values, list)]
    floor = floor_of(scores)
    figure = Figure(figsize=(8, 5), layout="constrained")
    if ranges or len(varied) < 2:
        drawn = ranges or list(varied) or [""]
        groups = "optimizer" if ranges and "optimizer" in varied else None
        axes = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
        for ax, name in zip(axes, drawn, strict=True):
            results = {"params": [{"": "", **each} for each in params], scoring: scores}
            sweep_points(results, ax, parameter=name, groups=groups, score=scoring, floor=floor)
            ax.label_outer()
    else:
        first, second, *others = sorted(varied, key=lambda name: -len(varied[name]))
        table = np.ma.masked_all((len(varied[second]), len(varied[first])))
        for each, score in zip(params, scores, strict=True):
            place = varied[second].index(each.get(second)), varied[first].index(each.get(first))
            table[place] = score if table.mask[place] else np.fmax(table[place], score)
        rows, columns = ((name, [shown(value) for value in varied[name]]) for name in (second, first))
        ax = sweep_map(table, figure.subplots(), rows=rows, columns=columns, name=scoring, floor=floor)
        ax.set_title(f"{scoring}, the best over {', '.join(others)}" if others else "")
    figure.savefig(path, dpi=150)


def floor_of(scores: Any) -> float | None:
    """Where scores span decades below the best: which of them need no colour of their own."""
    import numpy as np

    found = scores[np.isfinite(scores)]
    if not len(found):
        return None
    best, good = found.max(), np.quantile(found, 0.75)
    return best - 6 * (best - good) if best - found.min() > 100 * (best - good) > 0 else None


def ordered(values: Iterable[Any]) -> list[Any]:
    """Numbers from the smallest on, then None; text as it comes."""
    found = list(values)
    if any(isinstance(value, str) for value in found):
        return found
    return sorted(found, key=lambda value: math.inf if value is None else value)


def offered(searching: Any) -> dict[str, Any]:
    """What a search chooses from, by the names of parameters."""
    return getattr(searching, "param_grid", None) or getattr(searching, "param_distributions", {})
