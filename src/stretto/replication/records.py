"""The records that a replica of any protocol persists, so that it can go on when it is started again. Their tags begin at 200.

The log itself is persisted as it grows: each entry is the record of its own appending (`stretto.replication.messages.Request`). Replaying
the records in order gives back log, sessions and state machine. A first start is recorded by its `Bootstrap`.
"""

from __future__ import annotations

from stretto.core.node import Message
from stretto.replication.messages import Bootstrap, Request, StartView, StartViewChange


class RolledBack(Message, frozen=True, array_like=True, tag=200, gc=False):
    """The entries after `position` are no longer in the log."""

    position: int


class Committed(Message, frozen=True, array_like=True, tag=201, gc=False):
    """The entries up to `position` are committed; up to `in_view`, in views that this replica has entered (see `ReplicatedState`)."""

    position: int
    in_view: int = 0


class Known(Message, frozen=True, array_like=True, tag=202, gc=False):
    """The highest and the first incarnations of all replicas that this one knows of, its own included."""

    incarnations: tuple[int, ...]
    first: tuple[int, ...]


class Checkpoint(Message, frozen=True, array_like=True, tag=203, gc=False):
    """The state after the log up to `position`, with the summary hash and the outcome digest there. It stands for all those entries.

    `state` is an encoded `stretto.replication.state.Image`. Replicas with equal logs make equal checkpoints, byte for byte.
    """

    position: int
    hash: bytes
    outcome: int
    state: bytes


class Matched(Message, frozen=True, array_like=True, tag=204, gc=False):
    """The log up to `position` is known to be that of the leader of the view; see `stretto.replication.leader_log`."""

    position: int


class CopiedFrom(Message, frozen=True, array_like=True, tag=205, gc=False):
    """From which replica the checkpoint was copied on which the state rests; from none if it is the replica itself."""

    replica: int


RECORDS: tuple[type[Message], ...] = (
    Request,
    RolledBack,
    Committed,
    Checkpoint,
    Known,
    Bootstrap,
    StartViewChange,
    StartView,
    Matched,
    CopiedFrom,
)
"""A StartViewChange records that the replica has left all lower views; a StartView records with which log it has entered a view."""
