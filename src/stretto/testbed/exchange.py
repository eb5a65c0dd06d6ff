"""Multicasts from the senders of a group to its members on a testbed, with the order and times of their arrival.

The receivers are sockets on the members' hosts with large buffers, which are emptied regularly. The order and the times of arrival are
those of the kernel, so they do not depend on when a process runs. The kernel's timestamps are wall-clock times; they are converted to the
monotonic clock by the difference of the two clocks at the beginning of the exchange.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from stretto.network.groups import Group
from stretto.network.model.queues import Times
from stretto.network.model.run import Messages
from stretto.network.topology import PS_PER_S
from stretto.testbed.datagrams import HEADERS_BYTES, RUN_BYTES, Arrivals, prefix
from stretto.testbed.plan import Plan
from stretto.testbed.sending import Sender, Sends, open_socket, sender

PORT = 8383
_BUFFER_BYTES = 32 << 20
_SO_RCVBUFFORCE = 33  # Linux; the socket module has no name for these two
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_LARGEST = 2_048
_EMPTIED_SECONDS = 0.01
_LEAD_NS = 20_000_000
"""The time between the decision to start and the start."""
_QUIET_SECONDS = 0.3
"""When no message has arrived for this long, the missing ones count as lost."""
_WARM_UP_EACH = 20
_WARM_UP_RATE = 500
PS_PER_NS = 1_000


@dataclass(frozen=True)
class Exchanged:
    """The result of an exchange. Times are picoseconds since the start; `at` is as in the model's deliveries.

    `late_us` is how late messages were sent (p50, p99); `ignored` counts other datagrams at the receivers by reason.
    """

    sent_ps: Times
    at: dict[str, Times]
    late_us: tuple[float, float]
    ignored: Counter[str]


class Exchange:
    """An exchange in progress, made by `exchange`. The caller must call `run` or `finish` before a buffer overflows."""

    def __init__(self, sender: Sender, receivers: dict[str, socket.socket], arrivals: dict[str, Arrivals], messages: Messages) -> None:
        self._sender = sender
        self._receivers = receivers
        self._arrivals = arrivals
        self._messages = messages
        self._wall_ns = time.time_ns() - time.monotonic_ns()
        self.start_ns = time.monotonic_ns() + _LEAD_NS
        """The monotonic time that is message time 0."""
        sender.start(self.start_ns)

    def received(self) -> int:
        """Read all datagrams from the sockets. Returns how many copies have arrived in total."""
        for host, sock in self._receivers.items():
            arrivals = self._arrivals[host]
            while True:
                try:
                    datagram, extras, _, _ = sock.recvmsg(_LARGEST, 64)
                except BlockingIOError:
                    break
                arrivals.take(datagram, self._stamp_ns(extras))
        return sum(map(len, self._arrivals.values()))

    def run(self, until_ns: int, progress: Callable[[int], None] = lambda copies: None) -> None:
        """Continue until that time of the monotonic clock. `progress` is called with the number of copies that have arrived."""
        while time.monotonic_ns() < until_ns:
            progress(self.received())
            time.sleep(_EMPTIED_SECONDS)

    def finish(self, progress: Callable[[int], None] = lambda copies: None) -> Exchanged:
        """Wait until all messages are sent, and have arrived or are lost. Raises TrafficFailure if the sender has died."""
        while not self._sender.is_done():
            progress(self.received())
            time.sleep(_EMPTIED_SECONDS)
        sent_ps = (self._sender.sent_ns() - self.start_ns) * PS_PER_NS
        copies, changed = self.received(), time.monotonic()
        while copies < len(self._messages) * len(self._receivers) and time.monotonic() < changed + _QUIET_SECONDS:
            time.sleep(_EMPTIED_SECONDS)
            if (now := self.received()) > copies:
                copies, changed = now, time.monotonic()
        progress(copies)
        late = np.quantile(sent_ps - self._messages.time_ps, (0.5, 0.99)) / (1_000 * PS_PER_NS)
        return Exchanged(
            sent_ps,
            {host: arrivals.times_ps(self.start_ns) for host, arrivals in self._arrivals.items()},
            (float(late[0]), float(late[1])),
            sum((arrivals.ignored for arrivals in self._arrivals.values()), Counter()),
        )

    def _stamp_ns(self, extras: list[tuple[int, int, bytes]]) -> int:
        ((_, _, stamp),) = extras
        seconds, nanoseconds = _TIMESPEC.unpack(stamp)
        return int(seconds) * 1_000_000_000 + int(nanoseconds) - self._wall_ns


@contextmanager
def exchange(plan: Plan, group: Group, messages: Messages) -> Iterator[Exchange]:
    """Begin to send these messages to the group. Flow i is that of the group's sender i.

    Raises NoNetwork if a host does not exist, TrafficFailure if the sender does not start.
    """
    run = os.urandom(RUN_BYTES)
    with ExitStack() as opened:
        receivers = {host: opened.enter_context(_receiver(plan, group, host)) for host in group.members}
        sockets = tuple(opened.enter_context(open_socket(plan, host)) for host in group.senders)
        for host, sock in zip(group.senders, sockets, strict=True):
            sock.bind((plan.address(host), 0))
        sends = Sends(
            sockets,
            ((group.address, PORT),) * len(sockets),
            tuple(prefix(run, group.address, index) for index in range(len(sockets))),
            messages.flow,
            messages.time_ps // PS_PER_NS,
            np.full(len(messages), messages.size_bytes - HEADERS_BYTES),
        )
        arrivals = {host: Arrivals(run, group.address, messages.flow) for host in group.members}
        yield Exchange(opened.enter_context(sender(sends)), receivers, arrivals, messages)


def evenly(group: Group, count: int, rate: float, size_bytes: int = 128) -> Messages:
    """Evenly spaced messages of the group's senders in turn. `count` and `rate` (messages per second) are for all senders together."""
    flows = tuple((group.address, sender) for sender in group.senders)
    times = (np.arange(count) * (PS_PER_S / rate)).astype(np.int64)
    return Messages(flows, np.arange(count) % len(flows), times, size_bytes)


def warm_up(plan: Plan, group: Group) -> None:
    """Send a few messages first. A switch handles the first packet of a flow in another thread, where later packets can overtake it."""
    with exchange(plan, group, evenly(group, _WARM_UP_EACH * len(group.senders), _WARM_UP_RATE)) as exchanging:
        exchanging.finish()


def _receiver(plan: Plan, group: Group, host: str) -> socket.socket:
    sock = open_socket(plan, host)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.bind((group.address, PORT))
    membership = socket.inet_aton(group.address) + socket.inet_aton(plan.address(host))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return sock
