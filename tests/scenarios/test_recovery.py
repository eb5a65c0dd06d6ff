"""Schedules of replicas that lose their state and recover."""

from __future__ import annotations

import pytest
from acting import MS, later, open_sessions, operations, stage_of

from stretto.core.node import Client
from stretto.protocols.speculative.replica import SpeculativeReplica
from stretto.replication.group import Status, start_number
from stretto.replication.messages import (
    Bootstrap,
    BootstrapReply,
    DoViewChange,
    GetIncarnations,
    IncarnationsReply,
    Recover,
    Request,
    StartView,
    StartViewChange,
    ViewEntered,
)
from stretto.testing.stage import InFlight, Stage


def restart(stage: Stage, index: int) -> SpeculativeReplica:
    """The next incarnation of a replica."""
    replica = stage.restart(index)
    assert isinstance(replica, SpeculativeReplica)
    return replica


def learn_an_incarnation(stage: Stage, index: int) -> None:
    """Let a restarted replica take an incarnation, and deliver no other messages."""
    stage.deliver(GetIncarnations, source=index)
    stage.deliver(IncarnationsReply, to=index)


def first_start() -> Stage:
    """Three replicas that have just started for the first time. No message has arrived."""
    stage, _ = stage_of(3)
    for index in range(3):
        stage.crash(index)
    stage.lose()
    for index in range(3):
        stage.bootstrap(index)
    return stage


def complete(stage: Stage, client: Client, operation: bytes) -> None:
    handle = stage.call(client, operation)
    stage.run(500 * MS)
    assert stage.results[handle] == b""


def test_a_replica_with_lost_state_comes_back_with_the_log_and_a_new_incarnation() -> None:
    stage, (r0, r1, r2) = stage_of(3)
    (client,) = open_sessions(stage, 1)
    complete(stage, client, b"a")
    stage.crash(2)
    complete(stage, client, b"b")
    r2 = restart(stage, 2)
    assert not r2.group.in_service
    stage.run(100 * MS)
    assert (r2.group.in_service, operations(r2, 1)) == (True, operations(r0, 1))
    assert operations(r0, 1) == operations(r1, 1)
    assert [start_number(incarnation) for incarnation in r0.group.incarnations] == [1, 1, 2]
    assert r0.group.incarnations == r1.group.incarnations == r2.group.incarnations
    view = r0.view
    complete(stage, client, b"c")
    assert r0.view == r1.view == r2.view == view, "with all three back, the fast path is"


def test_a_replica_with_lost_state_answers_nothing_before_it_has_recovered() -> None:
    stage, _ = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(2)
    stage.lose()
    r2 = restart(stage, 2)
    stage.lose()
    stage.call(client, b"a")
    stage.deliver(Request, to=2)
    assert not stage.waiting(source=2)
    assert list(r2.pending), "it keeps requests for later"
    learn_an_incarnation(stage, 2)
    assert not stage.waiting(source=2)
    stage.fire(2, "startup")
    stage.run(500 * MS)
    assert r2.group.in_service


def test_f_replicas_lose_their_state_at_once_repeatedly() -> None:
    stage, _ = stage_of(5)
    (client,) = open_sessions(stage, 1)
    for turn in range(6):
        lost = [turn % 5, (turn + 2) % 5]
        for index in lost:
            stage.crash(index)
        complete(stage, client, b"%d" % turn)
        for index in lost:
            stage.restart(index)
        complete(stage, client, b"%d again" % turn)
        assert all(replica.metrics()["status"] == "normal" for replica in stage.replicas)
    assert len({replica.state.log.hash_at(replica.state.committed) for replica in stage.replicas}) == 1


def test_a_leader_that_recovers_does_not_lead() -> None:
    """The next view is that of the next replica in service, without waiting for a timeout."""
    stage, (_, r1, _) = stage_of(3)
    open_sessions(stage, 1)
    stage.crash(0)
    r0 = restart(stage, 0)
    began = stage.now_ns
    stage.settle()
    assert stage.now_ns == began, "nothing had to time out"
    assert r0.group.in_service
    assert (r0.view % 3, r0.group.status) == (1, Status.NORMAL)
    assert r1.view == r0.view


