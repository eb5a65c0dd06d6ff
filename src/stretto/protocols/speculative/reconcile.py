"""Merging the logs of a majority into the log that the next view starts with: a pure function.

What must survive is what a client may have accepted, which a superquorum held in the last view, and what that view started with.
Of any f+1 logs, at least ⌈f/2⌉+1 of those that took part in the last view hold what a superquorum held.
(Ports et al., NSDI 2015, section 4.3; the minimum in the support is ours: where fewer logs than the support are of the last view,
nothing new can have completed in it, and what it started with stands in all of them.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from stretto.protocols.speculative.messages import Reconcile
from stretto.replication.log import chain
from stretto.replication.messages import Request
from stretto.replication.sessions import slot


def settled(votes: Mapping[int, Reconcile]) -> tuple[int, int, bytes]:
    """The base: the highest position that some voter knows to be committed. Returns that voter, the position, and its hash."""
    voter = max(sorted(votes), key=lambda index: votes[index].committed)
    return voter, votes[voter].committed, votes[voter].committed_hash


def latest(votes: Mapping[int, Reconcile]) -> dict[int, Reconcile]:
    """The votes of the highest last_normal_view, by replica index: only their speculative entries matter."""
    newest = max(vote.last_normal_view for vote in votes.values())
    return {index: votes[index] for index in sorted(votes) if votes[index].last_normal_view == newest}


def known_to_all(votes: Mapping[int, Reconcile]) -> tuple[int, ...]:
    """Of each replica, the incarnation that all voters knew of: who speaks in it has lost nothing since that any of them counted on.

    The lowest, not what the leader knows: a vote that was sent before its sender knew of a loss may be merged into a view below one in
    which the replica took part before it.
    """
    return tuple(min(known) for known in zip(*(vote.incarnations for vote in votes.values()), strict=True))


def merge(votes: Mapping[int, Reconcile], numbers: Mapping[tuple[int, int], int], merge_support: int) -> list[Request]:
    """The entries after the base with which the next view starts.

    Parameters: `votes`, exactly f+1 messages by replica index; `numbers`, the last request number of each session slot as the
    session table stood at the base; `merge_support`, ⌈f/2⌉+1.
    """
    _, base, base_hash = settled(votes)
    candidates = latest(votes)
    merged = _supported(candidates, base, base_hash, min(merge_support, len(candidates)))
    reached = dict(numbers)
    for request in merged:
        reached[slot(request)] = request.number
    for vote in candidates.values():
        for request in vote.entries:
            if reached.get(slot(request), -1) < request.number:
                reached[slot(request)] = request.number
                merged.append(request)
    return merged


def _supported(candidates: Mapping[int, Reconcile], base: int, base_hash: bytes, needed: int) -> list[Request]:
    """The entries after `base` for as long as one hash stands in at least `needed` of the logs."""
    logs = [dict(_hashed(vote)) for vote in candidates.values()]
    kept: list[Request] = []
    running = base_hash
    while True:
        found = [log[base + len(kept) + 1] for log in logs if base + len(kept) + 1 in log]
        at_next = dict(found)
        votes = Counter(summary for summary, _ in found)
        supported = [summary for summary, count in votes.items() if count >= needed]
        if not supported:
            return kept
        assert len(supported) == 1, "two logs are supported at once: more than f+1 were merged"
        running = chain(running, at_next[supported[0]])
        assert running == supported[0], "a supported entry does not follow what is committed"
        kept.append(at_next[supported[0]])


def _hashed(vote: Reconcile) -> Iterator[tuple[int, tuple[bytes, Request]]]:
    """The positions of a vote's entries, with the summary hash there and the entry."""
    running = vote.committed_hash
    for position, request in enumerate(vote.entries, vote.committed + 1):
        running = chain(running, request)
        yield position, (running, request)
