"""Data that was restored from an old copy: it is refused, or who has forgotten what was committed stops. Nothing committed is unsaid."""

from __future__ import annotations

from typing import cast

import pytest
from acting import MS, open_sessions, operations

from stretto.catalog import protocol
from stretto.core.node import Message
from stretto.core.protocol import Start
from stretto.core.state_machine import NullMachine
from stretto.replication.messages import Commit, GetWritten, Heartbeat, Prepare, Remember, StartView, Written, WrittenReply
from stretto.replication.replica import Replica
from stretto.testing.stage import Stage, StagePort

LEADER_LOGS = ["adaptive", "multipaxos", "fastpaxos"]


class Copies:
    """A stage with disks whose directories can be exchanged for copies."""

    def __init__(self, name: str, n: int = 3) -> None:
        self.stage = Stage(protocol(name), n, NullMachine, durable=True)
        self.client, *_ = open_sessions(self.stage, 1)
        self.stage.run(100 * MS)

    @property
    def replicas(self) -> list[Replica]:
        return cast(list[Replica], self.stage.replicas)

    def put(self, *names: bytes) -> None:
        for name in names:
            handle = self.stage.call(self.client, name)
            self.stage.run(100 * MS)
            assert handle in self.stage.results

    def copy(self, index: int) -> list[Message]:
        return list(self.stage.ports[index].records)

    def restore(self, index: int, copy: list[Message]) -> None:
        self.stage.ports[index].records = copy

    def stopped(self) -> list[int]:
        return [index for index in range(len(self.replicas)) if self.stage.ports[index].stopped is not None]


@pytest.mark.parametrize("name", LEADER_LOGS)
def test_a_leader_that_resumes_with_an_old_copy_stops(name: str) -> None:
    """All were down, so nobody knows how much it had written. Its followers have what it has committed in this very view."""
    copies = Copies(name)
    copies.put(b"a")
    old = copies.copy(0)
    copies.put(b"b", b"c")
    for index in range(3):
        copies.stage.crash(index)
    copies.restore(0, old)
    for index in range(3):
        copies.stage.restart(index)
    copies.stage.run(500 * MS)
    assert copies.stopped() == [0]
    reason = copies.stage.ports[0].stopped
    assert reason is not None
    assert "restored from an old copy" in reason
    copies.put(b"d")
    assert operations(copies.replicas[1], 3)[:3] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("name", ["adaptive", "speculative", "multipaxos", "fastpaxos"])
def test_a_majority_that_has_forgotten_stops_when_it_meets_one_who_has_not(name: str) -> None:
    copies = Copies(name)
    copies.put(b"a")
    old = [copies.copy(index) for index in (0, 1)]
    copies.put(b"b", b"c")
    committed = copies.replicas[2].state.committed
    for index in range(3):
        copies.stage.crash(index)
    for index in (0, 1):
        copies.restore(index, old[index])
        copies.stage.restart(index)
    for _ in range(200):
        copies.stage.run(10 * MS)
        if copies.replicas[0].group.last_normal_view > 0 and copies.replicas[1].group.last_normal_view > 0:
            break
        if copies.replicas[0].view == 0:
            copies.replicas[0].view_change.suspect_leader()
    copies.stage.restart(2)
    copies.stage.run(1_000 * MS)
    assert copies.stopped() == [0, 1]
    assert (copies.replicas[2].state.committed, copies.replicas[2].view) == (committed, 0)
    assert operations(copies.replicas[2], 3)[:3] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("later_view", [False, True])
def test_what_forgot_and_went_on_does_not_overwrite_what_was_committed(later_view: bool) -> None:
    """The forgetful ones have committed other entries in the place of those that they forgot."""
    copies = Copies("multipaxos")
    copies.put(b"a")
    old = [copies.copy(index) for index in (0, 1)]
    copies.put(b"b", b"c")
    for index in range(3):
        copies.stage.crash(index)
    for index in (0, 1):
        copies.restore(index, old[index])
        copies.stage.restart(index)
    copies.replicas[0].view_change.suspect_leader()
    copies.client = copies.stage.client()
    copies.put(b"begin", b"x", b"y", b"z", b"xx", b"yy")
    if later_view:  # its StartView shows only what they have committed since
        copies.replicas[1].view_change.suspect_leader()
        copies.stage.run(100 * MS)
        assert copies.replicas[0].view_change.start_view.commit_base > 6
    copies.stage.restart(2)
    copies.stage.run(1_000 * MS)
    assert copies.stopped() == [0, 1]
    assert operations(copies.replicas[2], 3)[:3] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("name", ["adaptive", "speculative", "multipaxos", "fastpaxos", "nopaxos"])
def test_who_only_lags_is_not_taken_for_forgetful(name: str) -> None:
    copies = Copies(name)
    stage = copies.stage
    for round_ in range(6):
        behind = round_ % 3
        old = [flight for flight in stage.in_flight if isinstance(flight.message, StartView | Heartbeat)]
        stage.crash(behind)
        stage.run(300 * MS)
        copies.put(b"%d" % round_)
        stage.restart(behind)
        for flight in old:
            stage.in_flight.append(flight)
        stage.run(300 * MS)
        copies.put(b"%d again" % round_)
    assert copies.stopped() == []
    assert not stage.waiting(Remember)
    assert not [event for _, event, _ in stage.reports if event == "others lack what is committed"]


def test_a_late_heartbeat_stops_nobody() -> None:
    copies = Copies("multipaxos")
    stage = copies.stage
    copies.put(b"a")
    stage.fire(0, "heartbeat")
    late = stage.waiting(Heartbeat, to=1)[0]
    stage.settle()
    copies.put(b"b", b"c")
    stage.run(100 * MS)
    copies.replicas[1].on_message(0, late.message)
    assert stage.waiting(Remember, source=1)
    stage.run(100 * MS)
    assert copies.stopped() == []


