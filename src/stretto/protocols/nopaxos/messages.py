"""The messages of NOPaxos, besides those of `stretto.replication.messages`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from stretto.core.node import Message
from stretto.replication.messages import PEER_MESSAGES, Position, Request, View, ViewMessage

NO_OP = Request(client=0, session=1 << 62, number=0, time_ns=0, entropy=0, operation=b"")
"""The entry in place of a stamped request that was lost. Its session can never exist, so the request is refused at its position."""

NO_SESSION = 0
"""At a replica, instead of a sequencer's incarnation: the view has no session yet."""

SequencerIncarnation: TypeAlias = Annotated[int, Meta(ge=1, lt=1 << 62)]
"""Identifies one start of a sequencer: random, and never 0. Together with a view, it names a session."""

SequencerIndex: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 20)]


class NoPaxosReply(Message, frozen=True, array_like=True, tag=32, gc=False):
    """Each replica to the client, as soon as it has executed a request, and again whenever the request's position in the log has changed.

    - `view`: the replica's view; `sequencer`: the sequencer of that view;
    - `position`, `hash`: the request's position in the replica's log, and the hash there;
    - `outcome`: the checksum of the replica's result;
    - `result`: only in the leader's answer and in a committed one; None there if the replicas do not have the session;
    - `committed`: the position is final, so this answer alone completes the call.
    """

    view: View
    sequencer: SequencerIndex
    position: Position
    hash: bytes
    session: int
    number: int
    outcome: int
    result: bytes | None
    committed: bool


class OpenSession(Message, frozen=True, array_like=True, tag=33, gc=False):
    """The leader of `view` to a sequencer: stamp requests for this view from now on, and for no older one."""

    view: View


class SessionOpened(Message, frozen=True, array_like=True, tag=34, gc=False):
    """The answer: requests are stamped for `view`, by this incarnation of the sequencer."""

    view: View
    incarnation: SequencerIncarnation


class Stamped(Message, frozen=True, array_like=True, tag=35, gc=False):
    """The sequencer to all replicas: this request has this number, from 1, in the session. Also a replica's answer to a StampRequest."""

    view: View
    incarnation: SequencerIncarnation
    number: Position
    request: Request


class SequencerAlive(Message, frozen=True, array_like=True, tag=36, gc=False):
    """The sequencer to all replicas, when there is nothing to stamp: `number` is the last one that it has given."""

    view: View
    incarnation: SequencerIncarnation
    number: Position


class Sync(ViewMessage, frozen=True, array_like=True, tag=37, gc=False):
    """The leader's sign of life, at regular intervals to all: the view's session, its hash at `position`, what is committed,
    and the outcome there (as in Commit)."""

    sequencer: SequencerIndex
    sequencer_incarnation: SequencerIncarnation
    position: Position
    hash: bytes
    committed: Position
    outcome: int | None


class SyncReply(ViewMessage, frozen=True, array_like=True, tag=38, gc=False):
    """A follower to the leader: up to `position`, its log is the leader's. `outcome`: the follower's there."""

    position: Position
    outcome: int


class GapRequest(ViewMessage, frozen=True, array_like=True, tag=39, gc=False):
    """A follower to the leader: please send the entries at these positions of your log."""

    first: Position
    last: Position


class GapCommit(ViewMessage, frozen=True, array_like=True, tag=40, gc=False):
    """The leader to a follower that asked, or to all after it appended a no-op: these are the entries of my log from `first` on."""

    first: Position
    entries: tuple[Request, ...]


class SuspectSequencer(ViewMessage, frozen=True, array_like=True, tag=41, gc=False):
    """A replica to all: I do not hear the sequencer of `view`."""


class StampRequest(ViewMessage, frozen=True, array_like=True, tag=42, gc=False):
    """The leader to all: please send the requests that were stamped for these positions, if you have them."""

    first: Position
    last: Position


MESSAGES: tuple[type[Message], ...] = (
    Request, NoPaxosReply, OpenSession, SessionOpened, Stamped, SequencerAlive, *PEER_MESSAGES,
    Sync, SyncReply, GapRequest, GapCommit, SuspectSequencer, StampRequest,
)  # fmt: skip
