"""What the commands have in common: how they end, and what they look at before the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["check_folder", "check_picture_format", "fail", "not_written", "parse_number", "print_whole"]


def fail(message: object) -> NoReturn:
    """Ends the command: its input cannot be used."""
    print(f"optcore: {message}", file=sys.stderr)
    raise typer.Exit(2)


def not_written(error: OSError) -> NoReturn:
    """Ends the command: a result is lost."""
    print(f"optcore: {error.filename} cannot be written: {error.strerror}", file=sys.stderr)
    raise typer.Exit(1) from None


def parse_number(option: str, text: str) -> float:
    """One of the numbers between commas; ValueError where it is none."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between, but {text!r} is not a number") from None


def check_folder(option: str, path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        fail(f"{option}: {path} is a folder, or in a folder that does not exist")


def check_picture_format(path: Path | None) -> None:
    """Before the work, so that it is not in vain."""
    from matplotlib.backend_bases import FigureCanvasBase

    formats = FigureCanvasBase.get_supported_filetypes()
    if path is not None and path.suffix[1:].lower() not in formats:
        fail(f"--save-plot: {path} must end in one of {', '.join('.' + name for name in formats)}")


def print_whole(console: Console, table: Table) -> None:
    """Prints a table and cuts off nothing: where it does not fit, the terminal breaks its lines."""
    from rich.measure import Measurement

    before = console.width
    console.width = 1000
    console.width = max(before, Measurement.get(console, console.options, table).minimum)
    console.print(table)
    console.width = before
