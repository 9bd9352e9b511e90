"""The command line: arguments, messages and tables around what :mod:`optcore.compare` and :mod:`optcore.plot` do.

A message about bad input is one line on stderr, for a schedule or a formula with two that show the place; the exit
code is 2. What is slow to import is imported late.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import optcore

INSTALL = 'optcore: {} is missing; pip install "optcore[all]"'

try:
    import typer

    from optcore.sweep_command import sweep
    from optcore.terminal import check_folder, check_picture_format, fail, not_written, parse_number, print_whole
except ModuleNotFoundError as error:
    raise SystemExit(INSTALL.format(error.name)) from None

if TYPE_CHECKING:
    from rich.console import Console

    from optcore.compare import Comparison, Settings
    from optcore.plot import Points
    from optcore.schedules import Schedule
    from optcore.tasks import Task

__all__ = ["app", "main"]

NO_SHAPE = (
    "--schedule: {} follows the losses of one run, so it is no shape for all; take a function of time, such as "
    "'Cosine(1.0, steps=1000)'"
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"optcore {optcore.__version__}")
        raise typer.Exit


@app.callback()
def optcore_command(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The optimizer step as a small, exact, fast library."""


@app.command()
def compare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="The name of a task or a function, the path of a CSV file with a header or of a Parquet file, or a "
            "formula, such as '(1 - x)**2 + 100*(y - x**2)**2'.",
        ),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the file that is to be predicted.")
    ] = None,
    optimizers: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Names of optimizers, with commas. Without it: all.")
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,...", help="Learning rates to try. Without it: 0.0001, 0.0003, 0.001 and so on to 100."
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEDULE",
            help="A shape with a peak of 1 that multiplies each learning rate, such as 'Cosine(1.0, steps=1000)', as "
            "optcore schedule takes it. Without it: constant rates.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training rows. Without it: as suits the task.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows for a step, at most. Without it: 64.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,...",
            help="Where a function begins, in the order of its variables. Without it: its own start, ones for a "
            "formula.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps on a function. Without it: 2000.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the held-out rows and the batches; functions have none.")
    ] = 0,
    save_plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the picture goes. Without it: compare-TASK.png.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all results with their curves, too.")
    ] = None,
) -> None:
    """Train a model or minimize a function with every optimizer, and compare.

    A file, diabetes and breast_cancer are fitted by a linear model of standardised columns, from zero. Numbers
    are predicted with the squared error, two classes with the logistic loss, both with an L2 penalty. A file of
    more than 10 000 rows is seen less often by default: a million rows 2 times instead of 200.

    badly_scaled is a linear model whose columns have very different sizes, sparse_linear one of rare words, and mlp a
    small neural network that reads digits.

    Functions are parabola, double_well, himmelblau, booth, ravine, line_fit, three_halves, quadratic_fit, beale,
    rosenbrock, rosenbrock_10, quadratic_fit_scaled, plateau, and formulas of + - * / **, parentheses, names of
    variables and functions such as sqrt, exp, log, sin, tanh and abs. Put one that begins with - into parentheses.

    All optimizers have the same start and see the same batches; a fifth of the rows is held out. Each is tried with
    each learning rate and shown with the one that has the lowest final loss.

    rprop compares the signs of successive gradients, which means nothing between different batches: it gets all
    rows at every step, and so has fewer steps in the same epochs.

    Ctrl-C shows the optimizers that are finished, and writes them into the files that --save-plot and --json name.

    With --schedule, the learning rate at each step is lr times its value at t, the number of completed steps. lr is
    the highest rate if the peak is 1. rprop has a constant lr always, ftrl where the schedule falls to 0.
    """
    from optcore.compare import RATES, Settings, contenders, runs, summary
    from optcore.data import DataError
    from optcore.tasks import load_task

    try:
        chosen = tuple(optcore.CATALOGUE) if optimizers is None else tuple(optimizers.replace(" ", "").split(","))
        rates = RATES if lr is None else tuple(sorted(set(parse_numbers("--lr", lr))))
        shape = None if schedule is None else read_schedule(schedule, NO_SHAPE)
        settings = Settings(chosen, rates, epochs or steps, batch_size or 64, seed, shape)
        place = None if start is None else parse_numbers("--start", start)
    except ValueError as error:
        fail(error)
    check_folder("--save-plot", save_plot)
    check_folder("--json", json_file)
    check_picture_format(save_plot)
    try:
        task = load_task(source, target, seed, place)
    except DataError as error:
        fail(pointed_at(source.strip(), str(error)))
    if task.rows and steps is not None:
        fail("--steps is for functions; how long a model is trained is said by --epochs")
    if not task.rows and epochs is not None:
        fail("--epochs is for models of rows; how long a function is minimized is said by --steps")
    if not task.rows and batch_size is not None:
        fail("--batch-size is for models of rows; each step on a function sees all of it")

    try:
        count = len(contenders(task, settings))
    except DataError as error:
        fail(f"--schedule: {error}")

    from rich.console import Console
    from tqdm import tqdm

    console = Console(highlight=False, markup=False)
    introduce(console, task, settings)
    finished, interrupted = [], False
    with tqdm(total=1.0, bar_format="{l_bar}{bar}| {elapsed}<{remaining}", leave=False, disable=None) as bar:
        try:
            for run in runs(task, settings, lambda share: bar.update(share - bar.n)):
                finished.append(run)
        except KeyboardInterrupt:
            interrupted = True
        except DataError as error:
            bar.close()
            fail(error)
    comparison = summary(task, settings, finished)
    show(console, comparison)
    if interrupted:
        print(f"optcore: interrupted; {len(comparison.rows)} of {count} optimizers were finished", file=sys.stderr)
    try:
        if not interrupted:
            save(console, comparison, save_plot or Path(f"compare-{task.name}.png"), json_file)
        elif comparison.rows:  # only into files that are named, as another may be of a whole run
            save(console, comparison, save_plot, json_file)
    except OSError as error:
        not_written(error)
    if interrupted:
        raise typer.Exit(130)


