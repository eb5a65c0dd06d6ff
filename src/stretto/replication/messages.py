"""Messages that every replication protocol uses. They have the tags 1 to 31; a protocol's own messages begin at 32."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from stretto.core.node import Address, Busy, Message

OPEN_SESSION = 0
"""The `session` of a request that opens one. Its `number` is then a random nonce, so that a retransmission opens no second session."""

CONFIGURATION = (1 << 62) - 1
"""The `session` of entries that a leader makes itself; those of clients have greater names. Each changes the configuration: its `operation`
is an encoded `Configuration`."""

HASH_BYTES = 16
"""The size of the hash at a position of the log."""

Position: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]
Incarnation: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]
Incarnations: TypeAlias = tuple[Incarnation, ...]
View: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]
Nanoseconds: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 62)]


class Request(Message, frozen=True, array_like=True, tag=1, gc=False):
    """A client session to the replicas: please replicate this operation. It is also the entry of the log.

    - `client`: the address for answers;
    - `session`, `number`: the session, and the request's number in it: each request is executed at most once;
    - `time_ns`, `entropy`: the client's wall clock and 32 random bits, the only time and randomness that the operation sees;
    - `operation`: for the state machine; opaque to replication.
    """

    client: Annotated[Address, Meta(ge=0, lt=1 << 48)]
    session: Annotated[int, Meta(ge=0)]
    number: Annotated[int, Meta(ge=0)]
    time_ns: int
    entropy: int
    operation: bytes


class Configuration(Struct, frozen=True, array_like=True, gc=False):
    """What decides the outcomes of operations and is not in the operations themselves. It is part of the replicated state.

    `version`: the active version of the service; `max_sessions`: how many sessions the replicas keep.
    """

    version: Annotated[int, Meta(ge=1, lt=1 << 31)]
    max_sessions: Annotated[int, Meta(ge=1, lt=1 << 62)]


class PeerMessage(Message, frozen=True, array_like=True, gc=False):
    """The base of messages between replicas in service. `incarnations`: the highest of each replica that the sender has heard of."""

    incarnations: Incarnations


class Fetch(Message, frozen=True, array_like=True, tag=2, gc=False):
    """A replica that lacks committed entries, to one that has them: please send those of positions `first` to `last`.

    Committed entries never change, so this is asked and answered in any status and view.
    """

    first: Position
    last: Position


class Entries(Message, frozen=True, array_like=True, tag=3, gc=False):
    """The answer to Fetch: committed entries from position `first` on, as many as fit one chunk; at least one."""

    first: Position
    entries: list[Request]


class CheckpointChunk(Message, frozen=True, array_like=True, tag=4, gc=False):
    """The answer to FetchCheckpoint, and to Fetch if the first entry has been compacted: bytes of a checkpoint from `offset` on.

    - `position`, `hash`: the checkpoint's position in the log, and the summary hash there;
    - `outcome`: the outcome digest there;
    - `digest`, `size`: of the checkpoint's state. Replicas have equal checkpoints, so the next chunk may come from another replica.
    """

    position: Position
    hash: bytes
    outcome: int
    digest: bytes
    size: Position
    offset: Position
    data: bytes


class FetchCheckpoint(Message, frozen=True, array_like=True, tag=5, gc=False):
    """A replica that has the bytes of a checkpoint up to `offset`: please send the next ones. If that checkpoint is gone, the answer is the
    first bytes of the newest."""

    position: Position
    digest: bytes
    offset: Position


class Bootstrap(Message, frozen=True, array_like=True, tag=6, gc=False):
    """A replica that starts for the first time, to all others: which first incarnations do you know?

    `nonce` tells the answers apart from those to earlier questions.
    """

    nonce: int


class BootstrapReply(Message, frozen=True, array_like=True, tag=7, gc=False):
    """The answer: the first and the highest incarnation of each replica that the sender knows, 0 for one that it does not."""

    nonce: int
    first: Incarnations
    incarnations: Incarnations


class GetIncarnations(Message, frozen=True, array_like=True, tag=8, gc=False):
    """A replica that lost its state to all others: which incarnations do you know?

    `nonce` tells the answers apart from those to its earlier starts.
    """

    nonce: int


class IncarnationsReply(Message, frozen=True, array_like=True, tag=9, gc=False):
    """The answer: the first and the highest incarnation of each replica that the sender knows, and whether it has its state."""

    nonce: int
    first: Incarnations
    incarnations: Incarnations
    has_state: bool


class Recover(PeerMessage, frozen=True, array_like=True, tag=10, gc=False):
    """A replica that lost its state to all others, until it is in service: please let me take part again, with the log of a view whose
    voters all know of my loss. A replica also sends this if it waits too long for the last BootstrapReply, though it has lost nothing.

    `view`: the view of the StartView that it is about to install; -1 if it has none.
    """

    view: Annotated[int, Meta(ge=-1, lt=1 << 62)]


class ViewMessage(PeerMessage, frozen=True, array_like=True, gc=False):
    """The base of messages between replicas that belong to a view."""

    view: View


class Suspect(ViewMessage, frozen=True, array_like=True, tag=11, gc=False):
    """A replica to all: I do not hear the leader of `view` (or, from the leader: nobody answers me)."""


class StartViewChange(ViewMessage, frozen=True, array_like=True, tag=12, gc=False):
    """A replica to all: I have left all views below `view`; let us start that view."""


class DoViewChange(ViewMessage, frozen=True, array_like=True, tag=13, gc=False):
    """A replica's vote, to the leader of `view`: the last view that it entered, and its log after its committed position.

    `matched`: up to this position, the log is known to be that of the last view's leader. It is at least the committed position.
    """

    last_normal_view: View
    committed: Position
    committed_hash: bytes
    matched: Position
    entries: tuple[Request, ...]


class StartView(ViewMessage, frozen=True, array_like=True, tag=14, gc=False):
    """The leader of `view` to all: the log with which the view starts. It never changes, and any replica in the view may pass it on.

    Up to `commit_base` everything is committed; `entries` follow. The last of them may be a configuration: the view then begins when it is
    committed. `admitted_incarnations`: of each replica, the highest incarnation that
    every voter of this view knew of. A replica takes part in the view only in that incarnation or with the state of an earlier one.
    """

    commit_base: Position
    commit_base_hash: bytes
    entries: tuple[Request, ...]
    admitted_incarnations: Incarnations


class GetStartView(ViewMessage, frozen=True, array_like=True, tag=15, gc=False):
    """A replica to one that is in a higher view: please send your StartView."""


class ViewEntered(ViewMessage, frozen=True, array_like=True, tag=16, gc=False):
    """A follower to the leader: I am in the view, with the log it started with. `outcome`: mine at this position of it."""

    position: Position
    outcome: int


class ViewBegins(ViewMessage, frozen=True, array_like=True, tag=73, gc=False):
    """The leader to all, in a view whose log ended with a configuration: a majority has entered the view, so that is committed."""


class CodeVersion(PeerMessage, frozen=True, array_like=True, tag=74, gc=False):
    """A replica to all, from time to time: what my code and my file say.

    - `code_version`: the newest version that this replica's code knows; `max_sessions`: what its file says;
    - `version`: the version that is active here; `signature`: what this replica's code says of it;
    - `asks`: whether the sender has not heard this of all others yet.
    """

    code_version: Annotated[int, Meta(ge=1, lt=1 << 31)]
    max_sessions: Annotated[int, Meta(ge=1, lt=1 << 62)]
    version: Annotated[int, Meta(ge=1, lt=1 << 31)]
    signature: tuple[str, ...]
    asks: bool


class Upgrade(Message, frozen=True, array_like=True, tag=75, gc=False):
    """An operator to the leader: make the newest version active that all replicas know, except for `without`. `nonce` is repeated by the
    answer."""

    nonce: Annotated[int, Meta(ge=0, lt=1 << 62)]
    without: tuple[Address, ...]


class UpgradeReply(Message, frozen=True, array_like=True, tag=76, gc=False):
    """The answer: the change to `version` has begun; or `reason` says why not, and `version` is the active one."""

    nonce: Annotated[int, Meta(ge=0, lt=1 << 62)]
    version: int
    reason: str


class Commit(ViewMessage, frozen=True, array_like=True, tag=17, gc=False):
    """The leader to all: everything up to `position` is committed; a log with another hash there must be repaired.

    `outcome`: the outcome there on which f+1 replicas agree; None if the leader does not know.
    """

    position: Position
    hash: bytes
    outcome: int | None


class Reply(Message, frozen=True, array_like=True, tag=18, gc=False):
    """A replica to a client: the final result of its request; None if the replicas do not have the session. `view`: the replica's."""

    view: View
    session: int
    number: int
    result: bytes | None


