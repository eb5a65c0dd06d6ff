"""Merging the logs of a majority into the log that the next view starts with: a pure function.

What must survive is what the leader may have committed: what f+1 replicas confirmed to be its log, and what a superquorum, itself among
them, placed as it did. Of any f+1 logs of the last view, one has all that was confirmed, and ⌈f/2⌉+1 have all that a superquorum had.
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.replication.merging import confirmed_prefix, hash_after, latest, settled, supported, with_others
from stretto.replication.messages import DoViewChange, Request


def merge(votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int], merge_support: int) -> list[Request]:
    """The entries after the base with which the next view starts.

    Parameters: `votes`, exactly f+1 messages by replica index; `numbers`, the last request number of each session slot as the
    session table stood at the base; `merge_support`, ⌈f/2⌉+1.
    """
    _, base, base_hash = settled(votes)
    candidates = latest(votes)
    kept = confirmed_prefix(candidates, base)
    kept += supported(candidates, base + len(kept), hash_after(base_hash, kept), merge_support)
    return with_others(kept, candidates, numbers)
