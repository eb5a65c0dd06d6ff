"""The merge of Speculative Paxos: entries that a superquorum may have had survive any choice of f+1 logs."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.replication.log import EMPTY_HASH, chain
from stretto.replication.merging import commit_base, merge_supported
from stretto.replication.messages import DoViewChange, Request
from stretto.replication.quorums import Quorums
from stretto.replication.sessions import slot

CLIENT = 1 << 20


def request(session: int, number: int = 1) -> Request:
    return Request(CLIENT, session, number, 0, 0, b"")


def hash_after(entries: list[Request]) -> bytes:
    running = EMPTY_HASH
    for entry in entries:
        running = chain(running, entry)
    return running


def vote(log: list[Request], last_normal_view: int = 1, committed: int = 0) -> DoViewChange:
    return DoViewChange((), 9, last_normal_view, committed, hash_after(log[:committed]), committed, tuple(log[committed:]))


def numbers(prefix: list[Request]) -> dict[tuple[int, int], int]:
    return {slot(entry): entry.number for entry in prefix}


A, B, C, D = (request(session) for session in range(1, 5))


def test_supported_entries_stay_and_the_others_follow_in_fixed_order() -> None:
    votes = {0: vote([A, B, C]), 1: vote([A, B, D])}
    assert merge_supported(votes, {}, 2) == [A, B, C, D]
    assert merge_supported({1: votes[1], 0: votes[0]}, {}, 2) == [A, B, C, D]


def test_only_logs_of_the_last_normal_view_count_for_speculative_entries() -> None:
    """After an empty view: a log of an older view does not count, however long it is."""
    votes = {0: vote([A, B, C], last_normal_view=1), 1: vote([B], last_normal_view=2)}
    assert merge_supported(votes, {}, 2) == [B]


def test_with_few_logs_of_the_last_view_its_starting_log_stays() -> None:
    votes = {0: vote([A, B], last_normal_view=1), 1: vote([B, A, C], last_normal_view=2)}
    assert merge_supported(votes, {}, 2) == [B, A, C]


def test_the_last_views_starting_log_stays_entry_by_entry() -> None:
    """A request of a dropped session is refused each time that it comes. If it is in the log at two positions, it must stay at both."""
    refused = request(99)
    votes = {0: vote([A], last_normal_view=1), 1: vote([A, refused, refused, B], last_normal_view=2)}
    assert merge_supported(votes, {}, 2) == [A, refused, refused, B]


def test_the_highest_committed_position_of_any_vote_is_the_commit_base() -> None:
    votes = {0: vote([A, B, C], committed=2), 1: vote([B, A])}
    assert commit_base(votes) == (0, 2, hash_after([A, B]))
    assert merge_supported(votes, numbers([A, B]), 2) == [C]


def test_an_operation_before_the_sessions_last_one_does_not_return() -> None:
    votes = {0: vote([request(1, 2)]), 1: vote([B, request(1, 1)])}
    assert merge_supported(votes, {}, 2) == [request(1, 2), B]


def test_more_than_a_majority_of_logs_is_refused() -> None:
    logs = {0: vote([A]), 1: vote([A]), 2: vote([B]), 3: vote([B])}
    with pytest.raises(AssertionError, match="supported at once"):
        merge_supported(logs, {}, 2)


@st.composite
def last_views(draw: st.DrawFn) -> tuple[Quorums, list[DoViewChange], list[Request], list[Request]]:
    """The logs of n replicas after a view: the log it started with, the entries of a superquorum, and other entries of each replica.

    Up to f replicas never entered the view and have an older log. Returns all votes, the view's start, and the completed operations.
    """
    quorums = Quorums.of(draw(st.sampled_from([3, 5, 7])))
    operations = [request(session) for session in range(1, 13)]
    start = operations[: draw(st.integers(0, 3))]
    completed = start + operations[len(start) : len(start) + draw(st.integers(0, 4))]
    late = draw(st.sets(st.integers(0, quorums.n - 1), max_size=quorums.f))
    holders = [replica for replica in range(quorums.n) if replica not in late]
    if len(holders) < quorums.superquorum:
        completed = start
    holding = set(draw(st.permutations(holders))[: quorums.superquorum])
    votes = []
    for replica in range(quorums.n):
        own = draw(st.permutations(operations))
        if replica in late:
            log = own[: draw(st.integers(0, 6))]
            votes.append(vote(log, last_normal_view=0))
            continue
        prefix = completed if replica in holding else start
        log = prefix + [entry for entry in own[: draw(st.integers(0, 8))] if entry not in prefix]
        committed = draw(st.integers(0, len(start)))
        votes.append(vote(log, last_normal_view=1, committed=committed))
    return quorums, votes, start, completed


@settings(max_examples=400)
@given(last_views(), st.data())
def test_operations_that_may_have_completed_survive_any_majority(
    view: tuple[Quorums, list[DoViewChange], list[Request], list[Request]], data: st.DataObject
) -> None:
    quorums, votes, start, completed = view
    chosen = data.draw(st.permutations(range(quorums.n)))[: quorums.majority]
    merging = {replica: votes[replica] for replica in chosen}
    if max(each.last_normal_view for each in merging.values()) == 0:
        return  # more than f replicas would have to be missing
    _, base, _ = commit_base(merging)
    merged = start[:base] + merge_supported(merging, numbers(start[:base]), quorums.merge_support)
    assert merged[: len(completed)] == completed
    assert len(set(merged)) == len(merged)
    for replica in chosen:
        if votes[replica].last_normal_view == 1:
            assert set(votes[replica].entries) <= set(merged)
    for order in list(permutations(chosen))[:24]:
        again = merge_supported({replica: votes[replica] for replica in order}, numbers(start[:base]), quorums.merge_support)
        assert start[:base] + again == merged
