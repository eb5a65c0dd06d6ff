"""`stretto simulate`: one run in virtual time."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import IO, Any

import click
import msgspec
from rich.console import Console

from stretto import catalog
from stretto.calibration import costs
from stretto.cli.options import (
    durability_option,
    faults_option,
    json_option,
    protocol_option,
    seed_option,
    service_option,
    settings_option,
)
from stretto.cli.output import print_facts, print_json, writing
from stretto.core import trace as traces
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


@click.command("simulate")
@protocol_option
@service_option(NULL_SERVICE)
@click.option("--replicas", type=int, help="How many.  [default: 3, or as many as the protocol can use]")
@click.option("--clients", type=int, default=1, show_default=True, help="Client nodes.")
@click.option("--sequencers", type=int, help="How many, for a protocol that has them.  [default: 2, or none]")
@click.option("--sessions", type=int, default=16, show_default=True, help="Calls outstanding at a time, over all clients.")
@click.option("--operations", type=int, default=1_000, show_default=True, help="Calls in all.")
@faults_option(f"Any of {', '.join(FAULTS)}.")
@durability_option
@seed_option("Decides everything that is random.", 0)
@click.option("--topology", default="", help="Run over this data-centre network instead of plain links; see stretto network.")
@click.option("--design", default="serialised", show_default=True, help="How that network multicasts.")
@click.option("--merge", default="per_root", show_default=True, help="Where its paths over different roots meet: per_root or early.")
@click.option("--load", type=float, default=0.0, show_default=True, help="The share of its links that other traffic takes.")
@click.option("--bursts", default="onoff", show_default=True, help="How that traffic comes: poisson or onoff.")
@click.option("--jitter-us", type=float, default=0.0, show_default=True, help="The mean jitter of its hosts.")
@click.option("--costs", "costs_file", type=click.Path(path_type=Path), help="What machines spend, a file of stretto calibrate.")
@settings_option("A timeout, limit, delay or cost.")
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

    First calls are made while the faults strike. Then all faults are healed (what crashed for good stays down), and every call must
    complete. How often a fault strikes, for how long and how hard can be set, as in --set strengths.loss.frequency=0.1. The same options
    give the same run, and the same trace to the byte. Exit status 1 if a check failed.
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
        _print(result, speed)
    return 0 if result.violation is None else 1


def _writable(file: Path) -> IO[bytes]:
    with writing(file):
        return file.open("wb")


def _tracer(file: IO[bytes]) -> traces.Tracer:
    def write(record: traces.TraceRecord) -> None:
        file.write(traces.to_line(record))

    return write


def _print(result: SimulationResult, speed: int) -> None:
    spec = result.spec
    facts = [
        ("protocol", f"{spec.protocol}, {spec.replicas} replicas, {spec.clients} clients, {spec.sessions} sessions, seed {spec.seed}"),
        ("durability", spec.durability),
        ("faults", ", ".join(f"{fault} {times:,} times" for fault, times in result.struck.items()) or "none"),
        ("crashed for good", ", ".join(map(str, result.crashed)) or "none"),
        ("restarts", f"{result.restarts:,}; {result.recoveries:,} of them with lost state, and back in service"),
        ("operations", f"{result.operations:,} with a result" + "".join(f", {n:,} {name}" for name, n in result.failures.items())),
        ("virtual time", f"{result.virtual_seconds:.6f} s, then {_or_none(result.settled_ms)} ms until every call had completed"),
        ("throughput", f"{result.throughput_ops_s:,.0f} operations a virtual second"),
    ]
    if result.latency_us is not None:
        latency = result.latency_us
        facts.append(("latency", f"p50 {latency.p50:,.0f}, p90 {latency.p90:,.0f}, p99 {latency.p99:,.0f}, max {latency.max:,.0f} us"))
    facts += [
        ("committed", f"position {result.committed:,}"),
        ("history", "not checked" if result.history is None else f"linearizable: {result.history}"),
        ("reconciliations", f"{result.reconciliations:,}; {result.view_changes:,} of them changed the leader"),
        ("rolled back", f"{result.rolled_back_operations:,} operations, over all replicas"),
        ("messages", f"{result.messages_delivered:,} in {result.datagrams_delivered:,} datagrams; {speed:,} a second of processor time"),
    ]
    print_facts(facts)
    if result.violation is not None:
        print_violation(Console(soft_wrap=True), result.violation)


def print_violation(console: Console, violation: FoundViolation) -> None:
    """Print what went wrong, and the command that repeats it."""
    console.print(f"[bold red]violation at {violation.time_ns / 1e9:.9f} s: {violation.kind}[/]")
    console.print(violation.description, markup=False, highlight=False)
    console.print(f"again with: {violation.command}", markup=False, highlight=False)


def _or_none(milliseconds: float | None) -> str:
    return "no" if milliseconds is None else f"{milliseconds:.3f}"
