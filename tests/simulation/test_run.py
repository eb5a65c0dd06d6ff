"""Whole runs: a correct protocol passes, each broken one is detected, and a seed decides everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import nan
from typing import Any, cast

import msgspec
import pytest

from stretto.apps import kv_workload
from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_model import KeyValueModel
from stretto.core.config import Limits
from stretto.core.errors import ConfigurationError
from stretto.core.node import Message, Port, Replica
from stretto.core.protocol import ProtocolDefinition
from stretto.core.state_machine import Undo
from stretto.core.trace import TraceRecord, from_lines, to_line
from stretto.fuzzing.swarm import draw_spec
from stretto.protocols.adaptive import ADAPTIVE
from stretto.protocols.speculative import SPECULATIVE
from stretto.protocols.unreplicated import UNREPLICATED
from stretto.protocols.unreplicated.replica import Server
from stretto.replication.client import LeaderClient
from stretto.replication.gate import PEER_RULES, REQUEST_RULES
from stretto.replication.messages import PEER_MESSAGES, Reply, Request, StartViewChange
from stretto.replication.records import RECORDS, Committed, RolledBack
from stretto.services.service import ServiceMachine
from stretto.simulation.faults import faults_for
from stretto.simulation.faults.base import Strength
from stretto.simulation.network import Delay, Links
from stretto.simulation.run import Simulation, SimulationResult, percentiles, simulate
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

APART = Links(skew=Delay("uniform", 0, 10_000))
"""So far that replicas disagree all the time."""
ONE = SimulationSpec("unreplicated", replicas=1, sessions=3, operations=60, settle_ns=12_000_000_000)


class Tape:
    """A state machine that keeps all operations, and answers with how many there are."""

    def __init__(self) -> None:
        self.operations: list[bytes] = []

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        self.operations.append(operation)
        return b"%d" % len(self.operations), True

    def undo(self, undo: Undo) -> None:
        self.operations.pop()

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.operations)

    def restore(self, snapshot: bytes) -> None:
        self.operations = msgspec.msgpack.decode(snapshot, type=list[bytes])


# Servers that are wrong in one way each


class Twice(Server):
    """Forgets what a session's last number was."""

    def accept(self, request: Request) -> None:
        super().accept(request)
        record = self.state.sessions.records.get(request.session)
        if self.state.log.last == 20 and record is not None:
            self.state.sessions.records[request.session] = msgspec.structs.replace(record, number=record.number - 1)
            super().accept(request)


class Forgetful(Server):
    """Answers before it commits, and rolls one answered operation back."""

    forgot = False

    def accept(self, request: Request) -> None:
        result = self.state.append(request)
        self.port.send(request.client, Reply(0, request.session, request.number, result))
        if self.state.log.last == 20 and not self.forgot:
            self.forgot = True
            self.state.roll_back_to(19)
        self.state.commit_up_to(self.state.log.last)


class Liar(Server):
    """Answers one request with a wrong result."""

    def accept(self, request: Request) -> None:
        if self.state.log.last == 20:
            self.state.append(request)
            self.state.commit_up_to(21)
            self.port.send(request.client, Reply(0, request.session, request.number, b"a lie"))
        super().accept(request)


class Meddler(Server):
    """Changes the application's state without a log entry."""

    def accept(self, request: Request) -> None:
        super().accept(request)
        if self.state.log.last == 20:
            self.state.machine.execute(b"nobody asked", 0, 0)


class Sleeper(Server):
    """Stops answering."""

    def accept(self, request: Request) -> None:
        if self.state.log.last < 20:
            super().accept(request)


class Raiser(Server):
    """Raises an error."""

    def accept(self, request: Request) -> None:
        super().accept(request)
        if self.state.log.last == 20:
            raise KeyError("a peer sent nonsense")


class Contradiction(Server):
    """Its state contradicts itself."""

    def check_invariants(self) -> None:
        assert self.state.log.last < 20, "twenty is too much"


class Lagging(Server):
    """Stops committing at some position."""

    def accept(self, request: Request) -> None:
        result = self.state.append(request)
        self.port.send(request.client, Reply(0, request.session, request.number, result))
        self.state.commit_up_to(min(20, self.state.log.last))


