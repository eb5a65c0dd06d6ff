"""Versions of a service: replicas get newer code one by one, and the last one makes the new version active, on all alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from acting import MS

from stretto import Cell, NotActive, Service, operation, query
from stretto.catalog import protocol
from stretto.core.config import Limits
from stretto.core.node import Client
from stretto.core.state_machine import StateMachine
from stretto.protocols.adaptive import ADAPTIVE
from stretto.replication.group import Status
from stretto.replication.messages import (
    CONFIGURATION,
    CodeVersion,
    Configuration,
    DoViewChange,
    Request,
    StartView,
    StartViewChange,
    ViewBegins,
    ViewEntered,
)
from stretto.replication.replica import Replica
from stretto.services.service import ServiceCodec, ServiceMachine
from stretto.testing.stage import InFlight, Stage

REPLICATED = ["adaptive", "speculative", "multipaxos", "multipaxos-batched", "fastpaxos", "nopaxos"]


class First(Service):
    def __init__(self) -> None:
        self.total = Cell[int](0)

    @operation
    def add(self, amount: int) -> int:
        self.total.value += amount
        return self.total.value


class Second(First):
    version = 2

    def __init__(self) -> None:
        super().__init__()
        self.calls = Cell[int](0, since=2)

    def upgrade(self, old: int) -> None:
        self.total.value *= 10

    @operation
    def add(self, amount: int) -> int:
        if self.version >= 2:
            self.calls.value += 1
        self.total.value += amount
        return self.total.value

    @query(since=2)
    def count(self) -> int:
        return self.calls.value


class Failing(Second):
    def upgrade(self, old: int) -> None:
        self.total.value = 99
        raise MemoryError


class Careless(First):
    """Changed, and its author forgot to say so."""

    @query
    def read(self) -> int:
        return self.total.value


for release in (Second, Failing, Careless):
    release.__name__ = "First"
CODEC = ServiceCodec(Second)


class Cluster:
    """A stage whose replicas have the code that `code` says when they start."""

    def __init__(self, name: str, code: type[Service] = First, n: int = 3, **options: Any) -> None:
        self.code = code
        self.stage = Stage(protocol(name), n, self._machine, **options)
        self.stage.run(100 * MS)
        self.client: Client = self.stage.client()

    def _machine(self) -> StateMachine:
        return ServiceMachine(self.code)

    @property
    def replicas(self) -> list[Replica]:
        return cast(list[Replica], self.stage.replicas)

    def call(self, method: str, *args: Any, ms: int = 300) -> Any:
        handle = self.stage.call(self.client, CODEC.encode(method, args))
        self.stage.run(ms * MS)
        result = self.stage.results[handle]
        if not isinstance(result, bytes):
            raise result
        return CODEC.decode(method, result)

    def restart(self, index: int, code: type[Service]) -> None:
        self.code = code
        self.stage.crash(index)
        self.stage.restart(index)
        self.stage.run(500 * MS)

    def versions(self) -> list[int]:
        return [replica.state.configuration.version for replica in self.replicas]


@pytest.mark.parametrize("name", REPLICATED)
@pytest.mark.parametrize("durable", [False, True])
def test_a_version_becomes_active_when_the_last_replica_has_its_code(name: str, durable: bool) -> None:
    cluster = Cluster(name, durable=durable)
    assert cluster.call("add", 1) == 1
    for index in (2, 1, 0):
        with pytest.raises(NotActive, match="count exists from version 2 on; version 1 is active"):
            cluster.call("count")
        assert cluster.versions() == [1, 1, 1]
        cluster.restart(index, Second)
    cluster.stage.run(2_000 * MS)
    assert cluster.versions() == [2, 2, 2]
    assert cluster.call("add", 2) == 12
    assert cluster.call("count") == 1
    cluster.stage.run(2_000 * MS)
    assert len({replica.state.machine.snapshot() for replica in cluster.replicas}) == 1
    assert not [report for report in cluster.stage.reports if "differ" in report[1]]
    cluster.restart(1, Second)
    assert cluster.versions() == [2, 2, 2]


@pytest.mark.parametrize("name", [*REPLICATED, "unreplicated"])
def test_a_new_cluster_has_the_newest_version_before_the_first_call(name: str) -> None:
    cluster = Cluster(name, Second, 1 if name == "unreplicated" else 3)
    assert cluster.call("count") == 0
    assert set(cluster.versions()) == {2}


def test_what_comes_before_the_first_configuration_waits_for_it() -> None:
    stage = Stage(ADAPTIVE, 3, lambda: ServiceMachine(Second))
    client = stage.client()
    handle = stage.call(client, CODEC.encode("count"))
    stage.run(1_000 * MS)
    result = stage.results[handle]
    assert isinstance(result, bytes)
    assert CODEC.decode("count", result) == 0


def test_a_new_cluster_in_which_one_replica_has_old_code_begins_with_the_old_version() -> None:
    cluster = Cluster("adaptive", Second)
    releases = iter([First, Second, Second])
    stage = Stage(ADAPTIVE, 3, lambda: ServiceMachine(next(releases)))
    cluster.stage = stage
    cluster.client = stage.client()
    assert cluster.call("add", 1, ms=2_000) == 1
    assert cluster.versions() == [1, 1, 1]


@pytest.mark.parametrize("name", REPLICATED)
def test_an_upgrade_that_fails_leaves_the_old_version_and_is_not_tried_again(name: str) -> None:
    cluster = Cluster(name, durable=True)
    assert cluster.call("add", 1) == 1
    for index in (2, 1, 0):
        cluster.restart(index, Failing)
    cluster.stage.run(5_000 * MS)
    assert cluster.versions() == [1, 1, 1]
    assert {replica.state.attempted for replica in cluster.replicas} == {2}
    assert len([event for _, event, _ in cluster.stage.reports if event == "upgrade failed"]) >= 3
    views = [replica.view for replica in cluster.replicas]
    assert cluster.call("add", 1) == 2
    cluster.stage.run(5_000 * MS)
    assert [replica.view for replica in cluster.replicas] == views


def test_code_that_changed_without_its_version_stops() -> None:
    cluster = Cluster("adaptive", durable=True)
    cluster.restart(1, Careless)
    reason = cluster.stage.ports[1].stopped
    assert reason is not None
    assert "it has query read() -> int, where they have nothing" in reason
    assert "needs a new `version`" in reason
    assert cluster.call("add", 1) == 1


def test_code_older_than_the_active_version_stops() -> None:
    for durable, checkpoint in ((True, 20_000), (False, 20_000), (True, 2), (False, 2)):
        cluster = Cluster("adaptive", Second, durable=durable, limits=Limits(checkpoint_operations=checkpoint))
        for _ in range(5):
            cluster.call("add", 1)
        if durable and checkpoint == 2:
            with pytest.raises(msgspec.DecodeError, match="it is of version 2, and this code of First is of version 1"):
                cluster.restart(1, First)
        else:
            cluster.restart(1, First)
            reason = cluster.stage.ports[1].stopped
            assert reason is not None
            assert "version 2" in reason
            assert "version 1" in reason
        assert cluster.call("add", 1) == 6


def test_settings_that_decide_outcomes_come_by_the_log() -> None:
    cluster = Cluster("adaptive", limits=Limits(max_sessions=2))
    assert {replica.state.configuration for replica in cluster.replicas} == {Configuration(1, 2)}
    clients = [cluster.stage.client() for _ in range(4)]
    for client in clients:
        cluster.stage.call(client, CODEC.encode("add", (1,)))
        cluster.stage.run(50 * MS)
    assert {len(replica.state.sessions.records) for replica in cluster.replicas} == {2}


# The seal


def sealed(cluster: Cluster, reached: tuple[int, ...] = (0, 1, 2)) -> None:
    """All have new code, and those in `reached` have entered the view whose log ends with the configuration; nobody has committed it."""
    stage = cluster.stage
    for index in (2, 1):
        cluster.restart(index, Second)
    cluster.code = Second
    stage.crash(0)
    stage.restart(0)
    for _ in range(200):
        stage.run(10 * MS, lambda flight: not isinstance(flight.message, ViewEntered | ViewBegins) and goes(flight, reached))
        if all(cluster.replicas[index].group.status is Status.SEALED for index in reached):
            return
    raise AssertionError([replica.group.status for replica in cluster.replicas])


def goes(flight: InFlight, reached: tuple[int, ...]) -> bool:
    return not (isinstance(flight.message, StartView) and flight.destination not in reached)


def test_nothing_is_appended_behind_a_configuration_that_is_not_committed() -> None:
    cluster = Cluster("speculative", durable=True)
    assert cluster.call("add", 1) == 1
    sealed(cluster)
    stage = cluster.stage
    handle = stage.call(cluster.client, CODEC.encode("add", (2,)))
    stage.settle(lambda flight: isinstance(flight.message, Request))
    for replica in cluster.replicas:
        assert replica.state.log.entry_at(replica.state.log.last).session == CONFIGURATION
        assert replica.state.is_sealed
        assert replica.state.configuration.version == 1
        assert len(replica.pending) == 1
    stage.run(1_000 * MS)
    assert CODEC.decode("add", cast(bytes, stage.results[handle])) == 12
    assert cluster.versions() == [2, 2, 2]


def test_a_configuration_survives_the_leader_that_made_it() -> None:
    """The leader dies when all have entered its sealed view. The next one starts its view sealed too, with the same entry."""
    cluster = Cluster("adaptive", n=3, durable=True)
    assert cluster.call("add", 1) == 1
    sealed(cluster)
    stage = cluster.stage
    leader = cluster.replicas[1].group.leader
    stage.crash(leader)
    stage.run(2_000 * MS)
    alive = [replica for index, replica in enumerate(cluster.replicas) if index != leader]
    assert [replica.state.configuration.version for replica in alive] == [2, 2]
    entries = [[entry.session for entry in replica.state.log.entries(1)].count(CONFIGURATION) for replica in alive]
    assert entries == [1, 1]
    assert cluster.call("add", 2) == 12


def test_a_follower_that_missed_the_end_of_the_seal_asks_for_it() -> None:
    cluster = Cluster("multipaxos")
    sealed(cluster)
    stage = cluster.stage
    leader = cluster.replicas[1].group.leader
    follower = (leader + 1) % 3
    stage.run(25 * MS, lambda flight: not (isinstance(flight.message, ViewBegins) and flight.destination == follower))
    assert cluster.replicas[leader].group.status is Status.NORMAL
    assert cluster.replicas[follower].group.status is Status.SEALED
    stage.run(50 * MS)
    assert cluster.replicas[follower].group.status is Status.NORMAL
    assert cluster.versions() == [2, 2, 2]


def test_a_replica_that_restarts_in_a_sealed_view_waits_on() -> None:
    cluster = Cluster("adaptive", durable=True)
    sealed(cluster)
    stage = cluster.stage
    leader = cluster.replicas[1].group.leader
    follower = (leader + 1) % 3
    stage.crash(follower)
    stage.restart(follower)
    assert cluster.replicas[follower].group.status is Status.SEALED
    stage.run(1_000 * MS)
    assert cluster.versions() == [2, 2, 2]


def test_a_replica_that_fetches_a_configuration_executes_it_before_what_follows() -> None:
    cluster = Cluster("adaptive", durable=True)
    assert cluster.call("add", 1) == 1
    for index in (2, 1):
        cluster.restart(index, Second)
    cluster.restart(0, Second)
    cluster.stage.crash(2)
    cluster.stage.run(2_000 * MS)
    assert cluster.call("add", 2) == 12
    assert cluster.call("add", 3) == 15
    cluster.stage.restart(2)
    cluster.stage.run(1_000 * MS)
    assert cluster.call("add", 1) == 16
    assert len({replica.state.machine.snapshot() for replica in cluster.replicas}) == 1


def test_versions_of_a_member_that_lost_its_state_since_do_not_count() -> None:
    """r0 knows that r1 had new code; r1 has old code again and has not said so."""
    cluster = Cluster("adaptive")
    for index in (0, 1):
        cluster.restart(index, Second)
    cluster.code = First
    cluster.stage.crash(1)
    cluster.stage.restart(1)

    def goes(flight: InFlight) -> bool:
        return not (isinstance(flight.message, CodeVersion) and flight.source == 1)

    cluster.stage.run(500 * MS, goes)
    cluster.code = Second
    cluster.stage.crash(2)
    cluster.stage.restart(2)
    cluster.stage.run(500 * MS, goes)
    for replica in cluster.replicas:
        if not cluster.replicas[0].group.is_leader:
            replica.view_change.suspect_leader()
            cluster.stage.run(100 * MS, goes)
    assert cluster.replicas[0].group.is_leader
    cluster.stage.run(3_000 * MS, goes)
    assert cluster.versions() == [1, 1, 1]


def test_a_configuration_that_only_its_leader_has_is_rolled_back() -> None:
    cluster = Cluster("adaptive", durable=True)
    assert cluster.call("add", 1) == 1
    sealed(cluster, reached=(0,))
    stage, leader = cluster.stage, cluster.replicas[0]
    assert leader.group.is_leader

    def goes(flight: InFlight) -> bool:
        return 0 not in (flight.source, flight.destination)

    handle = stage.call(cluster.client, CODEC.encode("add", (2,)))
    stage.run(1_000 * MS, goes)
    assert CODEC.decode("add", cast(bytes, stage.results[handle])) == 3
    assert leader.state.is_sealed
    stage.run(3_000 * MS)
    assert cluster.versions() == [2, 2, 2]
    assert cluster.call("add", 1) == 31
    assert len({replica.state.machine.snapshot() for replica in cluster.replicas}) == 1


def test_who_has_executed_the_configuration_does_not_differ_from_who_has_not() -> None:
    """Of five, the leader and r4 have executed it. The leader dies, and the next one starts its view without the vote of r4."""
    cluster = Cluster("adaptive", n=5, durable=True)
    for index in (4, 3, 2, 1):
        cluster.restart(index, Second)
    cluster.code = Second
    stage = cluster.stage
    stage.crash(0)
    stage.restart(0)
    for _ in range(100):
        stage.run(1 * MS, lambda flight: not (isinstance(flight.message, ViewBegins) and flight.destination != 4))
        if cluster.replicas[4].state.configuration.version == 2:
            break
    leader = cluster.replicas[4].group.leader
    assert [replica.state.configuration.version for replica in cluster.replicas] == [2, 1, 1, 1, 2]
    assert leader == 0
    stage.crash(leader)

    def goes(flight: InFlight) -> bool:
        """Only r4's ViewEntered, and only the others' votes."""
        return not isinstance(flight.message, DoViewChange | ViewEntered) or (flight.source == 4) == isinstance(flight.message, ViewEntered)

    r1, r4 = cluster.replicas[1], cluster.replicas[4]
    while (r1.view, r1.group.status, r4.view, r4.group.status) != (6, Status.SEALED, 6, Status.NORMAL):
        stage.run(1 * MS, goes)
    stage.run(1_000 * MS)
    assert cluster.versions()[1:] == [2, 2, 2, 2]
    assert not [report for report in stage.reports if "differ" in report[1]]


def test_a_view_starts_with_one_configuration_at_most() -> None:
    """r1 and r0 each want one. r1's view comes between: r0 finds its configuration in the votes, and adds none of its own."""
    cluster = Cluster("multipaxos", durable=True)
    stage = cluster.stage
    r0, r1, r2 = cluster.replicas

    def without(*members: int) -> Callable[[InFlight], bool]:
        return lambda flight: (
            not {flight.source, flight.destination} & set(members) and not isinstance(flight.message, CodeVersion | ViewEntered)
        )

    r1.view_change.suspect_leader()
    stage.settle(without())
    for replica in cluster.replicas:  # or the leader would want the file's settings again
        replica.versions.told.clear()
        replica.versions.spoken.clear()
    assert [replica.group.status for replica in cluster.replicas] == [Status.NORMAL] * 3
    r1.view_change.configure(Configuration(1, 11))
    late = [flight for flight in stage.waiting(StartViewChange, source=1) if flight.destination == 2]
    kept = [flight for flight in stage.in_flight if flight not in late]
    for flight in kept:
        stage.in_flight.remove(flight)
    r2.view_change.start(3, "r1 is silent")
    stage.settle(without(1))
    assert (r0.view, r2.view, r1.view) == (3, 3, 4)
    r0.view_change.configure(Configuration(1, 12))
    stage.lose(source=0)
    r2.on_message(1, StartViewChange(r1.group.incarnations, 4))
    stage.settle(without(0))
    assert (r1.view, r2.view, r2.group.status) == (4, 4, Status.SEALED)
    stage.fire(0, "view_change")
    stage.settle(without(1))
    assert (r0.view, r0.group.status) == (6, Status.SEALED)
    assert [msgspec.msgpack.decode(entry.operation) for entry in r0.state.log.entries(1)] == [[1, 11]]


