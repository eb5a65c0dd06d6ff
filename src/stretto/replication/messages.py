"""Messages that every replication protocol uses. Tags 1 to 31 are theirs; a protocol's own begin at 32."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from stretto.core.node import Address, Message

OPEN_SESSION = 0
"""The `session` of a request that asks for one; its `number` is then a random nonce, so that a retransmission opens nothing twice."""

Position: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]
Incarnation: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]
Incarnations: TypeAlias = tuple[Incarnation, ...]
View: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]


class Request(Message, frozen=True, array_like=True, tag=1, gc=False):
    """A client session to the replicas: please replicate this operation. It is also the entry of the log.

    - `client`: where answers go;
    - `session`, `number`: the session and its count of requests, for at most one execution;
    - `time_ns`, `entropy`: the client's wall clock and 32 random bits, all the time and randomness that the operation sees;
    - `operation`: for the state machine; opaque here.
    """

    client: Annotated[Address, Meta(ge=0, lt=1 << 48)]
    session: Annotated[int, Meta(ge=0)]
    number: Annotated[int, Meta(ge=0)]
    time_ns: int
    entropy: int
    operation: bytes


class PeerMessage(Message, frozen=True, array_like=True, gc=False):
    """The base of what replicas in service say to each other. `incarnations`: the highest of each replica that the sender has heard of."""

    incarnations: Incarnations


class Fetch(Message, frozen=True, array_like=True, tag=2, gc=False):
    """A replica that lacks committed entries, to one that has them: please send those of positions `first` to `last`.

    Committed entries are the same in every view for ever, so this is asked and answered in any status and view.
    """

    first: Position
    last: Position


class Entries(Message, frozen=True, array_like=True, tag=3, gc=False):
    """The answer to Fetch: committed entries from position `first` on, as many as fit one chunk; at least one."""

    first: Position
    entries: list[Request]


class CheckpointChunk(Message, frozen=True, array_like=True, tag=4, gc=False):
    """The answer to Fetch where the first entry has been compacted, and to FetchCheckpoint: bytes of a checkpoint from `offset` on.

    - `position`, `hash`: the place in the log that the checkpoint stands for;
    - `digest`, `size`: of the checkpoint's state. Replicas have equal checkpoints, so the next chunk may come from another.
    """

    position: Position
    hash: bytes
    digest: bytes
    size: Position
    offset: Position
    data: bytes


class FetchCheckpoint(Message, frozen=True, array_like=True, tag=5, gc=False):
    """The same replica, which has the bytes of the checkpoint up to `offset`: please go on. Answered with the newest one's first bytes if
    this one is gone."""

    position: Position
    digest: bytes
    offset: Position


class Bootstrap(Message, frozen=True, array_like=True, tag=6, gc=False):
    """A replica that starts for the first time, to all others: do you know another incarnation of mine?"""

    incarnation: Incarnation


class BootstrapReply(Message, frozen=True, array_like=True, tag=7, gc=False):
    """The answer: `known` is the incarnation of the other that the sender knows from now on; `incarnation` is its own."""

    known: Incarnation
    incarnation: Incarnation


class GetIncarnations(Message, frozen=True, array_like=True, tag=8, gc=False):
    """A replica that lost its state to all others: which incarnations do you know?

    `nonce` tells the answers from those to its earlier starts.
    """

    nonce: int


class IncarnationsReply(Message, frozen=True, array_like=True, tag=9, gc=False):
    """The answer of a replica that has its state."""

    nonce: int
    incarnations: Incarnations


class Recover(PeerMessage, frozen=True, array_like=True, tag=10, gc=False):
    """A replica that lost its state, to all others, until it is back: let me take part again, with the log of a view for which all
    voters know of my loss. Also one that waits too long for the last reply to its Bootstrap, and has lost nothing.

    `view`: that of the StartView that it is about to install; -1 if it has none.
    """

    view: Annotated[int, Meta(ge=-1, lt=1 << 62)]


class ViewMessage(PeerMessage, frozen=True, array_like=True, gc=False):
    """The base of what replicas send to each other in, or about, a view."""

    view: View


class Suspect(ViewMessage, frozen=True, array_like=True, tag=11, gc=False):
    """A replica to all: I do not hear the leader of `view` (or, from the leader: nobody answers me)."""


class StartViewChange(ViewMessage, frozen=True, array_like=True, tag=12, gc=False):
    """A replica to all: I have stopped working in views below `view`; let us start it."""


class DoViewChange(ViewMessage, frozen=True, array_like=True, tag=13, gc=False):
    """A replica to the leader of `view`, its vote: the view in which it was last NORMAL, and its log after what is committed there.

    `matched`: up to there, the log is known to be that of the leader of the last normal view. At least what is committed.
    """

    last_normal_view: View
    committed: Position
    committed_hash: bytes
    matched: Position
    entries: tuple[Request, ...]


class StartView(ViewMessage, frozen=True, array_like=True, tag=14, gc=False):
    """The leader of `view` to all: the log with which the view starts. It never changes, and any replica in the view may pass it on.

    Up to `commit_base` everything is committed; `entries` follow. `admitted_incarnations`: of each replica, the highest incarnation that
    every voter of this view knew of. A replica takes part in the view only in that incarnation or with the state of an earlier one.
    """

    commit_base: Position
    commit_base_hash: bytes
    entries: tuple[Request, ...]
    admitted_incarnations: Incarnations


class GetStartView(ViewMessage, frozen=True, array_like=True, tag=15, gc=False):
    """A replica that met a higher view to whoever showed it: please send your StartView."""


class ViewEntered(ViewMessage, frozen=True, array_like=True, tag=16, gc=False):
    """A follower to the leader: I am in the view, with the log it started with."""


class Commit(ViewMessage, frozen=True, array_like=True, tag=17, gc=False):
    """The leader to all: everything up to `position` is committed; a log that has another hash there is wrong."""

    position: Position
    hash: bytes


class Reply(Message, frozen=True, array_like=True, tag=18, gc=False):
    """A replica to a client: the final result of its request; None if the replicas do not have the session. `view`: the replica's."""

    view: View
    session: int
    number: int
    result: bytes | None


