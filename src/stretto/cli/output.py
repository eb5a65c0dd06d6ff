"""How commands show results and progress, write files, and what they exit with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from stretto.bench.measure import Progress

_FILE_WIDTH = 180

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C ended."""


def exit_status(failed: bool, interrupted: bool) -> int:
    """1 if something failed; else 130 if Ctrl-C ended the command early; else 0."""
    return 1 if failed else INTERRUPTED if interrupted else 0


def print_json(value: Any) -> None:
    """One JSON document on one line of stdout, written at once."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


def console() -> Console:
    """What prints tables on stdout. What is not a terminal has no width that a table must fit."""
    from rich.console import Console

    printer = Console(soft_wrap=True)
    if not printer.is_terminal:
        printer.width = _FILE_WIDTH
    return printer


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Rows of one kind as a table on stdout."""
    from rich.table import Table

    if not lines:
        click.echo("nothing to show")
        return
    table = Table()
    for key in lines[0]:
        table.add_column(key.replace("_", " "), overflow="fold")
    for line in lines:
        table.add_row(*("-" if value is None else str(value) for value in line.values()))
    console().print(table)


def print_rows(lines: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Rows of one kind on stdout: as a table, or with `as_json` as JSON, one line each."""
    if not as_json:
        print_table(lines)
        return
    for line in lines:
        print_json(line)


def print_facts(facts: Iterable[tuple[str, str]], title: str | None = None) -> None:
    """Names in bold and texts on stdout, one pair a line. The texts may have the markup of rich."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, title=title, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(name, text)
    console().print(table)


@contextmanager
def progress_line(console: Console | None = None, start: str = "") -> Iterator[Progress]:
    """A line on stderr that says what is being done; redrawn rarely, since the machine may be being measured."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=console or Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task(start, total=None)

        def show(what: str, done: float | None) -> None:
            bar.update(task, description=what, total=None if done is None else 1.0, completed=done or 0.0, refresh=True)

        yield show


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Errors of writing `file` in here become a ConfigurationError that names it."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror or error}", file=file) from None
    except ValueError as error:  # of a library that draws: it does not know the format that the file's name asks for
        raise ConfigurationError(f"cannot be written: {error}", file=file) from None
