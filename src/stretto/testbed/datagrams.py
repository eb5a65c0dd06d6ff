"""The datagrams of a measurement, and the record of those that a receiver gets.

magic    4 bytes   "MOM1"
run      8 bytes   identifies the exchange, so that late datagrams of another one are not counted
group    4 bytes   the multicast address
sender   2 bytes   the index of the sender in the group
number   4 bytes   the number of the message in the run, over all senders
padding            up to the size of the message
"""

from __future__ import annotations

import socket
import struct
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from stretto.network.model.queues import NEVER, Times

HEADERS_BYTES = 66
"""Bytes of a message on the wire besides its payload: gap, preamble, Ethernet and its checksum (38), IPv4 (20), UDP (8)."""
_FORMAT = struct.Struct("!4s8s4sHI")
_NUMBER_BYTES = 4
_MAGIC = b"MOM1"
RUN_BYTES = 8
SMALLEST_MESSAGE_BYTES = HEADERS_BYTES + _FORMAT.size
"""The size on the wire."""
_PS_PER_NS = 1_000


def prefix(run: bytes, group: str, sender: int) -> bytes:
    """The first bytes of all datagrams of one sender. The number and padding follow."""
    return _FORMAT.pack(_MAGIC, run, socket.inet_aton(group), sender, 0)[:-_NUMBER_BYTES]


def numbered(begin: bytes, number: int, payload_bytes: int) -> bytes:
    """A complete datagram."""
    return (begin + number.to_bytes(_NUMBER_BYTES, "big")).ljust(payload_bytes, b"\0")


class Arrivals:
    """The messages of a run that one member of a group received, in the order of its socket.

    `flow[i]` is the sender of message i. `ignored` counts all other datagrams by reason.
    """

    def __init__(self, run: bytes, group: str, flow: NDArray[np.int64]) -> None:
        self._run = run
        self._group = socket.inet_aton(group)
        self._flow = flow.tolist()
        self._stamps: dict[int, int] = {}
        self.ignored: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._stamps)

    def take(self, datagram: bytes, stamp_ns: int) -> None:
        """Record a datagram that arrived at that time, or the reason why it is not a message of this run."""
        number = self._number_in(datagram)
        if isinstance(number, str):
            self.ignored[number] += 1
        elif number in self._stamps:
            self.ignored["a second copy"] += 1
        else:
            self._stamps[number] = stamp_ns

    def times_ps(self, start_ns: int) -> Times:
        """The arrival time of each message, in picoseconds since `start_ns`; NEVER if it did not arrive.

        Times strictly increase in the order of the socket: messages with equal kernel timestamps get times one picosecond apart.
        """
        times = np.full(len(self._flow), NEVER)
        if self._stamps:
            rank = np.arange(len(self._stamps))
            stamps = (np.fromiter(self._stamps.values(), np.int64) - start_ns) * _PS_PER_NS
            times[np.fromiter(self._stamps, np.int64)] = np.maximum.accumulate(stamps - rank) + rank
        return times

    def _number_in(self, datagram: bytes) -> int | str:
        """The number of a datagram of this run, or the reason why it is not one."""
        if len(datagram) < _FORMAT.size or not datagram.startswith(_MAGIC):
            return "not a message of a measurement"
        _, run, group, sender, number = _FORMAT.unpack_from(datagram)
        if run != self._run:
            return "of another run"
        if group != self._group:
            return "of another group"
        if number >= len(self._flow) or sender != self._flow[number]:
            return "a message that was not sent"
        return int(number)
