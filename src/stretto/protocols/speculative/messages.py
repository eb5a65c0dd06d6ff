"""The messages of Speculative Paxos, beside those that all protocols share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from stretto.core.node import Message
from stretto.replication import records
from stretto.replication.messages import RECOVERY_MESSAGES, Incarnations, PeerMessage, Position, Request

View: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]


class SpeculativeReply(Message, frozen=True, array_like=True, tag=16, gc=False):
    """Every replica to a client, at once when it has executed a request, and again whenever its place in the log has moved.

    `view` is the replica's view as it answers; `position` and `hash`, where the request stands in its log; `result` is None if the replicas
    do not have the session. `committed`: this place is final, so this one answer completes the call.
    """

    view: View
    position: Position
    hash: bytes
    session: int
    number: int
    result: bytes | None
    committed: bool


class Conflict(Message, frozen=True, array_like=True, tag=17, gc=False):
    """A client to the leader of `view`: the answers to one request can no longer agree. Asks for a synchronisation now."""

    view: View
    position: Position
    hashes: tuple[bytes, ...]


class ViewMessage(PeerMessage, frozen=True, array_like=True, gc=False):
    """The base of what replicas send to each other in, or about, a view."""

    view: View


class Sync(ViewMessage, frozen=True, array_like=True, tag=18, gc=False):
    """The leader to all, every so often: what is your hash at `position`? Also its sign of life, and what is committed."""

    position: Position
    committed: Position
    committed_hash: bytes


class SyncReply(ViewMessage, frozen=True, array_like=True, tag=19, gc=False):
    """A follower to the leader: its hash at the Sync's position; None if its log has not got there in a while."""

    position: Position
    hash: bytes | None


class Commit(ViewMessage, frozen=True, array_like=True, tag=20, gc=False):
    """The leader to all: everything up to `position` is committed; a log that has another hash there is wrong."""

    position: Position
    hash: bytes


class Forward(ViewMessage, frozen=True, array_like=True, tag=27, gc=False):
    """A follower to the leader: requests in our log that seem to have been lost on their way to you."""

    requests: tuple[Request, ...]


class Suspect(ViewMessage, frozen=True, array_like=True, tag=21, gc=False):
    """A replica to all: I do not hear the leader of `view` (or, from the leader: nobody answers me)."""


class StartReconciliation(ViewMessage, frozen=True, array_like=True, tag=22, gc=False):
    """A replica to all: I have stopped working in views below `view`; let us start it."""


class Reconcile(ViewMessage, frozen=True, array_like=True, tag=23, gc=False):
    """A replica to the leader of `view`, its vote: the view in which it was last NORMAL, and its log after what is committed there."""

    last_normal_view: View
    committed: Position
    committed_hash: bytes
    entries: tuple[Request, ...]


class StartView(ViewMessage, frozen=True, array_like=True, tag=24, gc=False):
    """The leader of `view` to all: the log with which the view starts. It never changes, and any replica in the view may pass it on.

    Up to `base` everything is committed; `entries` follow. `readmits`: the incarnation of each replica from which on all who
    voted for this view know of it.
    """

    base: Position
    base_hash: bytes
    entries: tuple[Request, ...]
    readmits: Incarnations


class GetStartView(ViewMessage, frozen=True, array_like=True, tag=25, gc=False):
    """A replica that met a higher view to whoever showed it: please send your StartView."""


class ViewEntered(ViewMessage, frozen=True, array_like=True, tag=26, gc=False):
    """A follower to the leader: I am in the view, with the log it started with."""


MESSAGES: tuple[type[Message], ...] = (
    Request, SpeculativeReply, Conflict, *RECOVERY_MESSAGES, Sync, SyncReply, Commit, Forward, Suspect, StartReconciliation,
    Reconcile, StartView, GetStartView, ViewEntered,
)  # fmt: skip

RECORDS: tuple[type[Message], ...] = (*records.RECORDS, StartReconciliation, StartView)
"""What a replica persists beside what all do: that it has left the views below one, and with which log it has entered one."""