class Unagreed(Server):
    """One of several servers that commit at once what arrives: no agreement at all."""

    rules = REQUEST_RULES | PEER_RULES


def broken(server: Callable[..., Any]) -> ProtocolDefinition:
    return replace(UNREPLICATED, replica=server)


def test_an_honest_run_gives_all_its_figures() -> None:
    result = simulate(ONE, UNREPLICATED, Tape)
    assert result.violation is None
    assert (result.operations, result.failures) == (60, {})
    assert result.committed == 60 + 3 + 3  # three sessions were opened, and three calls were made afresh at the end
    assert result.messages_delivered == 2 * result.committed
    assert result.latency_us is not None
    assert 40 <= result.latency_us.p50 <= result.latency_us.p99 <= result.latency_us.max <= 2 * 2 * 30
    assert result.throughput_ops_s == pytest.approx(60 / result.virtual_seconds, rel=1e-3)
    assert result.settled_ms is not None


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (Twice, "executed twice"),
        (Forgetful, "accepted result lost"),
        (Liar, "wrong result"),
        (Meddler, "state is not the log's|wrong result"),
        (Sleeper, "no progress"),
        (Lagging, "no progress"),
        (Raiser, "node raised"),
        (Contradiction, "invariant broken"),
    ],
)
def test_a_broken_protocol_is_detected(server: Callable[..., Any], kind: str) -> None:
    violation = simulate(ONE, broken(server), Tape).violation
    assert violation is not None
    assert violation.kind in kind.split("|")
    assert violation.seed == ONE.seed
    assert violation.command == ONE.command()
    assert violation.time_ns > 0


def test_replicas_that_disagree_are_detected() -> None:
    messages: tuple[type[Message], ...] = (Request, Reply, *PEER_MESSAGES)
    chaos = ProtocolDefinition("chaos", messages, RECORDS, Unagreed, partial(LeaderClient, to_all=True))
    spec = msgspec.structs.replace(ONE, replicas=3, clients=3, links=Links(skew=Delay("uniform", 0, 10_000)))
    violation = simulate(spec, chaos, Tape).violation
    assert violation is not None
    assert violation.kind in ("commits differ", "wrong result", "accepted result lost")


def test_without_checks_violations_are_not_detected() -> None:
    spec = msgspec.structs.replace(ONE, checks=False)
    simulation = Simulation(spec, broken(Meddler), Tape)
    assert simulation.run().violation is None
    assert simulation.history == []


def traced(spec: SimulationSpec) -> tuple[bytes, SimulationResult]:
    lines: list[bytes] = []

    def trace(record: TraceRecord) -> None:
        lines.append(to_line(record))

    result = simulate(spec, SPECULATIVE, trace=trace)
    return b"".join(lines), result


@pytest.fixture(params=["memory", "disk"])
def everything(request: pytest.FixtureRequest) -> SimulationSpec:
    """A run with every fault that there is, none of them strong."""
    faults = faults_for(request.param)
    strengths = dict.fromkeys(faults, Strength(frequency=0.5, duration=0.1))
    spec = SimulationSpec("speculative", replicas=5, clients=2, operations=100, think_ns=1_000_000, seed=5)
    return msgspec.structs.replace(spec, durability=request.param, faults=faults, strengths=strengths)


def test_the_same_seed_gives_the_same_trace_to_the_byte(everything: SimulationSpec) -> None:
    once, result = traced(everything)
    again, _ = traced(everything)
    other, _ = traced(msgspec.structs.replace(everything, seed=6))
    assert result.violation is None
    assert result.restarts > 0
    assert once == again
    assert once != other
    records = list(from_lines(once.splitlines()))
    kinds = {type(record).__name__ for record in records}
    assert {"Sent", "Delivered", "Dropped", "TimerFired", "FaultBegun", "FaultEnded", "Called", "Returned", "Reported"} <= kinds
    assert b"".join(map(to_line, records)) == once


def test_checks_do_not_change_a_run(everything: SimulationSpec) -> None:
    _, watched = traced(everything)
    unwatched = simulate(msgspec.structs.replace(everything, checks=False), SPECULATIVE)
    for figure in ("operations", "latency_us", "virtual_seconds", "reconciliations", "rolled_back_operations", "committed", "recoveries"):
        assert getattr(watched, figure) == getattr(unwatched, figure), figure


