"""Options that several commands have. Each gives its command a parameter, named in its docstring."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

import click

from stretto.core.config import DEFAULT_PROTOCOL, FILE_NAME
from stretto.core.errors import ConfigurationError

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]

KEY_VALUE_STORE = "stretto.apps.kv:KeyValueStore"
_SEEDS = 1 << 32


class CommaSeparated(click.ParamType[Any]):
    """The type of an option that takes values with commas between them; with `choices`, those, or `all`."""

    def __init__(self, kind: type, choices: Sequence[str] = ()) -> None:
        self.name = f"{kind.__name__},..."
        self._kind = kind
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The values, as a tuple. Fails, as click does, for one that is wrong."""
        if not isinstance(value, str):
            return value
        if value == "all" and self._choices:
            return tuple(self._choices)
        parts = []
        for part in filter(None, map(str.strip, value.split(","))):
            if self._choices and part not in self._choices:
                self.fail(f"{part!r} is not one of {', '.join(self._choices)}, or all", param, ctx)
            try:
                parts.append(self._kind(part))
            except ValueError:
                self.fail(f"{part!r} is not a {self._kind.__name__}", param, ctx)
        return tuple(parts)


class NumberRange(click.FloatRange):
    """The type of an option that takes a number of a range. It refuses "nan", which a comparison with the ends of the range lets pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails, as click does, for one that is wrong."""
        number: float = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def together(*options: Option[Any]) -> Option[Any]:
    """Several options as one decorator; help lists them in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")
"""`as_json`."""

protocol_option = click.option("--protocol", default=DEFAULT_PROTOCOL, show_default=True, help="The replication protocol.")
"""`protocol`."""

durability_option = click.option(
    "--durability",
    type=click.Choice(["memory", "disk"]),
    default="memory",
    show_default=True,
    help="Whether a majority keeps what is stored, or the disk of each replica.",
)
"""`durability`."""

multicast_option = click.option(
    "--multicast/--no-multicast", default=True, help="Send requests by IP multicast, or to each replica.  [default: multicast]"
)
"""`multicast`."""

dask_option = click.option("--dask", metavar="ADDRESS", help="Simulate on the Dask cluster whose scheduler is at this address.")
"""`dask`."""

workers_option = click.option(
    "--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="all cores", help="Processes that simulate."
)
"""`workers`."""

repeat_option = click.option(
    "--repeat", type=click.IntRange(1, 100), default=1, show_default=True, help="How often to measure; the figures are medians."
)
"""`repeat`."""


def _settings(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise click.BadParameter(f"{value!r} is not of the form key=value, as in timeouts.sync_interval_ms=5")
        found[key.strip()] = text.strip()
    return found


def settings_option(what: str) -> Option[Any]:
    """`changes`, a dictionary of the settings that `--set` gives."""
    return click.option("--set", "changes", multiple=True, callback=_settings, metavar="KEY=VALUE", help=what)


def faults_option(what: str) -> Option[Any]:
    """`faults`, a tuple of names."""
    return click.option("--faults", type=CommaSeparated(str), default="", metavar="NAME,...", help=what)


def service_option(default: str = KEY_VALUE_STORE) -> Option[Any]:
    """`service`."""
    return click.option("--service", default=default, show_default=True, help="The replicated class, as module:Class.")


def plot_option(what: str) -> Option[Any]:
    """`plot`; `what` is drawn, such as "latency by percentile". A file that cannot be drawn is refused before the work begins."""

    def checked(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> Path | None:
        if file is not None:
            from stretto.bench.plots import check_plot_file

            check_plot_file(file)
        return file

    return click.option("--plot", type=click.Path(path_type=Path), callback=checked, help=f"Draw {what} into this PNG, SVG or PDF file.")


def seed_option(what: str, default: int | None = None) -> Option[Any]:
    """`seed`, a random one if there is no default; `what` it decides."""

    def drawn(_context: click.Context, _parameter: click.Parameter, value: int | None) -> int:
        return SystemRandom().randrange(_SEEDS) if value is None else value

    shown = "  [default: a random one]" if default is None else ""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=default, show_default=default is not None, callback=drawn, help=what + shown
    )


def bench_load_options(client_processes: int, sessions: int, seconds: float) -> Option[Any]:
    """The fields of a `stretto.bench.plan.Plan` that say what load is put on a cluster and for how long, with these defaults."""
    return together(
        click.option("--client-processes", default=client_processes, show_default=True, help="How many processes make the load."),
        click.option("--sessions", default=sessions, show_default=True, help="Calls outstanding at a time, over all client processes."),
        click.option("--rate", "rate_ops_s", type=float, help="An open loop: this many operations a second, due at random times."),
        click.option("--seconds", default=seconds, show_default=True, help="How long to measure."),
        click.option("--warm-up", "warm_up_s", default=1.0, show_default=True, help="For how many seconds the load runs before that."),
        click.option(
            "--operation", type=click.Choice(["null", "kv"]), default="null", show_default=True, help="What kind of operation is called."
        ),
    )


def config_option(command: Command) -> Command:
    """`config_file`: what `--config` names, else the nearest cluster.toml."""
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
