"""`stretto simulate`: one run in virtual time, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from stretto import catalog
from stretto.bench import costs
from stretto.cli.options import json_option, protocol_option
from stretto.cli.output import print_json
from stretto.core import trace as traces
from stretto.core.errors import ConfigurationError
from stretto.simulation.fabric import Fabric
from stretto.simulation.faults import FAULTS
from stretto.simulation.load import short_bytes
from stretto.simulation.run import FoundViolation, Simulation, SimulationResult
from stretto.simulation.spec import NULL_SERVICE, SimulationSpec
from stretto.verify import history


def simulation_of(spec: SimulationSpec, trace: traces.Tracer | None = None) -> Simulation:
    """A simulation with the protocol, the service, the workload and the model that `spec` names. Raises ConfigurationError."""
    spec.validate()
    protocol = catalog.protocol_for(spec.config())
    draw = catalog.workload_beside(spec.service)
    workload = short_bytes if draw is None else partial(draw, keys=spec.keys)
    return Simulation(spec, protocol, catalog.service(spec.service), workload, trace, catalog.model_beside(spec.service))


def names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """A list with commas as a tuple."""
    return tuple(name for name in (part.strip() for part in value.split(",")) if name)


def settings(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """`key=value`, several times, as a dictionary."""
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise click.BadParameter(f"{value!r} is not of the form key=value, as in timeouts.sync_interval_ms=5")
        found[key.strip()] = text.strip()
    return found


@click.command("simulate")
@protocol_option
@click.option("--service", default=NULL_SERVICE, show_default=True, help="What is replicated, as module:Class.")
@click.option("--replicas", type=int, help="How many.  [default: 3, or as many as the protocol can use]")
@click.option("--clients", type=int, default=1, show_default=True, help="Client nodes.")
@click.option("--sequencers", type=int, help="How many, for a protocol that has them.  [default: 2, or none]")
@click.option("--sessions", type=int, default=16, show_default=True, help="Calls outstanding at a time, over all clients.")
@click.option("--operations", type=int, default=1_000, show_default=True, help="Calls in all.")
@click.option("--faults", callback=names, default="", metavar="NAME,...", help=f"Any of {', '.join(FAULTS)}.")
@click.option("--durability", type=click.Choice(("memory", "disk")), default="memory", show_default=True, help="What replicas have.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything that is random.")
@click.option("--topology", default="", help="Run over this data-centre network instead of plain links; see stretto network.")
@click.option("--design", default="serialised", show_default=True, help="How that network multicasts.")
@click.option("--merge", default="per_root", show_default=True, help="Where its ways join: per_root or early.")
@click.option("--load", type=float, default=0.0, show_default=True, help="The share of its links that other traffic takes.")
@click.option("--bursts", default="onoff", show_default=True, help="How that traffic comes: poisson or onoff.")
@click.option("--jitter-us", type=float, default=0.0, show_default=True, help="The mean jitter of its hosts.")
@click.option("--costs", "costs_file", type=click.Path(path_type=Path), help="What machines spend, a file of stretto calibrate.")
@click.option("--set", "changes", multiple=True, callback=settings, metavar="KEY=VALUE", help="A timeout, limit, delay or cost.")
@click.option("--checks/--no-checks", default=True, show_default=True, help="Observe every step.")
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), help="Write everything that happens here, as JSON lines.")
@click.option("--history", "history_file", type=click.Path(path_type=Path), help="Write all calls and returns here, as JSON lines.")
@json_option
def command(
    protocol: str,
    service: str,
    replicas: int | None,
    sequencers: int | None,
    topology: str,
    design: str,
    merge: str,
    load: float,
    bursts: str,
    jitter_us: float,
    costs_file: Path | None,
    changes: dict[str, str],
    trace_file: Path | None,
    history_file: Path | None,
    as_json: bool,
    **sizes: Any,
) -> int:
    """Run a cluster in virtual time, with faults, from a seed.

    First calls are made while the faults strike; then all is healed (what crashed for good stays down) and everything must complete. How
    often a fault strikes, how long and how hard can be set, as in --set strengths.loss.frequency=0.1. The same options give the same run,
    and the same trace to the byte. Exits 1 if anything happened that must never happen.
    """
    definition = catalog.protocol(protocol)
    if replicas is None:
        replicas = min(3, definition.max_replicas or 3)
    if sequencers is None:
        sequencers = definition.usual_sequencers
    fabric = Fabric(topology, design, merge, load, bursts, jitter_us)
    spec = SimulationSpec(protocol, service, replicas, sequencers=sequencers, fabric=fabric, **sizes)
    if costs_file is not None:
        spec = costs.load(costs_file).of(spec)
    spec = spec.with_settings(changes)
    if history_file is not None and not spec.checks:
        raise click.UsageError("--history needs the checks, without which no history is kept")
    with ExitStack() as files:
        tracer = None if trace_file is None else _tracer(files.enter_context(_writable(trace_file)))
        history_lines = None if history_file is None else files.enter_context(_writable(history_file))
        began = process_time()
        simulation = simulation_of(spec, tracer)
        result = simulation.run()
        seconds = process_time() - began
        if history_lines is not None:
            history_lines.writelines(history.to_lines(simulation.history))
    speed = round(result.messages_delivered / seconds)
    if as_json:
        print_json({**msgspec.to_builtins(result), "messages_per_second": speed})
    else:
        _print_table(result, speed)
    return 0 if result.violation is None else 1


def _writable(file: Path) -> IO[bytes]:
    try:
        return file.open("wb")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=file) from None


def _tracer(file: IO[bytes]) -> traces.Tracer:
    def write(record: traces.TraceRecord) -> None:
        file.write(traces.to_line(record))

    return write


def _print_table(result: SimulationResult, speed: int) -> None:
    spec = result.spec
    table = Table(show_header=False, box=None, pad_edge=False)
    rows: list[tuple[str, Any]] = [
        ("protocol", f"{spec.protocol}, {spec.replicas} replicas, {spec.clients} clients, {spec.sessions} sessions, seed {spec.seed}"),
        ("durability", spec.durability),
        ("faults", ", ".join(f"{fault} {times:,} times" for fault, times in result.struck.items()) or "none"),
        ("crashed for good", ", ".join(map(str, result.crashed)) or "none"),
        ("restarts", f"{result.restarts:,}; {result.recoveries:,} of them without memory, and back in service"),
        ("operations", f"{result.operations:,} with a result" + "".join(f", {n:,} {name}" for name, n in result.failures.items())),
        ("virtual time", f"{result.virtual_seconds:.6f} s, then {_or_none(result.settled_ms)} ms until everything had completed"),
        ("throughput", f"{result.throughput_ops_s:,.0f} operations a virtual second"),
    ]
    if result.latency_us is not None:
        latency = result.latency_us
        rows.append(("latency", f"p50 {latency.p50:,.0f}, p90 {latency.p90:,.0f}, p99 {latency.p99:,.0f}, max {latency.max:,.0f} us"))
    rows += [
        ("committed", f"position {result.committed:,}"),
        ("history", "not checked" if result.history is None else f"linearizable: {result.history}"),
        ("reconciliations", f"{result.reconciliations:,}, of which {result.view_changes:,} changed the leader"),
        ("rolled back", f"{result.rolled_back_operations:,} operations, over all replicas"),
        ("messages", f"{result.messages_delivered:,} in {result.datagrams_delivered:,} datagrams; {speed:,} a second of processor time"),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}", str(value))
    console = Console(soft_wrap=True)
    console.print(table)
    if result.violation is not None:
        print_violation(console, result.violation)


def print_violation(console: Console, violation: FoundViolation) -> None:
    """Say what went wrong, and how to see it again."""
    console.print(f"[bold red]violation at {violation.time_ns / 1e9:.9f} s: {violation.kind}[/]")
    console.print(violation.description, markup=False, highlight=False)
    console.print(f"again with: {violation.command}", markup=False, highlight=False)


def _or_none(milliseconds: float | None) -> str:
    return "no" if milliseconds is None else f"{milliseconds:.3f}"