@app.command()
def schedule(
    text: Annotated[
        str, typer.Argument(metavar="SCHEDULE", help="As in Python, such as 'Warmup(500, Cosine(1e-3, steps=10_000))'.")
    ],
    steps: Annotated[int, typer.Option(min=1, max=10**9, help="How many values: from t = 0 to t = STEPS - 1.")] = 1000,
    log: Annotated[bool, typer.Option("--log", help="A logarithmic value axis.")] = False,
    save_plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a picture into this file, and not here.")
    ] = None,
) -> None:
    """Draw a schedule, and print its first, highest and last value.

    t counts the completed updates. SCHEDULE is read, never run as Python: it has names of schedules with their
    arguments, the methods clamp, shift and every, and * with a number.
    """
    from tqdm import tqdm

    from optcore.plot import save_schedule_curve, schedule_points, text_curve

    chosen = read_schedule(
        text,
        "{} is no function of time, so it has no curve: it follows the losses or gradients of a program; use it there, "
        "as the lr of an optimizer",
    )
    if save_plot is not None:
        check_folder("--save-plot", save_plot)
        check_picture_format(save_plot)
    width = min(max(shutil.get_terminal_size().columns, 40), 120)
    only_ascii = not (sys.stdout.encoding or "").lower().startswith("utf")
    try:
        with tqdm(
            total=1.0, delay=1, bar_format="{l_bar}{bar}| {elapsed}<{remaining}", leave=False, disable=None
        ) as bar:
            points = schedule_points(chosen, steps, lambda share: bar.update(share - bar.n))
        drawing = text_curve(points, width, log=log, only_ascii=only_ascii)
        if save_plot is not None:
            save_schedule_curve(chosen, steps, save_plot, log=log, points=points)
            drawing = f"Picture: {save_plot}"
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except ValueError as error:
        fail(error)
    except OSError as error:
        not_written(error)
    print(f"{drawing}\n")
    show_values(points)


def read_schedule(text: str, refusal: str) -> Schedule:
    """A function of time; ends the command where it is none, with the refusal where it follows a metric."""
    from optcore.expressions import parse
    from optcore.schedules import Schedule

    try:
        schedule = parse(text)
    except ValueError as error:
        fail(pointed_at(text.strip(), str(error)))
    if not isinstance(schedule, Schedule):
        fail(refusal.format(type(schedule).__name__))
    return schedule


def pointed_at(text: str, message: str) -> str:
    """A message about a schedule or a formula, with the text below and a mark where the message says it is."""
    start = f"in {text!r}, at character "
    if not message.startswith(start) or not (text.isascii() and text.isprintable() and len(text) < 80):
        return message
    place, _, reason = message.removeprefix(start).partition(", ")
    return f"{reason}\n{text}\n{'^':>{place}}"


def show_values(points: Points) -> None:
    """The first, the highest and the last value, rounded and in full."""
    rows = [("", "t", "value", "in full")]
    for name, i in (("first", 0), ("peak", points.values.argmax()), ("last", -1)):
        value = float(points.values[i])
        rows.append((name, str(points.t[i]), f"{value:.4g}", repr(value)))
    a, b, c, d = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, t, value, full in rows:
        print(f"{name:{a}}  {t:>{b}}  {value:>{c}}  {full:{d}}".rstrip())


