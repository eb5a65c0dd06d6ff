"""Multicasts from the senders of a group to its members, on a testbed: who received what, when, in which order.

Receivers are sockets on the members' hosts whose buffers hold many messages, so the order and the time of arrival are what the kernel
saw, not when some process had its turn; they are emptied now and then. The kernel's stamps are of the wall clock; they are told in
the monotonic clock of everything else, by what the two clocks said when the exchange began.
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
_SO_RCVBUFFORCE = 33  # Linux; the socket module names neither
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_LARGEST = 2_048
_EMPTIED_SECONDS = 0.01
_LEAD_NS = 20_000_000
"""From the decision to start until the start."""
_QUIET_SECONDS = 0.3
"""What has not come when nothing has come for so long is lost."""
_WARM_UP_EACH = 20
_WARM_UP_RATE = 500
PS_PER_NS = 1_000


@dataclass(frozen=True)
class Exchanged:
    """What became of the messages, times in picoseconds since the start; `at` as in the model's deliveries. `late_us` is by how much the
    sender missed the moments at which messages were due (p50, p99); `ignored` counts by reason what receivers got besides."""

    sent_ps: Times
    at: dict[str, Times]
    late_us: tuple[float, float]
    ignored: Counter[str]


class Exchange:
    """Messages on their way; made by `exchange`. Somebody has to call `run` or `finish` often enough that no buffer overflows."""

    def __init__(self, sender: Sender, receivers: dict[str, socket.socket], arrivals: dict[str, Arrivals], messages: Messages) -> None:
        self._sender = sender
        self._receivers = receivers
        self._arrivals = arrivals
        self._messages = messages
        self._wall_ns = time.time_ns() - time.monotonic_ns()
        self.start_ns = time.monotonic_ns() + _LEAD_NS
        """When message time 0 is, in the monotonic clock."""
        sender.start(self.start_ns)

    def received(self) -> int:
        """Take what the sockets hold; how many copies have come altogether."""
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
        """Go on until that time of the monotonic clock. `progress` is told how many copies have come."""
        while time.monotonic_ns() < until_ns:
            progress(self.received())
            time.sleep(_EMPTIED_SECONDS)

    def finish(self, progress: Callable[[int], None] = lambda copies: None) -> Exchanged:
        """Wait until all is sent, and has come or is lost. Raises TrafficFailure if the sender has died."""
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
    """Begin to send these messages to the group. Their flows are those from its senders, in their order.

    Raises NoNetwork if a host is not there, TrafficFailure if the sender does not start.
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
    """Messages at even distances, of the group's senders in turn: `count` and `rate`, in messages a second, are those of all together."""
    flows = tuple((group.address, sender) for sender in group.senders)
    times = (np.arange(count) * (PS_PER_S / rate)).astype(np.int64)
    return Messages(flows, np.arange(count) % len(flows), times, size_bytes)


def warm_up(plan: Plan, group: Group) -> None:
    """Send a few messages: a switch handles the first packet of a flow in another thread, where the next ones overtake it."""
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