class Prepare(ViewMessage, frozen=True, array_like=True, tag=19, gc=False):
    """The leader to its followers: my log from position `first` on is these entries, behind one with hash `previous_hash`.

    `committed`: everything up to there is. `slow_path`: I send every entry in a Prepare, so append nothing of your own.
    """

    first: Position
    previous_hash: bytes
    entries: list[Request]
    committed: Position
    slow_path: bool


class PrepareOk(ViewMessage, frozen=True, array_like=True, tag=20, gc=False):
    """A follower to the leader: up to `position` my log is yours. `diverged`: it had another order before your last message."""

    position: Position
    diverged: bool


class Heartbeat(ViewMessage, frozen=True, array_like=True, tag=21, gc=False):
    """The leader to its followers, every so often: I live, you should have my log up to `prepared`, and up to `committed` it is; these are
    its hashes there. `slow_path`: as in Prepare."""

    prepared: Position
    prepared_hash: bytes
    committed: Position
    committed_hash: bytes
    slow_path: bool


class GetLog(ViewMessage, frozen=True, array_like=True, tag=22, gc=False):
    """A follower to the leader: I lack your log from position `first` on. Answered with Prepare, or with EntriesCompacted."""

    first: Position


class EntriesCompacted(ViewMessage, frozen=True, array_like=True, tag=23, gc=False):
    """The leader to a follower: what you ask for has been compacted to a checkpoint; fetch what is committed, up to `position` at least."""

    position: Position
    hash: bytes


PEER_MESSAGES: tuple[type[Message], ...] = (
    Fetch, Entries, CheckpointChunk, FetchCheckpoint, Bootstrap, BootstrapReply, GetIncarnations, IncarnationsReply, Recover,
    Suspect, StartViewChange, DoViewChange, StartView, GetStartView, ViewEntered, Commit,
)  # fmt: skip
"""What every protocol with several replicas needs: state transfer, recovery and view changes."""


class Forward(ViewMessage, frozen=True, array_like=True, tag=24, gc=False):
    """A follower to the leader: requests that you seem to lack."""

    requests: tuple[Request, ...]


LEADER_LOG_MESSAGES: tuple[type[Message], ...] = (
    Prepare, PrepareOk, Heartbeat, GetLog, EntriesCompacted, Forward,
)  # fmt: skip
"""What a protocol needs whose followers take over the leader's log; see `stretto.replication.leader_log`."""
