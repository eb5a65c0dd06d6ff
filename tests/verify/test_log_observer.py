"""The log observer detects each kind of violation, and accepts every legal behaviour."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, cast

import pytest

from stretto.core.node import Replica
from stretto.core.state_machine import NullMachine, StateMachine
from stretto.verify.logs import LogObserver
from stretto.verify.violation import Violation


class Entry:
    def __init__(self, session: int, number: int, operation: bytes = b"x") -> None:
        self.session = session
        self.number = number
        self.operation = operation


class FakeReplica:
    """A replica whose log the test writes."""

    view = 0
    start = 0
    committed = 0
    executed: Any = "empty"
    replayed: Any = "empty"

    def __init__(self) -> None:
        self.entries: list[tuple[Entry, bytes | None]] = []

    @property
    def state(self) -> FakeReplica:
        return self

    @property
    def log(self) -> FakeReplica:
        return self

    @property
    def last(self) -> int:
        return len(self.entries)

    def hash_at(self, position: int) -> bytes:
        texts = [f"{entry.session} {entry.number} {entry.operation!r}" for entry, _ in self.entries[:position]]
        return blake2b("\n".join(texts).encode(), digest_size=16).digest()

    def entry_at(self, position: int) -> Entry:
        return self.entries[position - 1][0]

    def result_at(self, position: int) -> bytes | None:
        return self.entries[position - 1][1]

    def snapshot(self) -> Any:
        return self.executed

    def replayed_on(self, machine: StateMachine) -> Any:
        return self.replayed

    def append(self, session: int, number: int, operation: bytes = b"x", result: bytes | None = b"r") -> None:
        self.entries.append((Entry(session, number, operation), result))


class Cluster:
    """Three fake replicas under observation."""

    def __init__(self) -> None:
        self.replicas = [FakeReplica() for _ in range(3)]
        self.committed: list[int] = []
        self.observer = LogObserver(cast(list[Replica], self.replicas), NullMachine, lambda position, *_: self.committed.append(position))

    def begin_again(self, index: int, replica: FakeReplica, remembers: bool = False) -> None:
        self.replicas[index] = replica
        self.observer.began_again(index, cast(Replica, replica), remembers)

    def step(self, index: int, change: Callable[[FakeReplica], object]) -> None:
        change(self.replicas[index])
        self.observer.after_step(index)

    def append(self, *indices: int, number: int, operation: bytes = b"x") -> None:
        for index in indices:
            self.step(index, lambda replica: replica.append(1, number, operation))

    def commit(self, *indices: int, position: int) -> None:
        for index in indices:
            self.step(index, lambda replica: setattr(replica, "committed", position))


def roll_back(replica: FakeReplica, position: int) -> None:
    del replica.entries[position:]


def test_correct_logs_pass() -> None:
    cluster = Cluster()
    cluster.append(0, 1, 2, number=1)
    cluster.append(0, number=2)
    cluster.append(1, number=3)
    cluster.commit(0, position=1)
    # A speculative entry may be rolled back and executed again at another position.
    cluster.step(1, lambda replica: roll_back(replica, 1))
    cluster.append(1, 2, number=2)
    cluster.append(1, number=3)
    cluster.commit(1, 0, 2, position=2)
    cluster.step(1, lambda replica: setattr(replica, "view", 4))
    assert cluster.committed == [1, 2]
    assert cluster.observer.committed == 2


def expect(kind: str) -> Any:
    return pytest.raises(Violation, match=f"^{kind}:")


def test_different_commits() -> None:
    cluster = Cluster()
    cluster.append(0, number=1, operation=b"a")
    cluster.append(1, number=1, operation=b"b")
    cluster.append(1, number=2)
    cluster.commit(0, position=1)
    with expect("commits differ"):
        cluster.commit(1, position=2)


def test_a_committed_entry_that_changes() -> None:
    cluster = Cluster()
    cluster.append(0, number=1)
    cluster.append(0, number=2)
    cluster.commit(0, position=1)
    with expect("commits differ"):
        cluster.step(0, lambda replica: replica.entries.pop(0))


def test_a_commit_taken_back() -> None:
    cluster = Cluster()
    cluster.append(0, number=1)
    cluster.commit(0, position=1)
    with expect("commit taken back"):
        cluster.commit(0, position=0)


def test_a_view_that_goes_down() -> None:
    cluster = Cluster()
    cluster.step(0, lambda replica: setattr(replica, "view", 3))
    with expect("view went down"):
        cluster.step(0, lambda replica: setattr(replica, "view", 2))


def test_the_same_request_twice() -> None:
    cluster = Cluster()
    cluster.append(0, number=1)
    cluster.append(0, number=2)
    with expect("executed twice"):
        cluster.append(0, number=1)


def test_a_refused_request_may_be_in_the_log_twice() -> None:
    cluster = Cluster()
    for _ in range(2):
        cluster.step(0, lambda replica: replica.append(1, 1, result=None))
        cluster.step(0, lambda replica: replica.append(0, 77))


def test_different_results_of_equal_logs() -> None:
    cluster = Cluster()
    cluster.append(0, number=1)
    cluster.step(1, lambda replica: replica.append(1, 1, result=b"other"))
    cluster.commit(0, position=1)
    with expect("results differ"):
        cluster.commit(1, position=1)


def test_a_state_that_differs_from_executing_the_log() -> None:
    cluster = Cluster()
    cluster.replicas[0].executed = "elsewhere"
    with expect("state is not the log's"):
        cluster.observer.check_state(0)


def test_the_state_is_compared_repeatedly() -> None:
    cluster = Cluster()
    cluster.append(0, number=1)
    cluster.replicas[0].executed = "elsewhere"
    with expect("state is not the log's"):
        for _ in range(1_000):
            cluster.observer.after_step(0)


# Restarts


def copy_of(replica: FakeReplica) -> FakeReplica:
    copy = FakeReplica()
    copy.entries = list(replica.entries)
    copy.view, copy.start, copy.committed = replica.view, replica.start, replica.state.committed
    return copy


def grown() -> Cluster:
    """All replicas have three entries in view 2. The first two are committed."""
    cluster = Cluster()
    for number in (1, 2, 3):
        cluster.append(0, 1, 2, number=number)
    cluster.commit(0, 1, 2, position=2)
    for index in range(3):
        cluster.step(index, lambda replica: setattr(replica, "view", 2))
    return cluster


def test_a_replica_with_lost_state_may_begin_empty_and_catch_up() -> None:
    cluster = grown()
    cluster.begin_again(0, FakeReplica())
    for number in (1, 2, 4):
        cluster.append(0, number=number)
    cluster.commit(0, position=2)
    cluster.commit(0, position=3)
    assert cluster.committed == [1, 2, 3]


def test_a_replica_with_lost_state_may_begin_with_a_checkpoint() -> None:
    cluster = grown()
    cluster.begin_again(0, FakeReplica())
    cluster.append(0, number=7)
    checkpoint = copy_of(cluster.replicas[1])
    cluster.step(0, lambda replica: replica.__dict__.update(vars(checkpoint), log_start=2))
    cluster.append(0, number=7)
    cluster.commit(0, position=4)
    assert cluster.committed == [1, 2, 3, 4]


def test_committed_entries_survive_the_replica_that_committed_them() -> None:
    cluster = grown()
    for index in range(3):
        cluster.begin_again(index, FakeReplica())
    cluster.append(0, number=1)
    cluster.append(0, number=9)
    with expect("commits differ"):
        cluster.commit(0, position=2)


def test_a_checkpoint_of_another_log() -> None:
    cluster = grown()
    wrong = FakeReplica()
    cluster.begin_again(0, wrong)
    for number in (1, 9):
        wrong.append(1, number)
    wrong.start = wrong.committed = 2
    with expect("commits differ"):
        cluster.observer.after_step(0)


def test_a_checkpoint_of_uncommitted_entries() -> None:
    cluster = grown()
    ahead = copy_of(cluster.replicas[0])
    cluster.begin_again(0, ahead)
    for number in (4, 5):
        ahead.append(1, number)
    ahead.start = ahead.committed = 4
    ahead.append(1, 6)
    ahead.committed = 6
    with expect("commits differ"):
        cluster.observer.after_step(0)


def test_a_restarted_replica_may_have_its_former_state() -> None:
    cluster = grown()
    cluster.begin_again(0, copy_of(cluster.replicas[0]), remembers=True)
    cluster.append(0, number=4)


def test_a_restarted_replica_may_have_the_state_after_its_last_burst() -> None:
    cluster = grown()
    cluster.replicas[0].append(1, 4)
    cluster.begin_again(0, copy_of(cluster.replicas[0]), remembers=True)
    cluster.replicas[0].append(1, 5)
    cluster.observer.after_step(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda replica: replica.entries.pop(),
        lambda replica: replica.entries.__setitem__(2, (Entry(1, 3, b"another"), b"r")),
        lambda replica: setattr(replica, "committed", 1),
        lambda replica: setattr(replica, "view", 1),
        lambda replica: setattr(replica, "view", 3),
    ],
)
def test_a_restarted_replica_that_lost_durable_state(change: Callable[[FakeReplica], object]) -> None:
    cluster = grown()
    former = cluster.replicas[0]
    former.append(1, 4)
    changed = copy_of(former)
    changed.entries.pop()
    change(changed)
    with expect("lost state"):
        cluster.begin_again(0, changed, remembers=True)


def test_views_do_not_go_down_in_the_next_incarnation() -> None:
    cluster = grown()
    cluster.begin_again(0, copy_of(cluster.replicas[0]), remembers=True)
    with expect("view went down"):
        cluster.step(0, lambda replica: setattr(replica, "view", 1))


def test_entries_committed_and_compacted_in_one_burst_are_checked_at_its_end() -> None:
    cluster = Cluster()
    replica = cluster.replicas[0]
    for position in range(1, 7):
        replica.append(1, position)
        replica.committed = position
        cluster.observer.during_burst(0)
        replica.start = max(0, position - 2)
        cluster.observer.during_burst(0)
    assert cluster.committed == []
    cluster.observer.after_step(0)
    assert cluster.committed == [1, 2, 3, 4, 5, 6]


def test_equal_logs_give_equal_states() -> None:
    cluster = grown()
    cluster.observer.check_agreement(range(3))
    for index in (0, 2):
        cluster.replicas[index].executed = cluster.replicas[index].replayed = "elsewhere"
    with expect("states differ"):
        cluster.observer.check_agreement(range(3))
    cluster.append(2, number=4)
    cluster.observer.check_agreement([1, 2])
