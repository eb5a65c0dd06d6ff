"""Many datagrams in one call: by `recvmmsg` and `sendmmsg` where the C extension was built, else one at a time.

Sources and destinations are integers, IPv4 address << 16 | port. Both forms do the same; `BATCHED` says which one is in use.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from stretto.runtime.addresses import endpoint_of, endpoint_to_int

Datagram: TypeAlias = tuple[int, bytes]
Send: TypeAlias = Callable[[socket.socket, list[Datagram]], int]
"""Sends each (destination, data), in order, without waiting, and returns how many the kernel took."""


class PlainReceiver:
    """Receives up to `max_datagrams` at a time from a socket; of a datagram longer than `max_bytes`, that many bytes."""

    def __init__(self, socket: socket.socket, max_datagrams: int, max_bytes: int) -> None:
        self._recvfrom = socket.recvfrom
        self._max_datagrams = max_datagrams
        self._max_bytes = max_bytes

    def receive(self) -> list[Datagram]:
        """What has arrived as (source, data), in order; empty if nothing has. Never waits."""
        datagrams = []
        try:
            for _ in range(self._max_datagrams):
                data, endpoint = self._recvfrom(self._max_bytes, socket.MSG_DONTWAIT)
                datagrams.append((endpoint_to_int(endpoint), data))
        except (BlockingIOError, InterruptedError):
            pass
        return datagrams


def plain_send_many(sock: socket.socket, datagrams: list[Datagram]) -> int:
    """Send each (destination, data), in order, without waiting, and return how many the kernel took. One that it does not take
    (no such address, no room, not permitted) is lost, as any datagram may be; the others go out."""
    taken = 0
    for destination, data in datagrams:
        try:
            sock.sendto(data, socket.MSG_DONTWAIT, endpoint_of(destination))
            taken += 1
        except (OSError, ValueError, OverflowError):
            if sock.fileno() < 0:
                raise ValueError("the socket is closed") from None
    return taken


if TYPE_CHECKING:
    BATCHED: bool
    Receiver = PlainReceiver
    send_many: Send
else:
    try:
        from stretto.runtime._batch import Receiver, send_many

        BATCHED = True
    except ImportError:
        Receiver, send_many, BATCHED = PlainReceiver, plain_send_many, False