def test_late_vote_quick_recovery() -> None:
    """A vote whose sender did not know of a loss of state is merged into a view. That view is lower than one in which the replica that lost
    its state took part."""
    stage, (r0, r1, r2) = stage_of(3)
    one, two = open_sessions(stage, 2)
    first = r0.state.log.last + 1
    stage.call(one, b"b")
    stage.deliver(Request, to=0)
    stage.deliver(Request, to=2)
    stage.lose(Request)
    stage.call(two, b"a")
    stage.deliver(Request, to=1)
    stage.lose()

    r0.view_change.start(1, "scenario")
    r2.view_change.start(1, "scenario")
    stage.deliver(StartViewChange, source=0, to=2)
    (late,) = stage.waiting(DoViewChange, source=2, to=1)
    (late_start,) = stage.waiting(StartViewChange, source=2, to=1)
    r0.view_change.start(2, "scenario")
    stage.deliver(StartViewChange, source=0, to=2)
    stage.deliver(StartViewChange, source=2, to=0)
    stage.deliver(DoViewChange, source=0, to=2)
    assert (r2.view, r2.group.status) == (2, Status.NORMAL)
    assert operations(r2, first) == [b"b"]
    in_flight = stage.waiting(StartView, source=2)

    stage.crash(0)
    r0 = restart(stage, 0)
    learn_an_incarnation(stage, 0)
    stage.deliver_one(late_start)
    stage.deliver(Recover, to=1)
    stage.deliver_one(late)
    assert operations(r1, first) == [b"a", b"b"], "view 1 has started with another log than view 2"
    assert r1.view == 1
    stage.deliver(StartView, source=1, to=0)
    assert not r0.group.in_service, "r2 did not know of the loss when it voted for view 1"
    assert r0.group.ignored["a view whose voters did not all know of our loss"] == 1
    assert r1.state.committed < first
    assert in_flight
    stage.run(500 * MS)
    assert (r0.group.in_service, operations(r0, first)) == (True, [b"b", b"a"])
    assert operations(r1, first) == operations(r2, first) == [b"b", b"a"]


def test_incarnation_used_twice() -> None:
    """At least f+1 others know the incarnation of a replica that has been in service, so it cannot take the same one again after f+1
    replies."""
    stage, replicas = stage_of(5)
    open_sessions(stage, 1)
    stage.crash(4)
    r4 = restart(stage, 4)
    learn_an_incarnation(stage, 4)
    taken = r4.group.incarnation
    # Its Recover reaches only the leader, which starts a view. Not all voters of that view know of the loss.
    stage.lose(Recover, to=3)
    stage.lose(Recover, to=2)
    stage.lose(Recover, to=1)
    stage.deliver(Recover, to=0)
    stage.lose(StartViewChange, to=3)
    # A replica that learns of the loss by the leader's message knows of it when it votes.
    stage.settle(lambda flight: 3 not in (flight.source, flight.destination))
    assert r4.group.in_service
    know = [index for index, replica in enumerate(replicas[:4]) if replica.group.incarnations[4] == taken]
    assert len(know) >= 3
    stage.crash(4)
    r4 = restart(stage, 4)
    stage.deliver(GetIncarnations)

    def known(flight: InFlight) -> int:
        assert isinstance(flight.message, IncarnationsReply)
        return flight.message.incarnations[4]

    ignorant_first = sorted(stage.waiting(IncarnationsReply), key=known)
    for flight in ignorant_first[:3]:
        stage.deliver_one(flight)
    assert start_number(r4.group.incarnation) > start_number(taken)


def test_answers_to_an_earlier_incarnation_do_not_count() -> None:
    stage, _ = stage_of(3)
    stage.crash(2)
    restart(stage, 2)
    stage.deliver(GetIncarnations)
    old = stage.waiting(IncarnationsReply)
    assert len(old) == 2
    stage.crash(2)
    r2 = restart(stage, 2)
    for flight in old:
        stage.deliver_one(flight)
    assert r2.group.incarnation == 0
    assert r2.group.ignored["answer to an earlier question"] == 2


def test_a_view_whose_voters_knew_an_earlier_incarnation_does_not_admit_the_replica() -> None:
    """A peer names the earlier incarnation. It is not the present one, so a StartView that admits it does not admit this replica."""
    stage, (r0, *_) = stage_of(3)
    open_sessions(stage, 1)
    stage.crash(2)
    stage.lose()
    r2 = restart(stage, 2)
    learn_an_incarnation(stage, 2)
    r0.view_change.start(3, "scenario")
    stage.settle(lambda flight: flight.source != 2)
    assert r2.group.first[2] == r0.view_change.start_view.admitted_incarnations[2] < r2.group.incarnation
    assert not r2.group.in_service
    stage.run(100 * MS)
    assert r2.group.in_service


