"""The message of Fast Paxos, beside those that other protocols have too."""

from __future__ import annotations

from stretto.core.node import Message
from stretto.replication.messages import LEADER_LOG_MESSAGES, PEER_MESSAGES, Position, Reply, Request, ViewMessage


class Accepted(ViewMessage, frozen=True, array_like=True, tag=32, gc=False):
    """A follower to the leader, for each request that it appends: my log has this hash at `position`, which speaks of all before it too."""

    position: Position
    hash: bytes


MESSAGES: tuple[type[Message], ...] = (Request, Reply, *PEER_MESSAGES, *LEADER_LOG_MESSAGES, Accepted)
