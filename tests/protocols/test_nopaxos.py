"""Parts of NOPaxos: the merge, the client's tally, and the sequencer."""

from __future__ import annotations

from itertools import combinations
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.core.state_machine import NullMachine
from stretto.protocols.nopaxos import NOPAXOS
from stretto.protocols.nopaxos.client import NoPaxosClient
from stretto.protocols.nopaxos.merging import merge
from stretto.protocols.nopaxos.messages import NO_OP, NoPaxosReply, OpenSession, SessionOpened, Stamped
from stretto.protocols.nopaxos.sequencer import Sequencer
from stretto.replication.log import EMPTY_HASH, chain
from stretto.replication.messages import DoViewChange, Request
from stretto.testing.stage import CLIENT_BASE, Stage


def request(session: int) -> Request:
    return Request(CLIENT_BASE, session, 1, 0, 0, b"")


def vote(log: list[Request], last_normal_view: int = 1, committed: int = 0) -> DoViewChange:
    summary = EMPTY_HASH
    for entry in log[:committed]:
        summary = chain(summary, entry)
    return DoViewChange((), 9, last_normal_view, committed, summary, committed, tuple(log[committed:]))


A, B, C, D = (request(session) for session in range(1, 5))


def test_a_no_op_wins_and_the_longest_log_gives_the_length() -> None:
    assert merge({0: vote([A, B]), 1: vote([A, NO_OP, C]), 2: vote([])}) == [A, NO_OP, C]
    assert merge({0: vote([A, NO_OP]), 1: vote([A, B, C, D]), 2: vote([A])}) == [A, NO_OP, C, D]


def test_committed_entries_are_not_merged() -> None:
    assert merge({0: vote([A, B, C], committed=2), 1: vote([A, B]), 2: vote([A, B, C, D], committed=1)}) == [C, D]


def test_only_logs_of_the_latest_view_count() -> None:
    assert merge({0: vote([A, NO_OP, C, D], last_normal_view=0), 1: vote([A, B])}) == [A, B]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_accepted_results_survive_any_choice_of_logs(data: st.DataObject) -> None:
    """The leader's log has requests and no-ops; f others equal it up to some position; all others have any stamped requests."""
    f = data.draw(st.integers(1, 2))
    stamped = [request(number) for number in range(1, 7)]
    leaders = [data.draw(st.sampled_from([entry, NO_OP])) for entry in stamped]
    accepted = data.draw(st.integers(0, len(leaders)))
    logs = [leaders]
    for replica in range(1, 2 * f + 1):
        same = accepted if replica <= f else data.draw(st.integers(0, accepted))
        length = data.draw(st.integers(same, len(stamped)))
        logs.append(leaders[:same] + stamped[same:length])
    for chosen in combinations(range(2 * f + 1), f + 1):
        assert merge({index: vote(logs[index]) for index in chosen})[:accepted] == leaders[:accepted]


def stage_with_client(n: int) -> tuple[Stage, NoPaxosClient]:
    stage = Stage(NOPAXOS, n, NullMachine)
    client = cast(NoPaxosClient, stage.client())
    stage.call(client, b"begin")
    stage.settle()
    return stage, client


def answer(client: NoPaxosClient, session: int, *, view: int = 0, summary: bytes = b"h", result: bytes | None = b"r") -> NoPaxosReply:
    return NoPaxosReply(view, 0, 3, summary, session, 2, 7, result, False)


def test_a_client_counts_answers_that_equal_the_leaders_in_one_view() -> None:
    stage, client = stage_with_client(5)
    ((session, _),) = client.snapshot()["idle"]
    handle = stage.call(client, b"x")
    for source, message in (
        (1, answer(client, session, result=None)),
        (2, answer(client, session, result=None)),
        (3, answer(client, session, result=None)),
        (0, answer(client, session, summary=b"other")),
        (4, answer(client, session, summary=b"other", result=None)),
        (0, answer(client, session, view=5)),
        (3, answer(client, session)),
        (1, answer(client, session, view=5, result=None)),
    ):
        client.on_message(source, message)
        client.check_invariants()
        assert handle not in stage.results
    client.on_message(4, answer(client, session, view=5, result=None))
    assert stage.results[handle] == b"r"


def test_a_sequencer_stamps_for_the_highest_view_that_asked_and_counts_from_one() -> None:
    stage = Stage(NOPAXOS, 3, NullMachine)
    sequencer = cast(Sequencer, stage.nodes[4])
    call = Request(CLIENT_BASE, 0, 1, 0, 0, b"")
    sequencer.on_message(CLIENT_BASE, call)
    assert stage.waiting(Stamped) == []
    for leader, view, opened in ((1, 4, True), (0, 4, False), (0, 3, False), (1, 4, True), (2, 5, True)):
        sequencer.on_message(leader, OpenSession(view))
        assert [cast(SessionOpened, flight.message).view for flight in stage.waiting(SessionOpened)] == [view] * opened
        stage.lose()
        sequencer.on_message(CLIENT_BASE, call)
        sequencer.on_message(CLIENT_BASE + 1, call)
        stage.lose(to=1)
        stage.lose(to=2)
        (stamp,) = stage.waiting(Stamped)
        if view == 5:
            assert cast(Stamped, stamp.message) == Stamped(5, sequencer.incarnation, 1, call)
        sequencer.check_invariants()
        stage.lose()
    assert sequencer.metrics()["ignored_messages"]["request that names another client"] == 5