def test_a_failed_upgrade_is_remembered_by_a_checkpoint() -> None:
    cluster = Cluster("adaptive", durable=True, limits=Limits(checkpoint_operations=3))
    for index in (2, 1, 0):
        cluster.restart(index, Failing)
    for _ in range(12):
        cluster.call("add", 1, ms=50)
    for index in (2, 1, 0):
        assert cluster.replicas[index].state.checkpoint is not None
        cluster.restart(index, Failing)
    cluster.stage.run(3_000 * MS)
    failures = [address for address, event, _ in cluster.stage.reports if event == "upgrade failed"]
    assert sorted(failures) == [0, 1, 2]


def test_messages_of_a_sealed_view_lead_to_the_next() -> None:
    cluster = Cluster("adaptive", durable=True)
    sealed(cluster, reached=(0, 1, 2))
    stage = cluster.stage
    stage.run(1_000 * MS, lambda flight: not isinstance(flight.message, ViewEntered | ViewBegins))
    assert all(replica.view > 3 for replica in cluster.replicas)
    assert stage.waiting(StartViewChange, DoViewChange) == []
    stage.run(1_000 * MS)
    assert cluster.versions() == [2, 2, 2]
    assert msgspec.msgpack.decode(cluster.replicas[0].state.machine.snapshot())[0] == 2