def test_stale_quorum() -> None:
    """Two replicas vote for a view, lose their state, and recover in a lower view. Their old votes lack the operations that complete
    there."""
    stage, (r0, r1, r2, r3, r4) = stage_of(5)
    (client,) = open_sessions(stage, 1)
    first = r0.state.log.last + 1
    cut_off = 2

    def vote_for_22(replica: SpeculativeReplica) -> InFlight:
        replica.view_change.start(22, "scenario")
        replica.view_change.joined |= {
            peer: replica.group.incarnations[peer] for peer in (0, 1)
        }  # as if two others had left the lower views too
        replica.view_change._vote_with_majority()
        (vote,) = stage.waiting(DoViewChange, source=replica.group.index, to=cut_off)
        stage.in_flight = [vote]
        return vote

    def among_the_others(flight: InFlight) -> bool:
        return cut_off not in (flight.source, flight.destination)

    def come_back(index: int) -> SpeculativeReplica:
        stage.crash(index)
        kept, stage.in_flight = stage.in_flight, []
        replica = restart(stage, index)
        stage.settle(among_the_others)
        assert replica.group.in_service
        assert replica.view < 22
        stage.in_flight = kept
        return replica

    late_3 = vote_for_22(r3)
    r3 = come_back(3)
    stage.in_flight = []
    late_4 = vote_for_22(r4)
    r4 = come_back(4)
    stage.in_flight = []
    handle = stage.call(client, b"a")
    stage.settle(among_the_others)
    assert stage.results[handle] == b"", "the four others are a superquorum"
    stage.in_flight = [late_3, late_4]
    stage.deliver(DoViewChange)
    assert r2.view == 22
    assert r2.group.status is Status.VIEW_CHANGE, "no three votes that stand"
    stage.run(1_000 * MS)
    assert all(operations(replica, first) == [b"a"] for replica in (r0, r1, r2, r3, r4))


def test_a_vote_of_an_earlier_incarnation_is_not_counted() -> None:
    stage, (_, r1, r2) = stage_of(3)
    open_sessions(stage, 1)
    stage.lose()
    r2.view_change.start(4, "scenario")
    stage.deliver(StartViewChange, to=0)
    stage.deliver(StartViewChange, source=0, to=2)
    (vote,) = stage.waiting(DoViewChange, source=2, to=1)
    stage.lose(StartViewChange)
    stage.in_flight.remove(vote)
    stage.crash(2)
    restart(stage, 2)
    learn_an_incarnation(stage, 2)
    stage.deliver(Recover, to=1)
    stage.lose()
    stage.in_flight.append(vote)
    stage.deliver_one(vote)
    assert r1.group.ignored["of an earlier incarnation"] == 1
    assert 2 not in r1.view_change.votes


def test_a_majority_that_has_lost_a_member_commits_nothing() -> None:
    """A ViewEntered from before a loss of state, together with another replica's answer, is no majority any more."""
    stage, (r0, _, r2, *_) = stage_of(5)
    (client,) = open_sessions(stage, 1)
    stage.call(client, b"a")
    stage.deliver(Request, to=0)
    stage.lose()
    committed = r0.state.committed
    r0.view_change.start(5, "scenario")
    stage.settle(lambda flight: not isinstance(flight.message, ViewEntered))
    assert r0.group.status is Status.NORMAL
    assert r0.view == 5
    start_last = r0.view_change.start_last
    outcome = r0.state.outcome_at(start_last)
    r0.on_message(1, ViewEntered(r0.group.incarnations, 5, start_last, outcome))
    known = later(r2, 1)
    r0.on_message(2, ViewEntered(known, 5, start_last, outcome))
    assert r0.state.committed == committed
    r0.on_message(3, ViewEntered(known, 5, start_last, outcome))
    assert r0.state.committed > committed


def test_an_older_process_of_a_replica_stops() -> None:
    """A paused process that seemed to have ended learns that its replica has been started again."""
    stage, (_, r1, _) = stage_of(3)
    open_sessions(stage, 1)
    r1.on_message(0, StartViewChange(later(r1, 1), 3))
    assert 1 not in stage.nodes
    assert stage.reports[-1][1] == "stopped"


