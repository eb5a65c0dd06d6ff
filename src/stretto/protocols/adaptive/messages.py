"""The messages of Adaptive Speculative Paxos, besides those of `stretto.replication.messages`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stretto.core.node import Message
from stretto.replication.messages import LEADER_LOG_MESSAGES, PEER_MESSAGES, Position, Request, View

SPECULATIVE, MATCHED, COMMITTED = range(3)
"""What is known of a request's position: it may change; it is the leader's, so it stays in this view; it is final."""


class AdaptiveReply(Message, frozen=True, array_like=True, tag=32, gc=False):
    """Each replica to the client, as soon as it has executed a request, and again when more is known of the request's position.

    - `view`: the replica's view; `position`, `hash`: the request's position in its log, and the hash there;
    - `result`: None if the replicas do not have the session;
    - `level`: SPECULATIVE, MATCHED or COMMITTED;
    - `leader_only`, set only by the leader: it is on the slow path, so send requests only to it.
    """

    view: View
    position: Position
    hash: bytes
    session: int
    number: int
    result: bytes | None
    level: Annotated[int, Meta(ge=SPECULATIVE, le=COMMITTED)]
    leader_only: bool


class Conflict(Message, frozen=True, array_like=True, tag=33, gc=False):
    """A client to the leader of `view`: the answers to the request at this position of your log can no longer agree."""

    view: View
    position: Position


MESSAGES: tuple[type[Message], ...] = (Request, AdaptiveReply, Conflict, *PEER_MESSAGES, *LEADER_LOG_MESSAGES)
