"""Merging the logs of a majority into the log with which the next view starts: pure functions of the votes.

Every merge begins at the commit base, the highest position that a voter knows to be committed. Behind it, only the votes with the highest
last normal view count, and each protocol keeps what may have completed in that view by its own quorums:

- `merge_supported`, of Speculative Paxos: what ⌈f/2⌉+1 of the logs have;
- `merge_matched`, where every quorum includes the leader, whose log only grows: what is matched, and behind that what ⌈f/2⌉+1 have;
- `merge_longest`, where followers only have their leader's entries: the longest log.
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
    """The votes of the highest last_normal_view, by replica index: only their entries matter beyond what is committed."""
    newest = max(vote.last_normal_view for vote in votes.values())
    return {index: votes[index] for index in sorted(votes) if votes[index].last_normal_view == newest}


def admitted_incarnations(votes: Mapping[int, DoViewChange]) -> tuple[int, ...]:
    """The highest incarnation of each replica that every voter knew of.

    It is the minimum of what the voters knew, not what the leader knows. A vote that was sent before its sender knew of a loss of state
    may be merged into a view that is lower than one in which the replica took part before that loss.
    """
    return tuple(min(known) for known in zip(*(vote.incarnations for vote in votes.values()), strict=True))


def supported(votes: Mapping[int, DoViewChange], base: int, base_hash: bytes, needed: int) -> list[Request]:
    """The entries after `base` for as long as one hash stands in at least `needed` of the logs."""
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
    """The positions of a vote's entries, with the summary hash there and the entry."""
    running = vote.committed_hash
    for position, request in enumerate(vote.entries, vote.committed + 1):
        running = chain(running, request)
        yield position, (running, request)


def matched_prefix(votes: Mapping[int, DoViewChange], base: int) -> list[Request]:
    """The entries after `base` that some vote knows to be in the last view's leader's log. All such entries are prefixes of one log."""
    best = max((votes[index] for index in sorted(votes)), key=lambda vote: vote.matched)
    return list(best.entries[base - best.committed : max(base, best.matched) - best.committed])


def hash_after(summary: bytes, entries: Iterable[Request]) -> bytes:
    """The summary hash behind `entries`, which follow a position with hash `summary`."""
    for request in entries:
        summary = chain(summary, request)
    return summary


def has_hash(vote: DoViewChange, position: int, summary: bytes) -> bool:
    """Whether a vote's log has that hash at a position that is not before what is committed in it."""
    return dict([(vote.committed, vote.committed_hash), *((place, at) for place, (at, _) in _hashed(vote))]).get(position) == summary


def with_others(merged: Iterable[Request], votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int]) -> list[Request]:
    """`merged`, and behind it the other entries of the votes, each once and none after a later one of its session.

    `numbers`: the last request number of each session slot as the session table stood at the commit base.
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

    What must survive is what a client may have accepted, which a superquorum had in the last view, and what that view started with.
    Of any f+1 logs, at least ⌈f/2⌉+1 of those that took part in the last view have what a superquorum had. The minimum is ours: where fewer
    logs are of the last view, nothing new can have completed in it, and all of them have what it started with.

    Parameters: `votes`, exactly f+1 messages by replica index; `numbers`, the last request number of each session slot as the session
    table stood at the commit base; `merge_support`, ⌈f/2⌉+1.
    """
    _, base, base_hash = commit_base(votes)
    candidates = latest(votes)
    kept = supported(candidates, base, base_hash, min(merge_support, len(candidates)))
    return with_others(kept, candidates, numbers)


def merge_matched(votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int], merge_support: int) -> list[Request]:
    """The entries after the commit base, where the leader's log only grows within its view, and every quorum includes the leader.

    What must survive is what f+1 replicas matched with the leader's log, and what a superquorum that includes the leader has. Of any f+1
    logs, one has all that was matched, and ⌈f/2⌉+1 of those of the last view have what a superquorum had. What other logs have in place of
    matched entries counts for nothing, however many they are: the leader never had it. Parameters as of `merge_supported`.
    """
    _, base, base_hash = commit_base(votes)
    candidates = latest(votes)
    kept = matched_prefix(candidates, base)
    position, summary = base + len(kept), hash_after(base_hash, kept)
    extending = {index: vote for index, vote in candidates.items() if has_hash(vote, position, summary)}
    return with_others(kept + supported(extending, position, summary, merge_support), candidates, numbers)


def merge_longest(votes: Mapping[int, DoViewChange]) -> list[Request]:
    """The entries after the commit base, where followers append only what their leader sends.

    The logs of one view are prefixes of one log, and the longest has what a majority had. Parameter: exactly f+1 votes by replica index.
    """
    _, base, base_hash = commit_base(votes)
    return supported(latest(votes), base, base_hash, needed=1)
