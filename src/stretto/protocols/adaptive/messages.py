"""The messages of Adaptive Speculative Paxos, beside those that other protocols have too."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stretto.core.node import Message
from stretto.replication.gate import FROM_CLIENT, LEADER_LOG_RULES, PEER_RULES, REQUEST_RULES, Action, Rules, in_view
from stretto.replication.group import NORMAL
from stretto.replication.messages import LEADER_LOG_MESSAGES, PEER_MESSAGES, Position, Request, View

SPECULATIVE, MATCHED, COMMITTED = range(3)
"""What an answer says of the place of a request: it may change; it is the leader's in this view; it is final."""


class AdaptiveReply(Message, frozen=True, array_like=True, tag=32, gc=False):
    """Every replica to a client, at once when it has executed a request, and again when more is known of its place.

    `view` is the replica's view as it answers; `position` and `hash`, where the request stands in its log; `result` is None if the replicas
    do not have the session. `level`: SPECULATIVE, CONFIRMED or COMMITTED. `leader_only`, the leader's alone to say: it sends its log to
    the others all the time, so send requests to it and nobody else.
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
    """A client to the leader of `view`: the answers to the request at this position of your log cannot agree any more."""

    view: View
    position: Position


MESSAGES: tuple[type[Message], ...] = (Request, AdaptiveReply, Conflict, *PEER_MESSAGES, *LEADER_LOG_MESSAGES)

RULES: Rules = {
    **REQUEST_RULES,
    Conflict: in_view(FROM_CLIENT, NORMAL, to_leader=True, higher=Action.IGNORE),
    **LEADER_LOG_RULES,
    **PEER_RULES,
}