@pytest.mark.parametrize("seed", range(12))
def test_speculative_paxos_survives_random_faults(seed: int) -> None:
    spec = draw_spec("speculative", "stretto.core.state_machine:NullMachine", seed)
    assert simulate(spec, SPECULATIVE).violation is None


RESTARTS = SimulationSpec(
    "speculative",
    sessions=8,
    operations=600,
    think_ns=5_000_000,
    faults=("restart",),
    strengths=dict.fromkeys(("restart", "power_cut"), Strength(frequency=5, duration=0.1)),
    limits=Limits(checkpoint_operations=20),
)


def test_dead_replicas_stop_when_all_have_come_into_service() -> None:
    result = simulate(SimulationSpec("adaptive", replicas=5, operations=300, dead=2), ADAPTIVE)
    assert result.violation is None
    assert result.crashed == [3, 4]
    assert result.operations == 300
    assert result.view_changes == 0


def test_a_slow_replica_delays_calls_that_need_it() -> None:
    """A superquorum of three replicas has all of them."""
    fast, slow = (simulate(SimulationSpec("speculative", operations=100, slow_ns=slow_ns), SPECULATIVE) for slow_ns in (0, 300_000))
    assert fast.latency_us is not None
    assert slow.latency_us is not None
    assert slow.latency_us.p50 > 300 > 2 * fast.latency_us.p50


def test_replicas_that_lose_their_state_come_back() -> None:
    """The run checks that at the end all replicas are in service and have every committed operation."""
    result = simulate(RESTARTS, SPECULATIVE, Tape)
    assert result.violation is None
    assert result.restarts > result.recoveries > 3
    assert result.crashed == []
    assert sum(metrics["checkpoints_installed"] for metrics in result.metrics) > 0
    assert {metrics["committed"] for metrics in result.metrics} == {result.committed}
    assert any(event.startswith("view change: replica N recovers") for event in result.events)


def test_a_replica_with_lost_state_refuses_a_mistaken_bootstrap() -> None:
    """It must be started again correctly. Then it recovers, and nothing is lost."""
    spec = msgspec.structs.replace(RESTARTS, faults=("false_bootstrap",), strengths={"false_bootstrap": Strength(5, 0.1)})
    result = simulate(spec, SPECULATIVE, Tape)
    assert result.violation is None
    assert result.restarts > result.struck["false_bootstrap"] > 6
    assert result.recoveries > 3
    assert result.crashed == []


def test_a_power_cut_loses_nothing_that_was_acknowledged() -> None:
    spec = msgspec.structs.replace(RESTARTS, durability="disk", faults=("power_cut",))
    result = simulate(spec, SPECULATIVE, Tape)
    assert result.violation is None
    assert (result.operations, result.failures) == (600, {})
    assert result.restarts == 3 * result.struck["power_cut"] > 3
    assert result.recoveries == 0


class Forgetting:
    """A port that keeps records of one kind off the disk."""

    def __init__(self, port: Port, kind: type[Message]) -> None:
        self._port = port
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def persist(self, record: Message) -> None:
        if not isinstance(record, self._kind):
            self._port.persist(record)

    def compact(self, records: Sequence[Message]) -> None:
        pass


@pytest.mark.parametrize("kind", [Request, RolledBack, Committed, StartViewChange])
def test_a_replica_that_forgets_to_persist_is_detected(kind: type[Message]) -> None:
    def forgetful(port: Port, *arguments: Any) -> Replica:
        return SPECULATIVE.replica(cast(Port, Forgetting(port, kind)), *arguments)

    spec = msgspec.structs.replace(RESTARTS, clients=4, durability="disk", faults=("power_cut", "partition"), links=APART)
    spec = msgspec.structs.replace(spec, settle_ns=3_000_000_000)
    violation = simulate(spec, replace(SPECULATIVE, replica=forgetful), Tape).violation
    assert violation is not None
    assert violation.kind in ("lost state", "invariant broken", "no progress")


