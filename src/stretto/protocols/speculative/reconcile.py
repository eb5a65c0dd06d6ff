"""Merging the logs of a majority into the log that the next view starts with: a pure function.

What must survive is what a client may have accepted, which a superquorum held in the last view, and what that view started with.
Of any f+1 logs, at least ⌈f/2⌉+1 of those that took part in the last view hold what a superquorum held.
(Ports et al., NSDI 2015, section 4.3; the minimum in the support is ours: where fewer logs than the support are of the last view,
nothing new can have completed in it, and what it started with stands in all of them.)
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.replication.merging import latest, settled, supported, with_others
from stretto.replication.messages import DoViewChange, Request


def merge(votes: Mapping[int, DoViewChange], numbers: Mapping[tuple[int, int], int], merge_support: int) -> list[Request]:
    """The entries after the base with which the next view starts.

    Parameters: `votes`, exactly f+1 messages by replica index; `numbers`, the last request number of each session slot as the
    session table stood at the base; `merge_support`, ⌈f/2⌉+1.
    """
    _, base, base_hash = settled(votes)
    candidates = latest(votes)
    kept = supported(candidates, base, base_hash, min(merge_support, len(candidates)))
    return with_others(kept, candidates, numbers)
