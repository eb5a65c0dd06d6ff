"""Merging the logs of a majority into the log with which the next view starts: a pure function.

In one view, a position can have one of two entries: the request that was stamped with its number, or a no-op, if the leader replaced that
request. Each result that a client has accepted is at f+1 replicas, with all entries before it, so at least one of any f+1 logs has it and
the no-ops before it. If none of the f+1 logs has a no-op, no result after it was accepted. So a no-op in any log wins, and the merged log
is as long as the longest. (Li et al., OSDI 2016, section 5.3.)
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.protocols.nopaxos.messages import NO_OP
from stretto.replication.merging import commit_base, latest
from stretto.replication.messages import DoViewChange, Request


def merge(votes: Mapping[int, DoViewChange]) -> list[Request]:
    """The entries after the commit base with which the next view starts, from exactly f+1 votes by replica index."""
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