def test_a_node_that_stops_itself_is_detected() -> None:
    class Tired(Server):
        def accept(self, request: Request) -> None:
            super().accept(request)
            if self.state.log.last == 20:
                self.port.stop("twenty is enough")

    violation = simulate(ONE, broken(Tired), Tape).violation
    assert violation is not None
    assert (violation.kind, violation.description) == ("node stopped", "replica 0 says: twenty is enough")


def test_datagrams_are_shared_under_load_up_to_the_limit_of_the_server() -> None:
    """One operation costs 1 us for its messages, and up to 9 us for datagrams, which many share under load."""
    costs = Costs(receive_datagram_ns=4_000, receive_message_ns=500, send_datagram_ns=5_000, send_message_ns=500)
    base = SimulationSpec("unreplicated", replicas=1, clients=16, costs=costs, checks=False)
    quiet, busy = (
        simulate(msgspec.structs.replace(base, sessions=sessions, operations=100 * sessions), UNREPLICATED) for sessions in (1, 256)
    )
    assert quiet.latency_us is not None
    assert 2 * 20 + 10 <= quiet.latency_us.p50 <= 2 * 30 + 10
    assert 100_000 < busy.throughput_ops_s < 1_000_000
    assert busy.datagrams_delivered < busy.messages_delivered / 2


def test_wrong_specifications_are_refused_by_name() -> None:
    for change, message in (
        ({"replicas": 4}, "replicas: 4 replicas are listed"),
        ({"sessions": 0}, "sessions: 0 is too small"),
        ({"faults": ("fire",)}, "faults: 'fire' is not a fault"),
        ({"faults": ("kill",)}, "faults: 'kill' strikes disks"),
        ({"strengths": {"loss": Strength()}}, "strengths: 'loss' is not among the faults of this run"),
        ({"faults": ("loss",), "strengths": {"loss": Strength(severity=2)}}, "strengths.loss.severity: 2.* is outside 0 to 1"),
        ({"faults": ("loss",), "strengths": {"loss": Strength(frequency=nan)}}, "strengths.loss.frequency: nan is not a finite number"),
        ({"faults": ("loss",), "strengths": {"loss": Strength(frequency=0)}}, "strengths.loss: frequency and duration are more than 0"),
        ({"costs": Costs(burst=0)}, "costs: burst"),
        ({"links": Links(Delay("uniform", -5))}, "links.transit.base_ns: -5 is too small"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            msgspec.structs.replace(ONE, **change).validate()
    with pytest.raises(ConfigurationError, match=r"timeouts\.sync: there is no such setting; there are timeouts\.sync_"):
        ONE.with_settings({"timeouts.sync": "5"})
    with pytest.raises(ConfigurationError, match=r"costs\.burst: Expected `int`"):
        ONE.with_settings({"costs.burst": "many"})


def test_percentiles() -> None:
    assert percentiles([]) is None
    found = percentiles([1_000 * n for n in range(100, 0, -1)])
    assert found is not None
    assert (found.p50, found.p90, found.p99, found.max) == (51.0, 91.0, 100.0, 100.0)


class WrongModel(KeyValueModel):
    """Of a store in which nothing is ever deleted."""

    def step(self, state: Any, operation: Any) -> tuple[Any, Any]:
        result, after = super().step(state, operation)
        return result, state if operation[0] == "delete" else after


def test_the_history_is_checked_at_the_end() -> None:
    """The test uses a wrong model, since the observers would detect a wrong history earlier."""
    spec = SimulationSpec("speculative", clients=3, sessions=10, operations=300, faults=("loss", "pause"))
    workload = partial(kv_workload.workload, keys=5)
    machine = partial(ServiceMachine, KeyValueStore)
    right = simulate(spec, SPECULATIVE, machine, workload, model=KeyValueModel())
    assert (right.violation, right.history) == (None, "ok")
    wrong = simulate(spec, SPECULATIVE, machine, workload, model=WrongModel())
    assert wrong.violation is not None
    assert (wrong.violation.kind, wrong.history) == ("not linearizable", "not linearizable")
    assert simulate(spec, SPECULATIVE, machine, workload).history is None
    unchecked = simulate(msgspec.structs.replace(spec, checks=False), SPECULATIVE, machine, workload, model=WrongModel())
    assert (unchecked.violation, unchecked.history) == (None, None)