def test_an_incarnation_that_never_came_into_service_blocks_no_later_one() -> None:
    """Two incarnations took the same number. Only one peer knows the first, which is over; its random bits are higher than the second's."""
    stage, (r0, r1, _) = stage_of(3)
    (client,) = open_sessions(stage, 1)
    stage.crash(1)
    r1 = restart(stage, 1)
    stage.run(100 * MS)
    assert r1.group.in_service
    former = tuple(incarnation + (index == 1) for index, incarnation in enumerate(r1.group.incarnations))
    assert start_number(former[1]) == start_number(r1.group.incarnation)
    r0.group.learn(former)
    complete(stage, client, b"a")
    assert r1.group.in_service
    assert start_number(r1.group.incarnation) == start_number(former[1]) + 1
    assert r0.group.incarnations[1] == r1.group.incarnation
    assert r1.state.log.hash_at(r1.state.committed) == r0.state.log.hash_at(r0.state.committed)


def test_with_the_state_of_all_others_lost_the_next_view_is_our_own() -> None:
    """Also if the replica had to take a later incarnation than its view admits."""
    stage, (r0, r1, _) = stage_of(3)
    open_sessions(stage, 1)
    r0.group.learn(later(r0, 0, 1, 2))
    r0.view_change.start_next("scenario")
    assert (r0.view, r0.leader) == (3, 0)
    r1.group.learn(later(r1, 0, 1, 2))
    r1.view_change.start_next("scenario")
    assert (r1.view, r1.leader) == (4, 1)


def test_bootstrap_waits_for_all() -> None:
    stage = first_start()
    stage.lose(to=2)
    stage.settle(lambda flight: flight.destination != 2)
    assert not any(replica.metrics()["status"] == "normal" for replica in stage.replicas[:2])
    stage.run(50 * MS)
    assert all(replica.metrics()["status"] == "normal" for replica in stage.replicas)


def test_a_first_start_is_completed_though_another_has_died() -> None:
    """The others are in service, since they have this replica's replies. One of them crashes before it has sent its own reply."""
    stage = first_start()
    stage.run(50 * MS, lambda flight: not (isinstance(flight.message, BootstrapReply) and (flight.source, flight.destination) == (2, 1)))
    assert [replica.metrics()["status"] for replica in stage.replicas] == ["normal", "bootstrapping", "normal"]
    stage.crash(2)
    handle = stage.call(stage.client(), b"a")
    stage.run(2_000 * MS, lambda flight: not isinstance(flight.message, BootstrapReply))
    assert stage.replicas[1].metrics()["status"] != "bootstrapping"
    assert stage.results[handle] == b""


def test_bootstrap_of_a_known_replica_is_refused() -> None:
    stage, _ = stage_of(3)
    stage.crash(1)
    stage.bootstrap(1)
    stage.deliver(Bootstrap)
    stage.deliver(BootstrapReply)
    assert 1 not in stage.nodes
    address, event, details = stage.reports[-1]
    assert (address, event) == (1, "stopped")
    assert "knows replica 1 from an earlier start" in details["reason"]


def test_a_replica_that_crashes_during_the_first_start_recovers() -> None:
    """It recovers among others that are still starting."""
    stage, _ = stage_of(3)
    for index in range(3):
        stage.crash(index)
    stage.lose()
    stage.bootstrap(0)
    stage.bootstrap(1)
    stage.deliver(Bootstrap, source=1, to=0)
    stage.crash(1)
    stage.lose()
    stage.restart(1)
    stage.bootstrap(2)
    stage.run(500 * MS)
    assert [replica.metrics()["status"] for replica in stage.replicas] == ["normal"] * 3
    (client,) = open_sessions(stage, 1)
    complete(stage, client, b"a")


def test_an_incarnation_with_the_same_number_is_superseded_when_a_peer_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two incarnations have the same number, and the one that is over has the higher random bits, so peers ignore the other's requests."""
    stage, (r0, r1, _) = stage_of(3)
    open_sessions(stage, 1)
    stage.crash(2)
    stage.restart(2)
    learn_an_incarnation(stage, 2)
    recovers = stage.waiting(Recover, source=2)
    stage.crash(2)
    r2 = restart(stage, 2)
    monkeypatch.setattr(stage.ports[2].random, "getrandbits", lambda bits: 0)
    learn_an_incarnation(stage, 2)
    for flight in recovers:
        stage.deliver_one(flight)
    assert start_number(r2.group.incarnation) == start_number(r0.group.incarnations[2])
    assert r2.group.incarnation < r0.group.incarnations[2] == r1.group.incarnations[2]
    stage.settle(keep=lambda flight: flight.destination != 2)
    stage.run(500 * MS)
    assert r2.group.in_service
    assert r0.group.incarnations == r1.group.incarnations == r2.group.incarnations
