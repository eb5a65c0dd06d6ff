"""Merging the logs of a majority into the log with which the next view starts: pure functions of the votes.

Every merge begins at the commit base, the highest position that a voter knows to be committed. After it, only the votes with the highest
last normal view count, and each protocol keeps the entries that may have completed in that view by its own quorums:

- `merge_supported`, of Speculative Paxos: the entries that ⌈f/2⌉+1 of the logs have;
- `merge_matched`, if every quorum includes the leader, whose log only grows: the matched entries, then those that ⌈f/2⌉+1 logs have;
- `merge_longest`, if followers have only their leader's entries: the longest log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from stretto.replication.log import chain
from stretto.replication.messages import DoViewChange, Request
from stretto.replication.sessions import slot


def commit_base(votes: Mapping[int, DoViewChange]) -> tuple[int, int, bytes]:
    """The highest position that a voter knows to be committed. Returns that voter, the position, and the hash there."""
    voter = max(sorted(votes), key=lambda index: votes[index].committed)
    return voter, votes[voter].committed, votes[voter].committed_hash


def latest(votes: Mapping[int, DoViewChange]) -> dict[int, DoViewChange]:
    """The votes with the highest last_normal_view, by replica index: only their entries count after the commit base."""
    newest = max(vote.last_normal_view for vote in votes.values())
    return {index: votes[index] for index in sorted(votes) if votes[index].last_normal_view == newest}


def admitted_incarnations(votes: Mapping[int, DoViewChange]) -> tuple[int, ...]:
    """The highest incarnation of each replica that every voter knew of.

    This is the minimum over the voters, not what the leader knows. A voter that did not yet know of a replica's loss of state may help to
    start a view that is lower than one in which that replica took part before the loss.
    """
    return tuple(min(known) for known in zip(*(vote.incarnations for vote in votes.values()), strict=True))


def supported(votes: Mapping[int, DoViewChange], base: int, base_hash: bytes, needed: int) -> list[Request]:
    """The entries after `base`, up to the last position at which at least `needed` of the logs have the same hash."""
    logs = [dict(_hashed(vote)) for vote in votes.values()]
    kept: list[Request] = []
    running = base_hash
    while True:
        found = [log[base + len(kept) + 1] for log in logs if base + len(kept) + 1 in log]
        at_next = dict(found)
        counts = Counter(summary for summary, _ in found)
        winners = [summary for summary, count in counts.items() if count >= needed]
        if not winners:
            return kept
        assert len(winners) == 1, "two logs are supported at once: more than f+1 were merged"
        running = chain(running, at_next[winners[0]])
        assert running == winners[0], "a supported entry does not follow what is committed"
        kept.append(at_next[winners[0]])


def _hashed(vote: DoViewChange) -> Iterator[tuple[int, tuple[bytes, Request]]]:
    """The positions of a vote's entries, each with the summary hash at that position and the entry."""
    running = vote.committed_hash
    for position, request in enumerate(vote.entries, vote.committed + 1):
        running = chain(running, request)
        yield position, (running, request)


def matched_prefix(votes: Mapping[int, DoViewChange], base: int) -> list[Request]:
    """The longest sequence of entries after `base` that a vote reports as matched. All matched entries are of one leader's log."""
    best = max((votes[index] for index in sorted(votes)), key=lambda vote: vote.matched)
    return list(best.entries[base - best.committed : max(base, best.matched) - best.committed])


def hash_after(summary: bytes, entries: Iterable[Request]) -> bytes:
    """The summary hash after `entries`, which follow a position with hash `summary`."""
    for request in entries:
        summary = chain(summary, request)
    return summary


def has_hash(vote: DoViewChange, position: int, summary: bytes) -> bool:
    """Whether a vote's log has that hash at `position`. Positions before the one that the voter knows to be committed do not count."""
    return dict([(vote.committed, vote.committed_hash), *((place, at) for place, (at, _) in _hashed(vote))]).get(position) == summary


def with_others(merged: Iterable[Request], votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int]) -> list[Request]:
    """`merged`, followed by the other entries of the votes. Each is there once, and none follows a later one of its session.

    `numbers`: the last request number of each session slot in the session table at the commit base.
    """
    reached = dict(numbers)
    result = list(merged)
    for request in result:
        reached[slot(request)] = request.number
    for vote in votes.values():
        for request in vote.entries:
            if reached.get(slot(request), -1) < request.number:
                reached[slot(request)] = request.number
                result.append(request)
    return result


def merge_supported(votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int], merge_support: int) -> list[Request]:
    """The entries after the commit base, by Speculative Paxos (Ports et al., NSDI 2015, section 4.3).

    Two things must survive: the log with which the last view started, and each result that a client may have accepted. A superquorum had
    such a result's entry in the last view, so of any f+1 logs at least ⌈f/2⌉+1 have it. If fewer logs than that are of the last view,
    nothing new can have completed in it, and all of them have the log with which it started; then an entry is kept if all of them have it.
    (The paper does not mention this case.)

    Parameters: `votes`, exactly f+1 messages by replica index; `numbers`, the last request number of each session slot in the session
    table at the commit base; `merge_support`, ⌈f/2⌉+1.
    """
    _, base, base_hash = commit_base(votes)
    candidates = latest(votes)
    kept = supported(candidates, base, base_hash, min(merge_support, len(candidates)))
    return with_others(kept, candidates, numbers)


def merge_matched(votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int], merge_support: int) -> list[Request]:
    """The entries after the commit base, if the leader's log only grows within its view, and every quorum includes the leader.

    Two kinds of entries must survive: those that f+1 replicas matched with the leader's log, and those that a superquorum, including the
    leader, has. Of any f+1 logs, at least one has all of the former, and at least ⌈f/2⌉+1 of the last view's have the latter. A log that
    has other entries in place of matched ones gives no support after them: the leader never had those. Parameters as of
    `merge_supported`.
    """
    _, base, base_hash = commit_base(votes)
    candidates = latest(votes)
    kept = matched_prefix(candidates, base)
    position, summary = base + len(kept), hash_after(base_hash, kept)
    extending = {index: vote for index, vote in candidates.items() if has_hash(vote, position, summary)}
    return with_others(kept + supported(extending, position, summary, merge_support), candidates, numbers)


def merge_longest(votes: Mapping[int, DoViewChange]) -> list[Request]:
    """The entries after the commit base, if followers append only what their leader sends.

    The logs of one view are prefixes of one log, and the longest of f+1 has what a majority had. Parameter: exactly f+1 votes by replica
    index.
    """
    _, base, base_hash = commit_base(votes)
    return supported(latest(votes), base, base_hash, needed=1)
