"""Merging the logs of a majority into the log that the next view starts with: a pure function.

In one view, what can stand at a position is the request that was stamped with its number, or a no-op if the leader gave that up. What a
client has accepted stands at f+1 replicas with everything before it, so it is in one of any f+1 logs, no-ops included; and a no-op that
is in none of them has nothing behind it that was accepted. So a no-op in any log wins, and the longest log says how far it goes.
(Li et al., OSDI 2016, section 5.3.)
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.protocols.nopaxos.messages import NO_OP
from stretto.replication.merging import commit_base, latest
from stretto.replication.messages import DoViewChange, Request


def merge(votes: Mapping[int, DoViewChange]) -> list[Request]:
    """The entries after the base with which the next view starts, from exactly f+1 votes by replica index."""
    _, base, _ = commit_base(votes)
    merged: list[Request] = []
    for vote in latest(votes).values():
        for place, request in enumerate(vote.entries[base - vote.committed :]):
            if place == len(merged):
                merged.append(request)
            elif request == NO_OP:
                merged[place] = NO_OP
            else:
                assert merged[place] in (request, NO_OP), "two requests were stamped for one position"
    return merged
