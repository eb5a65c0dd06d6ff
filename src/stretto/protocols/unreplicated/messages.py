"""The one message beside Request."""

from __future__ import annotations

from stretto.core.node import Message


class Reply(Message, frozen=True, array_like=True, tag=16, gc=False):
    """The server to a client: the result of its request; None if the server does not have the session."""

    session: int
    number: int
    result: bytes | None
