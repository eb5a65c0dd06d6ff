"""The messages of Speculative Paxos, besides those of `stretto.replication.messages`."""

from __future__ import annotations

from stretto.core.node import Message
from stretto.replication.messages import PEER_MESSAGES, Forward, Position, Request, View, ViewMessage


class SpeculativeReply(Message, frozen=True, array_like=True, tag=32, gc=False):
    """Each replica to the client, as soon as it has executed a request, and again whenever the request's position in the log has changed.

    - `view`: the replica's view; `position`, `hash`: the request's position in its log, and the hash there;
    - `result`: None if the replicas do not have the session;
    - `committed`: the position is final, so this answer alone completes the call.
    """

    view: View
    position: Position
    hash: bytes
    session: int
    number: int
    result: bytes | None
    committed: bool


class Conflict(Message, frozen=True, array_like=True, tag=33, gc=False):
    """A client to the leader of `view`: the answers to one request can no longer agree. Asks for a synchronisation now."""

    view: View
    position: Position
    hashes: tuple[bytes, ...]


class Sync(ViewMessage, frozen=True, array_like=True, tag=34, gc=False):
    """The leader's sign of life, at regular intervals to all: what is your hash at `position`? It also tells what is
    committed, and the outcome there on which f+1 replicas agree; None if the leader does not know."""

    position: Position
    committed: Position
    committed_hash: bytes
    outcome: int | None


class SyncReply(ViewMessage, frozen=True, array_like=True, tag=35, gc=False):
    """A follower to the leader: its hash and its outcome at the Sync's position; None if its log has not reached that position in time."""

    position: Position
    hash: bytes | None
    outcome: int | None


MESSAGES: tuple[type[Message], ...] = (Request, SpeculativeReply, Conflict, *PEER_MESSAGES, Sync, SyncReply, Forward)
