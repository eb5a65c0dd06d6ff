"""The messages of NOPaxos, beside those that all protocols share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from stretto.core.node import Message
from stretto.replication.gate import FROM_LEADER, PEER_RULES, Action, Rules, Sender, in_view
from stretto.replication.group import NORMAL
from stretto.replication.messages import PEER_MESSAGES, Commit, Position, Request, View, ViewMessage

NO_OP = Request(client=0, session=1 << 62, number=0, time_ns=0, entropy=0, operation=b"")
"""What stands in the log where a stamped request was lost: a request of a session that can never be, so it is refused at its place."""

NO_SESSION = 0
"""In the place of a sequencer's incarnation, at a replica: the view has no session yet."""

SequencerIncarnation: TypeAlias = Annotated[int, Meta(ge=1, lt=1 << 62)]
"""Tells one start of a sequencer from all others: random, and never 0. With a view it names a session."""

SequencerIndex: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 20)]


class NoPaxosReply(Message, frozen=True, array_like=True, tag=32, gc=False):
    """Every replica to a client, at once when it has executed a request, and again whenever its place in the log has changed.

    `view` is the replica's view as it answers, and `sequencer` serves that; `position` and `hash`, where the request stands in its log;
    `result`, of the leader's answer and of one that is committed, None if the replicas do not have the session. `committed`: this place
    is final, so this one answer completes the call.
    """

    view: View
    sequencer: SequencerIndex
    position: Position
    hash: bytes
    session: int
    number: int
    result: bytes | None
    committed: bool


class OpenSession(Message, frozen=True, array_like=True, tag=33, gc=False):
    """The leader of `view` to a sequencer: stamp requests for this view from now on, and for no older one."""

    view: View


class SessionOpened(Message, frozen=True, array_like=True, tag=34, gc=False):
    """The answer: they are stamped for `view`, by this incarnation of the sequencer."""

    view: View
    incarnation: SequencerIncarnation


class Stamped(Message, frozen=True, array_like=True, tag=35, gc=False):
    """The sequencer to all replicas: this request has this number, from 1, in the session. Also a follower to a leader that lost it."""

    view: View
    incarnation: SequencerIncarnation
    number: Position
    request: Request


class SequencerAlive(Message, frozen=True, array_like=True, tag=36, gc=False):
    """The sequencer to all replicas, when there is nothing to stamp: `number` was the last."""

    view: View
    incarnation: SequencerIncarnation
    number: Position


class Sync(ViewMessage, frozen=True, array_like=True, tag=37, gc=False):
    """The leader to all, every so often: the view's session, the hash of its log at `position`, and what is committed. Its sign of life."""

    sequencer: SequencerIndex
    sequencer_incarnation: SequencerIncarnation
    position: Position
    hash: bytes
    committed: Position


class SyncReply(ViewMessage, frozen=True, array_like=True, tag=38, gc=False):
    """A follower to the leader: up to `position`, its log is the leader's."""

    position: Position


class GapRequest(ViewMessage, frozen=True, array_like=True, tag=39, gc=False):
    """A follower to the leader: please send what stands at these positions of your log."""

    first: Position
    last: Position


class GapCommit(ViewMessage, frozen=True, array_like=True, tag=40, gc=False):
    """The leader to a follower that asked, or to all when it gave a request up: this is what its log has from `first` on."""

    first: Position
    entries: tuple[Request, ...]


class SuspectSequencer(ViewMessage, frozen=True, array_like=True, tag=41, gc=False):
    """A replica to all: I do not hear the sequencer of `view`."""


class StampRequest(ViewMessage, frozen=True, array_like=True, tag=42, gc=False):
    """The leader to all: please send what was stamped for these positions, if you have it."""

    first: Position
    last: Position


MESSAGES: tuple[type[Message], ...] = (
    Request, NoPaxosReply, OpenSession, SessionOpened, Stamped, SequencerAlive, *PEER_MESSAGES,
    Sync, SyncReply, GapRequest, GapCommit, SuspectSequencer, StampRequest,
)  # fmt: skip

_FROM_SEQUENCER = (Sender.SEQUENCER,)

RULES: Rules = {
    Stamped: in_view((Sender.SEQUENCER, Sender.REPLICA), higher=Action.IGNORE),
    SequencerAlive: in_view(_FROM_SEQUENCER, higher=Action.IGNORE),
    SessionOpened: in_view(_FROM_SEQUENCER, NORMAL, to_leader=True, higher=Action.IGNORE),
    Sync: in_view(FROM_LEADER),
    SyncReply: in_view(to_leader=True),
    Commit: in_view(FROM_LEADER, NORMAL),
    GapRequest: in_view(to_leader=True),
    StampRequest: in_view(FROM_LEADER),
    GapCommit: in_view(FROM_LEADER, NORMAL),
    SuspectSequencer: in_view(),
    **PEER_RULES,
}