class Prepare(ViewMessage, frozen=True, array_like=True, tag=19, gc=False):
    """The leader to its followers: my log has these entries from position `first` on, and the hash `previous_hash` before them.

    `committed`: everything up to this position is committed. `slow_path`: I send every entry in a Prepare, so append nothing of your own.
    """

    first: Position
    previous_hash: bytes
    entries: list[Request]
    committed: Position
    slow_path: bool


class PrepareOk(ViewMessage, frozen=True, array_like=True, tag=20, gc=False):
    """A follower to the leader: up to `position` my log is yours. `diverged`: since my last PrepareOk, it has had another order.

    `outcome`: the follower's outcome at `position`.
    """

    position: Position
    outcome: int
    diverged: bool


class Heartbeat(ViewMessage, frozen=True, array_like=True, tag=21, gc=False):
    """The leader's sign of life, at regular intervals to its followers: you should have my log up to `prepared`; it is committed up to
    `committed`; these are the hashes at both positions. `outcome`: that at `committed`, as in Commit; `slow_path`: as in Prepare."""

    prepared: Position
    prepared_hash: bytes
    committed: Position
    committed_hash: bytes
    outcome: int | None
    slow_path: bool


class GetLog(ViewMessage, frozen=True, array_like=True, tag=22, gc=False):
    """A follower to the leader: I lack your log from position `first` on. Answered with Prepare, or with EntriesCompacted."""

    first: Position


