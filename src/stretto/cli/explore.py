"""`stretto explore`: small worlds searched through every order of events."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stretto import catalog
from stretto.cli.options import NumberRange, durability_option, json_option, protocol_option, seed_option
from stretto.cli.output import exit_status, print_facts, print_json, writing
from stretto.core.errors import ConfigurationError
from stretto.core.protocol import ProtocolDefinition
from stretto.exploration.bounds import Bounds, parse_bounds
from stretto.exploration.guided import GuidedSearch
from stretto.exploration.report import ExhaustiveResult, GuidedResult, result_of, shortest
from stretto.exploration.schedule import KeptViolation, Schedule, described_steps, play, steps_in
from stretto.exploration.search import Search
from stretto.exploration.world import World


@click.command("explore")
@protocol_option
@click.option("--bounds", "text", default="", help=f"Bounds that differ from {Bounds()}, as in views=2,timers=2.")
@durability_option
@click.option("--seconds", type=NumberRange(min=0, min_open=True), default=60.0, show_default=True, help="How long to search.")
@click.option(
    "--max-states",
    type=click.IntRange(min=1),
    default=5_000_000,
    show_default=True,
    help="How many states to keep; a million take about 0.5 GB.",
)
@click.option("--guided", is_flag=True, help="Random walks with a bias, for worlds too large to be searched whole.")
@click.option("--after", type=click.Path(path_type=Path), help="With --guided: begin each walk at the end of the schedule in this file.")
@seed_option("The seed of the first walk; the other walks have the seeds after it.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the schedule of a violation to this file.")
@click.option("--replay", type=click.Path(path_type=Path), help="Replay the schedule of such a file, and do nothing else.")
@json_option
def command(
    protocol: str,
    text: str,
    durability: str,
    seconds: float,
    max_states: int,
    guided: bool,
    after: Path | None,
    seed: int,
    save: Path | None,
    replay: Path | None,
    as_json: bool,
) -> int:
    """Drive the real nodes of a protocol through every order of events, within bounds.

    Messages arrive in any order, several times, or never; timers fire at any time; replicas crash and restart. The checks run after every
    step. Exit status 1 if one failed, with the steps that lead to it. Ctrl-C prints the result until then.
    """
    if replay is not None:
        return _replay(replay, as_json)
    if save is not None and not save.absolute().parent.is_dir():
        raise ConfigurationError(f"cannot be written: there is no directory {save.absolute().parent}", file=save)
    if after is not None and not guided:
        raise ConfigurationError("begins the walks of a guided search: add --guided", key="--after")
    bounds = parse_bounds(text)
    if catalog.protocol(protocol).sequencer is not None and not bounds.sequencers:
        bounds = msgspec.structs.replace(bounds, sequencers=1)
    definition = catalog.protocol_for(bounds.config(protocol))
    console = Console(stderr=True, soft_wrap=True)
    began = monotonic()
    search: Search | GuidedSearch
    if guided:
        search = _guided(definition, bounds, durability == "disk", seed, after)
    else:
        search = Search(World(definition, bounds, durability == "disk"), max_states)
    interrupted = _drive(search, seconds, console)
    violation = shortest(definition, search)
    if save is not None and violation is not None:
        _write(save, violation.schedule)
    result = result_of(search, protocol, durability, round(monotonic() - began, 3), violation)
    if as_json:
        print_json(result)
    else:
        _print(result)
    return exit_status(violation is not None, interrupted)


def _guided(definition: ProtocolDefinition, bounds: Bounds, durable: bool, seed: int, after: Path | None) -> GuidedSearch:
    """A guided search from the start, or from the end of a schedule of the same protocol, whatever bounds that was found within."""
    if after is None:
        return GuidedSearch(definition, bounds, durable, seed)
    schedule = _read(after)
    if schedule.protocol != definition.name:
        raise ConfigurationError(f"is a schedule of {schedule.protocol}, not of {definition.name}", file=after)
    try:
        return GuidedSearch(definition, bounds, durable, seed, steps_in(schedule, definition, World(definition, bounds, durable)))
    except ConfigurationError as error:
        raise error.in_file(after) from None


def _drive(search: Search | GuidedSearch, seconds: float, console: Console) -> bool:
    """Search until it ends, or time is up; or until Ctrl-C: whether that came."""
    deadline = monotonic() + seconds
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(search.in_short(), total=seconds)
        try:
            for _ in search.run():
                left = deadline - monotonic()
                progress.update(task, completed=seconds - max(0.0, left), description=search.in_short())
                if left <= 0:
                    break
        except KeyboardInterrupt:
            console.print("interrupted; this is the result until then")
            return True
    return False


def _print(result: ExhaustiveResult | GuidedResult) -> None:
    facts = [("protocol", f"{result.protocol}, durability {result.durability}"), ("bounds", str(result.bounds))]
    if isinstance(result, ExhaustiveResult):
        facts += [
            ("states", f"{result.states:,}, composed of {result.node_states:,} states of single nodes; {result.transitions:,} transitions"),
            ("depth", f"{result.depth} moves"),
            ("bounds exhausted", "yes" if result.exhausted else "no"),
        ]
    else:
        facts.append(("walks", f"{result.walks:,} of {result.steps:,} steps, seeds from {result.seed}"))
    facts += [("seconds", f"{result.seconds:.1f}"), ("violation", "none" if result.violation is None else "[bold red]found")]
    print_facts(facts)
    if result.violation is not None:
        _print_steps(result.violation.description)


def _print_steps(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


def _replay(file: Path, as_json: bool) -> int:
    """Replay a saved schedule, with nodes that run from the start."""
    schedule = _read(file)
    bounds = schedule.bounds.validate()
    definition = catalog.protocol_for(bounds.config(schedule.protocol))
    world = World(definition, bounds, schedule.durable, remember=False, reduce=False)
    played = play(world, steps_in(schedule, definition, world))
    description = list(described_steps(world, played))
    if as_json:
        found = None if played.violation is None else KeptViolation(played.violation.kind, played.violation.description)
        print_json({"steps": len(schedule.steps), "played": len(played.steps), "violation": found, "description": description})
    else:
        _print_steps(description)
    return 0 if played.violation is None else 1


def _write(file: Path, schedule: Schedule) -> None:
    with writing(file):
        file.write_bytes(msgspec.json.format(msgspec.json.encode(schedule)) + b"\n")


def _read(file: Path) -> Schedule:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Schedule)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"is not a schedule: {error}", file=file) from None
