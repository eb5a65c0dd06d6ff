"""Many datagrams per call: by `recvmmsg` and `sendmmsg` if the C extension was built, otherwise one at a time.

Sources and destinations are integers, IPv4 address << 16 | port. Both forms behave alike; `BATCHED` says which one is in use.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from stretto.runtime.addresses import endpoint_of, endpoint_to_int

Datagram: TypeAlias = tuple[int, bytes]
Send: TypeAlias = Callable[[socket.socket, list[Datagram]], int]
"""Sends each (destination, data), in order, without waiting, and returns how many the kernel accepted."""


class PlainReceiver:
    """Receives up to `max_datagrams` per call from a socket. Datagrams longer than `max_bytes` are cut to that length."""

    def __init__(self, socket: socket.socket, max_datagrams: int, max_bytes: int) -> None:
        self._recvfrom = socket.recvfrom
        self._max_datagrams = max_datagrams
        self._max_bytes = max_bytes

    def receive(self) -> list[Datagram]:
        """The datagrams that have arrived, as (source, data), in order. Never waits."""
        datagrams = []
        try:
            for _ in range(self._max_datagrams):
                data, endpoint = self._recvfrom(self._max_bytes, socket.MSG_DONTWAIT)
                datagrams.append((endpoint_to_int(endpoint), data))
        except (BlockingIOError, InterruptedError):
            pass
        return datagrams


def plain_send_many(sock: socket.socket, datagrams: list[Datagram]) -> int:
    """Send each (destination, data), in order, without waiting. Returns how many the kernel accepted.

    A datagram that it does not accept (no such address, no buffer space, not permitted) is lost; the others are sent.
    """
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
