"""Figures of a simulated cluster. Each replica and each client node has a machine of its own, whose work takes the time that `Costs` say.

A run has closed-loop sessions and two parts: a warm-up, in which sessions are opened and queues fill, and the measured part. Each ends when
a given number of operations has completed while the load continues, so the load is the same throughout the measured part.

`clients` of the specification is the number of machines that share the sessions. With `one_machine_each` each session has its own, as the
clients of the papers do: no two requests share a datagram, and a client has only one call to work for, so the replicas set the limit,
whatever `client_costs` are. The time that a client spends is a part of latency, as it is in reality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from stretto.bench.report import Figures, latencies
from stretto.core.errors import StrettoError
from stretto.core.protocol import ProtocolDefinition
from stretto.core.state_machine import NullMachine, StateMachine
from stretto.simulation.load import Workload, short_bytes
from stretto.simulation.run import Simulation
from stretto.simulation.spec import SimulationSpec

_SLICE_NS = 1_000_000
"""How often it is checked whether a part has ended."""

_EVENTS_A_SLICE = 10_000_000
_MOST_SESSIONS = 1_024
_WORTHWHILE = 1.03
_COUNTED = ("messages_received", "messages_sent", "datagrams_received", "datagrams_sent", "bursts", "busy_ns")
_OF_NODES = ("reconciliations", "view_changes", "repairs", "rolled_back_operations")


class Stalled(StrettoError):
    """The simulated cluster completed no operation in the measured part."""


def one_machine_each(spec: SimulationSpec) -> SimulationSpec:
    """The same run with each session on a client machine of its own."""
    return msgspec.structs.replace(spec, clients=spec.sessions)


def saturate(measure: Callable[[int], Figures], most_sessions: int = _MOST_SESSIONS) -> Iterator[Figures]:
    """The figures of `measure(sessions)` with 1, 2, 4, ... sessions, until doubling the sessions twice in a row gains less than 3%.

    The first have the latency at low load. Those with the greatest `throughput_ops_s` show the maximum throughput: closed loops cannot
    overload a cluster, so more sessions are tried until throughput no longer grows.
    """
    best, in_vain, sessions = 0.0, 0, 1
    while sessions <= most_sessions and in_vain < 2:
        figures = measure(sessions)
        yield figures
        in_vain = 0 if figures["throughput_ops_s"] > best * _WORTHWHILE else in_vain + 1
        best = max(best, figures["throughput_ops_s"])
        sessions *= 2


@dataclass(frozen=True)
class _Reading:
    """All counters at one moment."""

    now_ns: int
    completed: int
    failures: dict[str, int]
    nodes: list[dict[str, Any]]
    replicas: list[dict[str, int]]
    clients_busy_ns: list[int]
    datagrams_sent: int

    @classmethod
    def of(cls, simulation: Simulation) -> _Reading:
        machines = simulation.lifecycle.replicas
        return cls(
            simulation.world.now_ns,
            simulation.load.completed,
            dict(simulation.load.failures),
            [machine.node.metrics() for machine in machines],
            [{name: getattr(machine, name) for name in _COUNTED} for machine in machines],
            [machine.busy_ns for machine in simulation.clients],
            sum(machine.datagrams_sent for machine in simulation.world.machines.values()),
        )


def measure_simulated(
    spec: SimulationSpec,
    protocol: ProtocolDefinition,
    machine: Callable[[], StateMachine] = NullMachine,
    workload: Workload = short_bytes,
    *,
    warm_up: int | None = None,
    checks: bool = False,
) -> Figures:
    """Let `spec.operations` complete after `warm_up` others. Returns a flat object of figures, the same for the same arguments.

    `warm_up`: by default a fifth of the operations, and at least three for each session. If the operations take more than `spec.fault_ns`
    of virtual time, the measured part ends then; faults of the specification strike all the time. `checks`: observe every step, which
    takes four times as long, and raises Violation.

    Figures, where `leader` is the replica that leads at the end and `follower` the mean of the others (None if there is none):

    - `throughput_ops_s`, `latency_us`: of the operations that ended in the measured part, which took `virtual_seconds`;
    - `messages_per_op`, `datagrams_per_op`: received and sent; a multicast counts once where it is sent; `bursts_per_op`: how often a
      machine began to work;
    - `cpu_us_per_op`: the time that machines were charged; `utilisation`: the part of the time that a machine worked; `client` is that
      of the busiest client.

    Raises ConfigurationError if the specification is invalid, Stalled if no operation ended in the measured part.
    """
    spec = msgspec.structs.replace(spec.validate(), checks=checks)
    simulation = Simulation(spec, protocol, machine, workload)
    _begin(simulation)
    warm_up = max(spec.operations // 5, 3 * spec.sessions) if warm_up is None else warm_up
    _run_until(simulation, warm_up)
    before = _Reading.of(simulation)
    _run_until(simulation, before.completed + spec.operations)
    after = _Reading.of(simulation)
    if after.completed == before.completed:
        raise Stalled(f"no operation ended in {(after.now_ns - before.now_ns) / 1e9:g} s of virtual time: {spec.command()}")
    return _figures(simulation, before, after)


def _begin(simulation: Simulation) -> None:
    """Start all callers of a machine at once, as a process does: their requests begin by sharing datagrams, and mostly go on so."""
    held = [(machine, machine.hold()) for machine in simulation.clients]
    simulation.load.begin(1 << 62)
    for machine, incarnation in held:
        machine.release(incarnation)


def _run_until(simulation: Simulation, completed: int) -> None:
    """Let virtual time pass until so many operations have ended, or `fault_ns` has passed."""
    world, load = simulation.world, simulation.load
    until_ns = world.now_ns + simulation.spec.fault_ns
    while load.completed < completed and world.now_ns < until_ns:
        world.run(min(until_ns, world.now_ns + _SLICE_NS), _EVENTS_A_SLICE)


def _figures(simulation: Simulation, before: _Reading, after: _Reading) -> Figures:
    spec = simulation.spec
    span_ns = after.now_ns - before.now_ns
    seconds, operations = span_ns / 1e9, after.completed - before.completed
    latencies_ns = np.array(simulation.load.latencies_ns[before.completed : after.completed], np.int64)
    increases = [{name: now[name] - then[name] for name in _COUNTED} for then, now in zip(before.replicas, after.replicas, strict=True)]
    leader = max(simulation.lifecycle.replicas, key=lambda machine: machine.node.view).node.leader
    roles = {"leader": [increases[leader]], "follower": [increase for index, increase in enumerate(increases) if index != leader]}
    nodes = list(zip(before.nodes, after.nodes, strict=True))
    counted = {name: [now.get(name, 0) - then.get(name, 0) for then, now in nodes] for name in _OF_NODES}

    def each(of_role: Callable[[Sequence[dict[str, int]]], Any]) -> Figures:
        return {role: of_role(members) if members else None for role, members in roles.items()}

    def flow(unit: str) -> Figures:
        return each(lambda members: {direction: _mean(members, f"{unit}_{direction}") / operations for direction in ("received", "sent")})

    return {
        "protocol": spec.protocol,
        "replicas": spec.replicas,
        "clients": spec.clients,
        "sessions": spec.sessions,
        "seed": spec.seed,
        "operations": operations,
        "virtual_seconds": seconds,
        "throughput_ops_s": operations / seconds,
        "latency_us": latencies(latencies_ns),
        "messages_per_op": flow("messages"),
        "datagrams_per_op": flow("datagrams"),
        "all_datagrams_per_op": (after.datagrams_sent - before.datagrams_sent) / operations,
        "bursts_per_op": each(lambda members: _mean(members, "bursts") / operations),
        "cpu_us_per_op": each(lambda members: _mean(members, "busy_ns") / 1e3 / operations),
        "utilisation": each(lambda members: _mean(members, "busy_ns") / span_ns) | {"client": _busiest(before, after) / span_ns},
        "reconciliations_per_s": max(counted["reconciliations"]) / seconds,
        "view_changes": max(counted["view_changes"]),
        "repairs": max(counted["repairs"]),
        "rolled_back_operations": sum(counted["rolled_back_operations"]),
        "failures": {name: count - before.failures.get(name, 0) for name, count in after.failures.items()},
    }


def _mean(members: Sequence[dict[str, int]], name: str) -> float:
    return sum(member[name] for member in members) / len(members)


def _busiest(before: _Reading, after: _Reading) -> int:
    return max(now - then for then, now in zip(before.clients_busy_ns, after.clients_busy_ns, strict=True))