def test_who_need_not_have_it_is_not_stopped() -> None:
    """What was committed in a later view, or in this one, may not have reached a follower yet. The leader of this view has it."""
    copies = Copies("multipaxos")
    _, r1, _ = copies.replicas
    last = r1.state.log.last
    for view in (0, 7):
        r1.on_message(2, Remember(r1.group.incarnations, view, last + 1, bytes(16)))
    r1.on_message(2, Remember(r1.group.incarnations, 0, last, r1.state.log.last_hash))
    assert copies.stopped() == []
    leader = copies.replicas[0]
    leader.on_message(2, Remember(leader.group.incarnations, 0, leader.state.log.last + 1, bytes(16)))
    assert copies.stopped() == [0]


def test_what_was_fetched_is_no_evidence() -> None:
    """It may have been committed in a later view than the one that lacks it. That view is not entered, and nobody has forgotten it."""
    copies = Copies("multipaxos")
    stage, r2 = copies.stage, copies.replicas[2]
    stage.crash(2)
    copies.put(b"a", b"b")
    copies.replicas[1].view_change.suspect_leader()
    stage.run(100 * MS)
    r2 = cast(Replica, stage.restart(2))
    in_view = r2.state.committed_in_view
    stage.run(40 * MS, lambda flight: flight.destination != 2 or not isinstance(flight.message, Prepare | Commit))
    assert r2.state.committed > in_view == r2.state.committed_in_view
    lacking = StartView(
        r2.group.incarnations, 5, in_view, r2.state.log.hash_at(in_view), (), r2.view_change.start_view.admitted_incarnations
    )
    stage.lose()
    r2.on_message(0, lacking)
    assert (r2.view, r2.group.ignored["a view without what is committed here"]) == (1, 1)
    assert not stage.waiting(Remember)
    r2.view_change.installing = lacking  # the committed entries came while it waited for others
    r2.view_change.go_on(0)
    assert r2.group.ignored["a view without what is committed here"] == 2


# The number of a directory


def resuming(copies: Copies, index: int, found: int) -> None:
    """Start a replica with its records and this number of its directory."""
    stage = copies.stage
    stage.crash(index)
    records = list(stage.ports[index].records)
    stage.replicas[index] = stage._begin(index, Start(records=records, written=found))


def with_numbers(monkeypatch: pytest.MonkeyPatch, numbers: dict[int, int]) -> None:
    monkeypatch.setattr(StagePort, "written", property(lambda port: numbers.get(port.address)))


def test_an_older_directory_is_refused_before_it_says_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {0: 50, 1: 60, 2: 70}
    with_numbers(monkeypatch, numbers)
    copies = Copies("adaptive")
    copies.put(b"a")
    resuming(copies, 1, 59)
    assert {type(flight.message) for flight in copies.stage.waiting(source=1)} == {GetWritten}
    copies.stage.settle()
    assert copies.stopped() == [1]
    reason = copies.stage.ports[1].stopped
    assert reason is not None
    assert "not the newest data of this replica" in reason


def test_the_newest_directory_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {0: 50, 1: 60, 2: 70}
    with_numbers(monkeypatch, numbers)
    copies = Copies("adaptive")
    copies.put(b"a")
    resuming(copies, 1, 60)
    copies.stage.settle()
    assert copies.replicas[1].group.in_service
    for index in range(3):
        copies.stage.crash(index)
    for index in range(3):  # nobody remembers a number, and all wait for each other
        records = list(copies.stage.ports[index].records)
        copies.stage.replicas[index] = copies.stage._begin(index, Start(records=records, written=0))
    copies.stage.run(500 * MS)
    assert all(replica.group.in_service for replica in copies.replicas)
    copies.put(b"b")


def test_a_directory_of_before_a_loss_of_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica has recovered with a new directory meanwhile, and now has the old one again."""
    with_numbers(monkeypatch, {0: 50, 1: 60, 2: 70})
    copies = Copies("adaptive")
    old = copies.copy(1)
    stage = copies.stage
    stage.crash(1)
    copies.restore(1, [])
    stage.restart(1)
    stage.run(500 * MS)
    assert copies.replicas[1].group.in_service
    copies.restore(1, old)
    resuming(copies, 1, 1_000)
    stage.settle()
    assert copies.stopped() == [1]
    assert "a later start of this replica with new state" in str(stage.ports[1].stopped)


def test_answers_to_other_questions_and_numbers_of_other_starts_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with_numbers(monkeypatch, {0: 50, 1: 60, 2: 70})
    copies = Copies("adaptive")
    resuming(copies, 1, 60)
    copies.replicas[1].on_message(0, WrittenReply(12345, 0, 99))
    assert copies.stopped() == []
    assert not copies.replicas[1].group.in_service
    copies.stage.settle()
    copies.replicas[0].on_message(1, Written(copies.replicas[1].group.incarnations, 40))  # a late one
    resuming(copies, 1, 59)
    copies.stage.settle()
    assert copies.stopped() == [1]


def test_a_new_directory_may_have_a_lower_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with_numbers(monkeypatch, {0: 50, 1: 60, 2: 70})
    copies = Copies("adaptive")
    stage = copies.stage
    stage.crash(1)
    copies.restore(1, [])
    stage.restart(1)
    stage.run(500 * MS, lambda flight: not isinstance(flight.message, Written))
    assert copies.replicas[1].group.in_service
    resuming(copies, 1, 5)
    stage.settle(lambda flight: not isinstance(flight.message, Written))
    assert copies.stopped() == []
    assert copies.replicas[1].group.in_service
