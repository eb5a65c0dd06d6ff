"""The messages of chain replication, besides a client's Request and its Reply, and the question for a replica's clock."""

from stretto.core.node import Message
from stretto.replication.messages import CLOCK_MESSAGES, Position, Reply, Request


class Append(Message, frozen=True, array_like=True, tag=32, gc=False):
    """A replica to the next one in the chain: this request is at `position` of my log."""

    position: Position
    request: Request


class Stored(Message, frozen=True, array_like=True, tag=33, gc=False):
    """A replica to the one before it in the chain: the tail has everything up to `position`."""

    position: Position


MESSAGES: tuple[type[Message], ...] = (Request, Reply, Append, Stored, *CLOCK_MESSAGES)
