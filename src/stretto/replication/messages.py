"""Messages that every replication protocol uses. Tags 1 to 15 are theirs; a protocol's own begin at 16."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stretto.core.node import Address, Message

OPEN_SESSION = 0
"""The `session` of a request that asks for one; its `number` is then a random nonce, so that a retransmission opens nothing twice."""


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


class Fetch(Message, frozen=True, array_like=True, tag=2, gc=False):
    """A replica that lacks committed entries, to one that has them: please send those of positions `first` to `last`.

    Committed entries are the same in every view for ever, so this is asked and answered in any status and view.
    """

    first: int
    last: int


class Entries(Message, frozen=True, array_like=True, tag=3, gc=False):
    """The answer to Fetch: committed entries from position `first` on, as many as fit one piece; at least one."""

    first: int
    entries: list[Request]
