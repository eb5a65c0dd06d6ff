"""What several commands share: the options `--protocol`, `--json`, `--durability` and `--config`, and how progress and results
are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stretto.core.config import DEFAULT_PROTOCOL, FILE_NAME
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stretto.bench.measure import Progress

Command = TypeVar("Command", bound=Callable[..., Any])


class CommaSeparated(click.ParamType[Any]):
    """The type of an option that takes values with commas between them; with `choices`, those, or `all`."""

    def __init__(self, kind: type, choices: Sequence[str] = ()) -> None:
        self.name = f"{kind.__name__},..."
        self._kind = kind
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The values. Fails, as click does, for one that is wrong."""
        if not isinstance(value, str):
            return value
        if value == "all" and self._choices:
            return tuple(self._choices)
        parts = []
        for part in filter(None, value.split(",")):
            if self._choices and part not in self._choices:
                self.fail(f"{part!r} is not one of {', '.join(self._choices)}, or all", param, ctx)
            try:
                parts.append(self._kind(part))
            except ValueError:
                self.fail(f"{part!r} is not a {self._kind.__name__}", param, ctx)
        return tuple(parts)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")
"""Gives the command a parameter `as_json`."""

protocol_option = click.option("--protocol", default=DEFAULT_PROTOCOL, show_default=True, help="The replication protocol.")
"""Gives the command a parameter `protocol`."""

durability_option = click.option(
    "--durability",
    type=click.Choice(["memory", "disk"]),
    default="memory",
    show_default=True,
    help="Whether a majority keeps what is stored, or the disk of each replica.",
)
"""Gives the command a parameter `durability`."""


def config_option(command: Command) -> Command:
    """Gives the command a parameter `config_file`: what `--config` names, else the nearest cluster.toml."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        callback=lambda _context, _parameter, value: value or nearest_config(Path.cwd()),
        help=f"The cluster's configuration.  [default: {FILE_NAME} here, or in the nearest directory above]",
    )(command)


def nearest_config(directory: Path) -> Path:
    """The cluster.toml of this directory or of the nearest one above it. Raises ConfigurationError if there is none."""
    for place in (directory, *directory.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    raise ConfigurationError(f"no {FILE_NAME} in {directory} or above; name one with --config, or make one with: stretto cluster init")


def print_json(value: Any) -> None:
    """One JSON document on one line of stdout."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Rows of one kind as a table on stdout."""
    import sys

    from rich.console import Console
    from rich.table import Table

    if not lines:
        click.echo("nothing to show")
        return
    table = Table()
    for key in lines[0]:
        table.add_column(key.replace("_", " "), overflow="fold")
    for line in lines:
        table.add_row(*("-" if value is None else str(value) for value in line.values()))
    # What is not a terminal has no width that a table must fit.
    Console(width=None if sys.stdout.isatty() else 180).print(table)


@contextmanager
def progress_line() -> Iterator[Progress]:
    """A line on stderr that says what goes on; redrawn rarely, since the machine is being measured."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: float | None) -> None:
            bar.update(task, description=what, total=None if done is None else 1.0, completed=done or 0.0, refresh=True)

        yield show
