"""Merging the logs of a majority where the leader's log only grows, and is in every quorum: a pure function.

What must survive is what f+1 replicas confirmed to be the leader's log, and what a superquorum, the leader among them, placed as it did.
Of any f+1 logs, one has all that was confirmed, and ⌈f/2⌉+1 of those of the last view have all that a superquorum had. What others have
had instead of what was confirmed counts for nothing, however many they are: it was never the leader's.
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.replication.merging import confirmed_prefix, has_hash, hash_after, latest, settled, supported, with_others
from stretto.replication.messages import DoViewChange, Request


def merge(votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int], merge_support: int) -> list[Request]:
    """The entries after the base with which the next view starts.

    Parameters: `votes`, exactly f+1 messages by replica index; `numbers`, the last request number of each session slot as the
    session table stood at the base; `merge_support`, ⌈f/2⌉+1.
    """
    _, base, base_hash = settled(votes)
    candidates = latest(votes)
    kept = confirmed_prefix(candidates, base)
    position, summary = base + len(kept), hash_after(base_hash, kept)
    extending = {index: vote for index, vote in candidates.items() if has_hash(vote, position, summary)}
    return with_others(kept + supported(extending, position, summary, merge_support), candidates, numbers)