class EntriesCompacted(ViewMessage, frozen=True, array_like=True, tag=23, gc=False):
    """The leader to a follower: the entries that you ask for have been compacted; fetch what is committed, at least up to `position`."""

    position: Position
    hash: bytes


class OtherLife(Message, frozen=True, array_like=True, tag=72, gc=False):
    """A replica to a client: the session of this request was opened in another life of the cluster; this one was started anew, empty."""

    session: int
    number: int


class GetTime(Message, frozen=True, array_like=True, tag=64, gc=False):
    """A client or a replica to the replicas: what is your wall clock? `sent_ns`: the sender's monotonic clock, which comes back."""

    sent_ns: Nanoseconds


class TimeReply(Message, frozen=True, array_like=True, tag=65, gc=False):
    """The answer: `wall_ns`, nanoseconds since 1970 by the sender's wall clock."""

    sent_ns: Nanoseconds
    wall_ns: Nanoseconds


CLOCK_MESSAGES: tuple[type[Message], ...] = (GetTime, TimeReply)
"""The messages by which the cluster's time is estimated; see `stretto.replication.clock`."""


class CompareOutcomes(PeerMessage, frozen=True, array_like=True, tag=68, gc=False):
    """A replica that has another outcome than another one, to all: what are your outcomes at these positions, in ascending order?

    `hash`: at the last of them. Only replicas with this hash there can be compared.
    """

    positions: tuple[Position, ...]
    hash: bytes


class Outcomes(PeerMessage, frozen=True, array_like=True, tag=69, gc=False):
    """The answer, to all: the sender's outcomes; None at positions that it has not got, or not any more.

    `copied_from`: the replica from which it has its state, itself if it has executed the log; `result`: the first bytes of its result at
    the last position.
    """

    positions: tuple[Position, ...]
    hash: bytes
    values: tuple[int | None, ...]
    copied_from: int
    result: bytes | None


class StateDigest(PeerMessage, frozen=True, array_like=True, tag=70, gc=False):
    """A replica to all: my checkpoint of this position has this digest. `copied_from`: as in Outcomes."""

    position: Position
    hash: bytes
    digest: bytes
    copied_from: int


class Remember(PeerMessage, frozen=True, array_like=True, tag=77, gc=False):
    """A replica to all: everything up to `position`, with this hash there, was committed in views up to `view`. Who has it not?"""

    view: View
    position: Position
    hash: bytes


class Written(PeerMessage, frozen=True, array_like=True, tag=78, gc=False):
    """A replica with a disk to all, from time to time: how much was ever written into my directory, as a number that only rises."""

    number: Position


class GetWritten(Message, frozen=True, array_like=True, tag=79, gc=False):
    """A replica that starts again with its data, to all: which number have I told, in this incarnation?"""

    nonce: int
    incarnation: Incarnation


class WrittenReply(Message, frozen=True, array_like=True, tag=80, gc=False):
    """The answer: the highest such number, 0 if none; and the incarnation of the asking replica that the sender knows."""

    nonce: int
    incarnation: Incarnation
    number: Position


PEER_MESSAGES: tuple[type[Message], ...] = (
    Fetch, Entries, CheckpointChunk, FetchCheckpoint, Bootstrap, BootstrapReply, GetIncarnations, IncarnationsReply, Recover,
    Suspect, StartViewChange, DoViewChange, StartView, GetStartView, ViewEntered, ViewBegins, Commit, OtherLife,
    CompareOutcomes, Outcomes, StateDigest, CodeVersion, Upgrade, UpgradeReply,
    Remember, Written, GetWritten, WrittenReply, Busy, *CLOCK_MESSAGES,
)  # fmt: skip
"""The messages of every protocol with several replicas: state transfer, recovery, view changes, and what a client is told of them."""


class Forward(ViewMessage, frozen=True, array_like=True, tag=24, gc=False):
    """A follower to the leader: you seem to lack these requests."""

    requests: tuple[Request, ...]


LEADER_LOG_MESSAGES: tuple[type[Message], ...] = (
    Prepare, PrepareOk, Heartbeat, GetLog, EntriesCompacted, Forward,
)  # fmt: skip
"""The messages of a protocol whose followers take over the leader's log; see `stretto.replication.leader_log`."""
