"""The merge for leaders whose log only grows: operations that completed on either path survive any choice of f+1 logs."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.replication.log import EMPTY_HASH
from stretto.replication.merging import commit_base, hash_after, merge_matched
from stretto.replication.messages import DoViewChange, Request
from stretto.replication.quorums import Quorums
from stretto.replication.sessions import slot

CLIENT = 1 << 20


def request(session: int, number: int = 1) -> Request:
    return Request(CLIENT, session, number, 0, 0, b"")


def vote(log: list[Request], matched: int = 0, *, last_normal_view: int = 1, committed: int = 0) -> DoViewChange:
    summary = hash_after(EMPTY_HASH, log[:committed])
    return DoViewChange((), 9, last_normal_view, committed, summary, max(matched, committed), tuple(log[committed:]))


def numbers(prefix: list[Request]) -> dict[tuple[int, int], int]:
    return {slot(entry): entry.number for entry in prefix}


A, B, C, D, E = (request(session) for session in range(1, 6))


def test_a_matched_entry_stays_whatever_the_others_have_there() -> None:
    """The two equal logs have entries that were never the leader's."""
    votes = {1: vote([B, A], matched=2), 2: vote([A, B]), 3: vote([A, B])}
    assert merge_matched(votes, {}, 2) == [B, A]


def test_entries_after_the_matched_ones_are_supported_only_by_logs_that_begin_with_those() -> None:
    """Three of five replicas: one knows that the leader's log begins with B, so the entries that two have after A were never the
    leader's."""
    votes = {1: vote([B], matched=1), 2: vote([A, C]), 3: vote([A, C])}
    assert merge_matched(votes, {}, 2) == [B, A, C]
    votes = {1: vote([B, D], matched=1), 2: vote([B, D, C]), 3: vote([A, C])}
    assert merge_matched(votes, {}, 2) == [B, D, C, A]


def test_a_log_that_ends_before_the_matched_position_supports_nothing() -> None:
    votes = {1: vote([A, B], matched=2), 2: vote([A])}
    assert merge_matched(votes, {}, 2) == [A, B]


def test_a_matched_position_of_an_older_view_does_not_count() -> None:
    votes = {1: vote([A, B], matched=2, last_normal_view=0), 2: vote([B, A], matched=1)}
    assert merge_matched(votes, {}, 2) == [B, A]


def test_the_highest_committed_position_is_the_commit_base() -> None:
    votes = {1: vote([A, B, C], committed=2), 2: vote([B, A, C])}
    assert commit_base(votes)[:2] == (1, 2)
    assert merge_matched(votes, numbers([A, B]), 2) == [C]


@dataclass(frozen=True)
class LastView:
    """The logs of n replicas after a view that started with `start`. `completed`: the operations whose results clients may have."""

    quorums: Quorums
    votes: list[DoViewChange]
    start: list[Request]
    completed: list[Request]


@st.composite
def last_views(draw: st.DrawFn) -> LastView:
    """A leader's log. A majority matched a part of it, and perhaps a superquorum, including the leader, has a longer part.

    Up to f replicas never entered the view. The others matched some beginning, and have their own order after it.
    """
    quorums = Quorums.of(draw(st.sampled_from([3, 5, 7])))
    everything = [request(session) for session in range(1, 11)]
    log = draw(st.permutations(everything))[: draw(st.integers(0, 8))]
    start, slow, fast = sorted(draw(st.integers(0, len(log))) for _ in range(3))
    followers = draw(st.permutations(range(1, quorums.n)))
    late = set(followers[: draw(st.integers(0, quorums.f))])
    present = [follower for follower in followers if follower not in late]
    confirming = set(present[: quorums.f])
    placing = set(draw(st.permutations(present))[: quorums.superquorum - 1])
    if len(present) < quorums.superquorum - 1:
        fast = slow
    votes = [vote(log, len(log), committed=draw(st.integers(0, start)))]
    for follower in range(1, quorums.n):
        own = draw(st.permutations(everything))[: draw(st.integers(0, 10))]
        if follower in late:
            votes.append(vote(own, last_normal_view=0))
            continue
        matched = draw(st.integers(slow if follower in confirming else start, len(log)))
        placed = log[: max(matched, fast if follower in placing else 0)]
        behind = [entry for entry in own if entry not in placed]
        votes.append(vote(placed + behind, matched, committed=draw(st.integers(0, start))))
    return LastView(quorums, votes, log[:start], log[:fast])


@settings(max_examples=400)
@given(last_views(), st.data())
def test_completed_operations_survive_any_majority(view: LastView, data: st.DataObject) -> None:
    chosen = data.draw(st.permutations(range(view.quorums.n)))[: view.quorums.majority]
    merging = {replica: view.votes[replica] for replica in chosen}
    if all(each.last_normal_view == 0 for each in merging.values()):
        return  # more than f replicas would have to be missing
    _, base, _ = commit_base(merging)
    merged = view.start[:base] + merge_matched(merging, numbers(view.start[:base]), view.quorums.merge_support)
    assert merged[: len(view.completed)] == view.completed
    assert len(set(merged)) == len(merged)
    for each in merging.values():
        assert each.last_normal_view == 0 or set(each.entries) <= set(merged), "an operation was dropped"
    again = merge_matched(
        {replica: view.votes[replica] for replica in reversed(chosen)}, numbers(view.start[:base]), view.quorums.merge_support
    )
    assert view.start[:base] + again == merged
