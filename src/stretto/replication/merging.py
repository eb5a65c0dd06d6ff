"""What merging the logs of a majority is made of, whatever the protocol: pure functions of the votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from stretto.replication.log import chain
from stretto.replication.messages import DoViewChange, Request
from stretto.replication.sessions import slot


def settled(votes: Mapping[int, DoViewChange]) -> tuple[int, int, bytes]:
    """The base: the highest position that some voter knows to be committed. Returns that voter, the position, and its hash."""
    voter = max(sorted(votes), key=lambda index: votes[index].committed)
    return voter, votes[voter].committed, votes[voter].committed_hash


def latest(votes: Mapping[int, DoViewChange]) -> dict[int, DoViewChange]:
    """The votes of the highest last_normal_view, by replica index: only their entries matter beyond what is committed."""
    newest = max(vote.last_normal_view for vote in votes.values())
    return {index: votes[index] for index in sorted(votes) if votes[index].last_normal_view == newest}


def known_to_all(votes: Mapping[int, DoViewChange]) -> tuple[int, ...]:
    """Of each replica, the incarnation that all voters knew of: who speaks in it has lost nothing since that any of them counted on.

    The lowest, not what the leader knows: a vote that was sent before its sender knew of a loss may be merged into a view below one in
    which the replica took part before it.
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


def confirmed_prefix(votes: Mapping[int, DoViewChange], base: int) -> list[Request]:
    """The entries after `base` that some vote knows to be those of the leader of the last view: what most of them, confirmed, is a
    beginning of one log."""
    best = max((votes[index] for index in sorted(votes)), key=lambda vote: vote.confirmed)
    return list(best.entries[base - best.committed : max(base, best.confirmed) - best.committed])


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

    `numbers`: the last request number of each session slot as the session table stood at the base.
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
