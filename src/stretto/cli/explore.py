"""`stretto explore`: small worlds searched through every order of what may happen in them."""

from __future__ import annotations

from pathlib import Path
from random import SystemRandom
from time import monotonic

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from stretto import catalog
from stretto.cli.options import json_option, protocol_option
from stretto.cli.output import print_json
from stretto.core.errors import ConfigurationError
from stretto.core.protocol import ProtocolDefinition
from stretto.exploration.bounds import Bounds, parse_bounds
from stretto.exploration.guided import GuidedSearch
from stretto.exploration.schedule import KeptViolation, Schedule, confirmed, play, steps_in, to_schedule, told_steps
from stretto.exploration.search import Search
from stretto.exploration.world import World

_SEEDS = 1 << 32


class FoundSchedule(msgspec.Struct):
    """A violation: how to read it, and how to do it again."""

    told: list[str]
    schedule: Schedule


class ExhaustiveResult(msgspec.Struct, tag_field="mode", tag="exhaustive"):
    """What a search came to. `exhausted`: within the bounds there is nothing else; the rest is explained in docs/exploration.md."""

    protocol: str
    bounds: Bounds
    durability: str
    exhausted: bool
    states: int
    node_states: int
    transitions: int
    depth: int
    seconds: float
    violation: FoundSchedule | None


class GuidedResult(msgspec.Struct, tag_field="mode", tag="guided"):
    """What the walks came to."""

    protocol: str
    bounds: Bounds
    durability: str
    seed: int
    walks: int
    steps: int
    seconds: float
    violation: FoundSchedule | None


@click.command("explore")
@protocol_option
@click.option("--bounds", "text", default="", help=f"What differs from {Bounds()}, as in views=2,timers=2.")
@click.option("--durability", type=click.Choice(["memory", "disk"]), default="memory", show_default=True, help="What a crash leaves.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="How long to search.")
@click.option("--max-states", type=click.IntRange(min=1), default=5_000_000, show_default=True, help="How many to keep; ~0.5 GB a million.")
@click.option("--guided", is_flag=True, help="Random walks with a bias, for worlds too large to be searched whole.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the first walk; the others count on from it.  [default: a random one]")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the schedule of a violation to this file.")
@click.option("--replay", type=click.Path(path_type=Path), help="Do the schedule of such a file again, and nothing else.")
@json_option
def command(
    protocol: str,
    text: str,
    durability: str,
    seconds: float,
    max_states: int,
    guided: bool,
    seed: int | None,
    save: Path | None,
    replay: Path | None,
    as_json: bool,
) -> int:
    """Drive the real nodes of a protocol through every order of what may happen to them, within bounds.

    Messages arrive in any order, again, or never; timers fire at any time; replicas crash and start again. After every step it is checked
    that nothing happened that must never happen. Exits 1 if it did, with the steps that lead to it.
    """
    if replay is not None:
        return _replay(replay, as_json)
    bounds = parse_bounds(text)
    if catalog.protocol(protocol).sequencer is not None and not bounds.sequencers:
        bounds = msgspec.structs.replace(bounds, sequencers=1)
    definition = catalog.protocol_for(bounds.config(protocol))
    console = Console(stderr=True, soft_wrap=True)
    began = monotonic()
    search: Search | GuidedSearch
    if guided:
        search = GuidedSearch(definition, bounds, durability == "disk", SystemRandom().randrange(_SEEDS) if seed is None else seed)
    else:
        search = Search(World(definition, bounds, durability == "disk"), max_states)
    _drive(search, seconds, console)
    violation = _shortened(definition, search, save)
    result = _result(search, protocol, durability, round(monotonic() - began, 3), violation)
    if as_json:
        print_json(result)
    else:
        _print(result)
    return 1 if violation is not None else 0


def _drive(search: Search | GuidedSearch, seconds: float, console: Console) -> None:
    """Search until it ends, time is up, or Ctrl-C."""
    deadline = monotonic() + seconds
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(search.in_short(), total=seconds)
        try:
            for _ in search.run():
                left = deadline - monotonic()
                progress.update(task, completed=seconds - max(0.0, left), description=search.in_short())
                if left <= 0:
                    return
        except KeyboardInterrupt:
            console.print("interrupted; what follows is about the search until then")


def _shortened(definition: ProtocolDefinition, search: Search | GuidedSearch, save: Path | None) -> FoundSchedule | None:
    if search.found is None:
        return None
    world, played = confirmed(definition, search.world, search.found)
    assert played.violation is not None
    schedule = to_schedule(world, definition, played.steps, played.violation)
    if save is not None:
        _write(save, schedule)
    return FoundSchedule(list(told_steps(world, played)), schedule)


def _result(
    search: Search | GuidedSearch, protocol: str, durability: str, seconds: float, violation: FoundSchedule | None
) -> ExhaustiveResult | GuidedResult:
    bounds = search.world.bounds
    if isinstance(search, GuidedSearch):
        return GuidedResult(protocol, bounds, durability, search.seed, search.walks, search.steps, seconds, violation)
    node_states = len(search.world.nodes.states)
    counts = (search.exhausted, search.states, node_states, search.transitions, search.depth)
    return ExhaustiveResult(protocol, bounds, durability, *counts, seconds, violation)


def _print(result: ExhaustiveResult | GuidedResult) -> None:
    console = Console(soft_wrap=True)
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = [("protocol", f"{result.protocol}, durability {result.durability}"), ("bounds", str(result.bounds))]
    if isinstance(result, ExhaustiveResult):
        rows += [
            ("states", f"{result.states:,}, made of {result.node_states:,} of single nodes; {result.transitions:,} transitions"),
            ("depth", f"{result.depth} moves"),
            ("bounds exhausted", "yes" if result.exhausted else "no"),
        ]
    else:
        rows.append(("walks", f"{result.walks:,} of {result.steps:,} steps, seeds from {result.seed}"))
    rows += [("seconds", f"{result.seconds:.1f}"), ("violation", "none" if result.violation is None else "[bold red]found")]
    for name, value in rows:
        table.add_row(f"[bold]{name}", value)
    console.print(table)
    if result.violation is not None:
        _print_told(console, result.violation.told)


def _print_told(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _replay(file: Path, as_json: bool) -> int:
    """Do a kept schedule again, with nodes that run from the start."""
    schedule = _read(file)
    bounds = schedule.bounds.validate()
    definition = catalog.protocol_for(bounds.config(schedule.protocol))
    world = World(definition, bounds, schedule.durable, remember=False, reduce=False)
    played = play(world, steps_in(schedule, definition, world))
    told = list(told_steps(world, played))
    if as_json:
        found = None if played.violation is None else KeptViolation(played.violation.kind, played.violation.description)
        print_json({"steps": len(schedule.steps), "played": len(played.steps), "violation": found, "told": told})
    else:
        _print_told(Console(soft_wrap=True), told)
    return 0 if played.violation is None else 1


def _write(file: Path, schedule: Schedule) -> None:
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(schedule)) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=file) from None


def _read(file: Path) -> Schedule:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Schedule)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"is no schedule: {error}", file=file) from None
