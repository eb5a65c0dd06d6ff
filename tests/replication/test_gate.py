"""The gate: who may send, in which status, about which view, and in which incarnation."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import pytest

from stretto.core.config import ClusterConfig, Member
from stretto.core.node import Address, Message
from stretto.protocols.nopaxos.messages import SessionOpened, Stamped
from stretto.protocols.nopaxos.replica import NoPaxosReplica
from stretto.replication.gate import LEADER_LOG_RULES, LEADER_REQUEST_RULES, PEER_RULES, REQUEST_RULES, Actions, Gate, Rules
from stretto.replication.group import Group, Status, life_of, new_incarnation
from stretto.replication.messages import (
    BootstrapReply,
    DoViewChange,
    Entries,
    Fetch,
    GetStartView,
    Prepare,
    PrepareOk,
    Request,
    StartView,
    StartViewChange,
    Suspect,
    ViewEntered,
)
from stretto.testing import RecordingPort

N, INDEX, VIEW = 3, 1, 4
"""Replica 1 of three, which leads view 4."""
SEQUENCER, CLIENT = 3, 1 << 20
CONFIG = ClusterConfig(tuple(Member("127.0.0.1", 7000 + index) for index in range(N)), sequencers=(Member("127.0.0.1", 7009),))
KNOWN = (5, 6, 7)
LIFE = life_of(KNOWN)


def later(incarnations: tuple[int, ...], member: int, random_bits: int = 0) -> tuple[int, ...]:
    """The same, with a later start of one member."""
    return tuple(new_incarnation(2, LIFE, random_bits) if index == member else known for index, known in enumerate(incarnations))


NEEDED = (Status.NORMAL, Status.REPAIRING, Status.SEALED)


class Recorder:
    """A gate whose handlers and actions write down that they were called."""

    def __init__(self, rules: Rules, status: Status = Status.NORMAL, view: int = VIEW, index: int = INDEX) -> None:
        self.group = Group(RecordingPort(index, replicas=N), CONFIG, index)
        self.group.restore_view(view, was_entered=True)
        self.group.restore_members(KNOWN, KNOWN)
        self.group.status = status
        self.done: list[str] = []
        handlers = {kind: self.handle for kind in rules if kind is not Request}
        actions = Actions(
            accept=lambda request: self.done.append("accept"),
            keep=lambda request: self.done.append("keep"),
            pass_over=lambda request: self.done.append("pass over"),
            ask=lambda source, view: self.done.append(f"ask {source} for {view}"),
            answer=lambda source: self.done.append(f"answer {source}"),
            join=lambda view: self.done.append(f"join {view}"),
            learn=self.learn,
            hear=lambda source: self.done.append(f"hear {source}"),
        )
        self.gate = Gate(self.group, rules, handlers, SEQUENCER + 1, actions)

    def handle(self, source: Address, message: Any) -> None:
        self.done.append("handle")

    def learn(self, incarnations: tuple[int, ...]) -> None:
        self.done.append("learn")
        self.group.learn(incarnations)

    def take(self, source: Address, message: Message) -> list[str] | str:
        """What was done with the message; if nothing, the reason."""
        self.done.clear()
        self.group.ignored.clear()
        self.gate.on_message(source, message)
        return list(self.done) or next(iter(self.group.ignored))


def request(client: Address = CLIENT) -> Request:
    return Request(client, 1, 1, 0, 0, b"")


def prepare(view: int = VIEW, incarnations: tuple[int, ...] = KNOWN) -> Prepare:
    return Prepare(incarnations, view, 1, b"", [], 0, False)


def test_a_request_is_accepted_from_its_client_alone() -> None:
    gate = Recorder(REQUEST_RULES)
    assert gate.take(CLIENT, request()) == ["accept"]
    for source, client in ((CLIENT, CLIENT + 1), (0, CLIENT), (0, 0), (SEQUENCER, SEQUENCER)):
        assert gate.take(source, request(client)) == "request that names another client"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.NORMAL])
def test_a_request_is_kept_in_every_other_status(status: Status) -> None:
    assert Recorder(REQUEST_RULES, status).take(CLIENT, request()) == ["keep"]


def test_a_request_may_be_for_the_leader_alone() -> None:
    assert Recorder(LEADER_REQUEST_RULES).take(CLIENT, request()) == ["accept"]
    assert Recorder(LEADER_REQUEST_RULES, view=VIEW + 1).take(CLIENT, request()) == ["pass over"]


def test_a_message_without_a_rule_is_for_no_replica() -> None:
    assert Recorder(PEER_RULES).take(CLIENT, request()) == "not for a replica"
    assert Recorder(PEER_RULES).take(0, prepare()) == "not for a replica"


def test_a_prepare_counts_from_the_leader_of_its_view() -> None:
    follower = Recorder(LEADER_LOG_RULES, index=2)
    assert follower.take(1, prepare()) == ["hear 1", "handle"]
    for source in (0, SEQUENCER, CLIENT):
        assert follower.take(source, prepare()) == "from a sender that may not send it"
    assert follower.take(1, prepare(VIEW - 3)) == "of an older view"
    assert follower.take(1, prepare(VIEW + 3)) == [f"ask 1 for {VIEW + 3}"]
    repairing = Recorder(LEADER_LOG_RULES, Status.REPAIRING, index=2)
    assert repairing.take(1, prepare()) == "while repairing"


def test_what_is_for_the_leader_is_ignored_by_others() -> None:
    message = PrepareOk(KNOWN, VIEW, 1, 0, False)
    assert Recorder(LEADER_LOG_RULES).take(2, message) == ["hear 2", "handle"]
    assert Recorder(LEADER_LOG_RULES, index=0).take(2, message) == "not the leader"
    assert Recorder(PEER_RULES, index=0).take(2, DoViewChange(KNOWN, VIEW + 3, 0, 0, b"", 0, ())) == "not the leader"


@pytest.mark.parametrize(
    ("message", "older", "same", "other_status", "higher"),
    [
        (Suspect, ["answer 2"], ["hear 2", "handle"], "while view change", ["ask 2 for 7"]),
        (StartViewChange, ["answer 2"], ["answer 2"], ["handle"], ["join 7", "handle"]),
        (partial(ViewEntered, position=0, outcome=0), "of an older view", ["hear 2", "handle"], "while view change", "of a higher view"),
        (GetStartView, ["handle"], ["handle"], "while view change", ["handle"]),
    ],
)
def test_views_and_statuses(message: Any, older: object, same: object, other_status: object, higher: object) -> None:
    normal, changing = Recorder(PEER_RULES), Recorder(PEER_RULES, Status.VIEW_CHANGE)
    assert normal.take(2, message(KNOWN, VIEW - N)) == older
    assert normal.take(2, message(KNOWN, VIEW)) == same
    assert changing.take(2, message(KNOWN, VIEW)) == other_status
    assert normal.take(2, message(KNOWN, VIEW + N)) == higher


def test_a_start_view_is_for_replicas_that_are_not_in_its_view() -> None:
    def taken(status: Status, view: int) -> list[str] | str:
        return Recorder(PEER_RULES, status).take(2, StartView(KNOWN, view, 0, b"", (), KNOWN))

    counting = {Status.VIEW_CHANGE, Status.RECOVERING, Status.BOOTSTRAPPING}
    for status, view in product(Status, (VIEW - 1, VIEW, VIEW + 1)):
        counts = view >= VIEW and (status in counting or (status in NEEDED and view > VIEW))
        assert (taken(status, view) == ["handle"]) == counts, (status, view)


@pytest.mark.parametrize("status", [Status.BOOTSTRAPPING, Status.LOST_STATE, Status.RECOVERING])
def test_a_replica_that_is_not_in_service_takes_no_part(status: Status) -> None:
    gate = Recorder(PEER_RULES | LEADER_LOG_RULES, status)
    known = later(KNOWN, 2)
    learned = ["learn"] if status is Status.RECOVERING else "not in service"
    for message in (PrepareOk(known, VIEW, 1, 0, False), Suspect(known, VIEW + 3), StartViewChange(known, VIEW + 3)):
        assert gate.take(2, message) == learned
    assert gate.take(2, Fetch(1, 2)) == "not in service"
    assert gate.take(2, Entries(1, [])) == ["handle"]
    assert (gate.take(2, BootstrapReply(1, KNOWN, KNOWN)) == ["handle"]) == (status is Status.BOOTSTRAPPING)


def test_incarnations() -> None:
    gate = Recorder(LEADER_LOG_RULES)
    second = later(KNOWN, 2, random_bits=1)

    def ok(known: tuple[int, ...]) -> PrepareOk:
        return PrepareOk(known, VIEW, 1, 0, False)

    assert gate.take(2, ok(second)) == ["learn", "hear 2", "handle"]
    assert gate.take(2, ok(KNOWN)) == ["learn"], "it has lost its state since"
    assert gate.group.ignored == {"of an earlier incarnation": 1}
    assert gate.take(2, ok(later(KNOWN, 2))) == ["learn"], "of an earlier incarnation"
    assert gate.take(2, ok(later(second, 1))) == ["learn"], "it knows a later incarnation of this replica"
    for wrong in (KNOWN[:2], (*KNOWN, 8)):
        assert gate.take(2, ok(wrong)) == "of a group of another size"


def test_a_message_of_another_life_of_the_cluster_teaches_nothing() -> None:
    gate = Recorder(LEADER_LOG_RULES)
    other_life = new_incarnation(2, life_of((5, 6, 8)), 0)
    for known in ((5, 6, 8), (5, 6, 6), (5, 6, other_life)):
        assert gate.take(2, PrepareOk(known, VIEW, 1, 0, False)) == "of another life of the cluster"
    assert gate.group.incarnations == KNOWN
    gate.group.restore_members((0, 6, 0), (0, 6, 0))
    assert gate.take(2, PrepareOk(KNOWN, VIEW, 1, 0, False)) == "of another life of the cluster", "as long as its own is not known"


def test_messages_of_sequencers() -> None:
    stamped = Stamped(VIEW, 9, 1, request())
    gate = Recorder(NoPaxosReplica.rules)
    assert gate.take(SEQUENCER, stamped) == gate.take(2, stamped) == ["handle"]
    assert gate.take(CLIENT, stamped) == "from a sender that may not send it"
    assert gate.take(SEQUENCER, Stamped(VIEW + 1, 9, 1, request())) == "of a higher view"
    assert gate.take(SEQUENCER, SessionOpened(VIEW, 9)) == ["handle"]
    assert gate.take(2, SessionOpened(VIEW, 9)) == "from a sender that may not send it"
    assert Recorder(NoPaxosReplica.rules, view=VIEW + 1).take(SEQUENCER, SessionOpened(VIEW + 1, 9)) == "not the leader"