def parse_numbers(option: str, text: str) -> list[float]:
    """Numbers between commas; ValueError where one is none."""
    return [parse_number(option, part) for part in text.split(",")]


def introduce(console: Console, task: Task, settings: Settings) -> None:
    """What is going to be done."""
    from optcore.compare import count_steps
    from optcore.tasks import MANY_ROWS

    console.print(task.heading)
    epochs = settings.epochs or task.epochs
    if task.rows:
        console.print(f"{epochs} epochs in batches of at most {settings.batch_size} rows, seed {settings.seed}.")
        if settings.epochs is None and len(task.rows[0]) > MANY_ROWS:
            console.print(f"There are fewer epochs, as there are more than {MANY_ROWS} rows; --epochs says otherwise.")
    else:
        console.print(f"{epochs} steps, each with the gradient of the whole.")
    if settings.schedule is not None:
        steps = count_steps(task, settings)
        console.print(f"The learning rate is lr times {settings.schedule!r}, in runs of {steps} steps.")


def show(console: Console, comparison: Comparison) -> None:
    """The table, and what does not fit into it."""
    from rich import box
    from rich.table import Table

    task = comparison.task
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("optimizer", no_wrap=True)
    near = f"to {100 * task.within:g} %"
    heads = ["best\nlr", "training\nloss", "held-out\nloss", f"steps\n{near}", f"seconds\n{near}"]
    if not task.rows:
        heads[1:3] = ["\nloss"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("outcome")
    lowest = min((row.run.losses[-1] for row in comparison.rows if row.outcome != "diverged"), default=None)
    for row in comparison.rows:
        run, outcome, cells = row.run, row.outcome, ["-"] * 4
        if outcome == "diverged":
            outcome += f" at step {row.diverged_at}"
        else:
            cells[0] = f"{run.losses[-1]:#.5g}"
            if run.held_out_loss is not None:
                cells[1] = f"{run.held_out_loss:#.4g}"
        if outcome == "converged":
            cells[2:] = str(row.steps_to_best), f"{row.seconds_to_best:.4f}"
        if not task.rows:
            del cells[1]
        table.add_row(
            run.label,
            f"{run.lr:g}{'*' if row.at_edge else ' '}",
            *cells,
            outcome,
            style="bold" if run.losses[-1] == lowest else None,
        )
    console.print()
    print_whole(console, table)
    console.print()
    console.print(
        f"Best known {'training ' if task.rows else ''}loss: {comparison.best_known_loss:.5g}, {comparison.how_known}. "
        f"Converged: at the end at {comparison.converged_loss:.5g} or below, so that {100 * task.within:g} % of the "
        "way from the start to the best is left at most; steps and seconds are those until it was so for the first "
        f"time.{' The held-out loss is without the penalty.' if task.rows else ''}"
    )
    if any(row.at_edge for row in comparison.rows):
        console.print("* The lowest or the highest lr that was tried: one beyond it may be better.")
    constant = [row.run.label for row in comparison.rows if row.run.schedule is None]
    if comparison.settings.schedule is not None and constant:
        console.print(f"With a constant lr, as theirs cannot follow the schedule: {'; '.join(constant)}.")
    by_rates: dict[tuple[float, ...], list[str]] = {}
    for row in comparison.rows:
        by_rates.setdefault(row.diverged_rates, []).append(row.run.label)
    by_rates.pop((), None)
    tried = sorted(comparison.settings.rates)
    for rates, labels in by_rates.items():
        listed = ", ".join(f"{lr:g}" for lr in rates)
        if len(rates) > 1 and sorted(rates) == tried[-len(rates) :]:
            listed = f"{rates[0]:g} and above"
        console.print(f"Diverged at lr {listed}: {'; '.join(labels)}.")


def save(console: Console, comparison: Comparison, picture: Path | None, json_file: Path | None) -> None:
    """Writes the files and tells where they are."""
    from optcore.compare import as_dict
    from optcore.plot import save_loss_curves

    if picture is not None:
        save_loss_curves(comparison, picture)
        console.print(f"Picture: {picture}", soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(as_dict(comparison), allow_nan=False, indent=1) + "\n", encoding="utf-8")
        console.print(f"Results: {json_file}", soft_wrap=True)


app.command()(sweep)


def main() -> None:
    """The console command."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "optcore"):
            raise
        raise SystemExit(INSTALL.format(package)) from None


if __name__ == "__main__":
    main()
