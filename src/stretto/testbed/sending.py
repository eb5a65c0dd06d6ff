"""Sending from hosts of a testbed, at given moments: one process with a socket on each host.

A socket stays in the network namespace in which it was opened, so the process that has it need not be there, and one thread can send for
all hosts. It sleeps until shortly before a message is due and then looks at the clock all the time, so that two messages that are due
within microseconds leave within microseconds; what is late leaves at once. The moment just before each message left is recorded. The
process has real-time priority where that is allowed, below that of the switches.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stretto.core.errors import StrettoError
from stretto.runtime import namespaces
from stretto.runtime.processes import end, interrupts_blocked
from stretto.testbed.datagrams import numbered
from stretto.testbed.plan import Plan

WATCHED_NS = 100_000
"""So long before a message is due the sender stops sleeping: timers are late by about as much."""
_PRIORITY = 5
_ANSWER_SECONDS = 20.0


class TrafficFailure(StrettoError):
    """Senders or receivers on a testbed failed; the text says how."""


@dataclass(frozen=True)
class Sends:
    """Datagrams to send. Number i leaves by socket `by[i]` for the destination of the same index, `at_ns[i]` after the start (rising);
    it begins with the prefix of that index and is padded to `payload_bytes[i]`."""

    sockets: tuple[socket.socket, ...]
    destinations: tuple[tuple[str, int], ...]
    prefixes: tuple[bytes, ...]
    by: NDArray[np.int64]
    at_ns: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]


def open_socket(plan: Plan, host: str) -> socket.socket:
    """A UDP socket on a host, for multicasts too. Raises NoNetwork if the host is not there."""
    with namespaces.entered(plan.namespace(host)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(plan.address(host)))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    return sock


class Sender:
    """The process that sends."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def start(self, start_ns: int) -> None:
        """Let it begin at that time of the monotonic clock."""
        self._pipe.send(start_ns)

    def is_done(self) -> bool:
        """Whether all has been sent."""
        return self._pipe.poll()

    def sent_ns(self) -> NDArray[np.int64]:
        """When each datagram left. Waits until all have. Raises TrafficFailure if the process has died."""
        sent: NDArray[np.int64] = _receive(self._pipe, None)
        return sent


@contextmanager
def sender(sends: Sends, period_ns: int | None = None) -> Iterator[Sender]:
    """A sender that is ready to start; ended in any case. With a `period_ns` it sends again and again, without hurry: that is load, and
    nobody asks when exactly it left."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    # Only sockets have to be handed over at the start. A process that dies at once would let its starter wait forever with the rest.
    process = spawn.Process(target=_send, args=(theirs, sends.sockets, period_ns), name="sender", daemon=True)
    try:
        with interrupts_blocked():
            process.start()
        theirs.close()
        with suppress(BrokenPipeError):  # it has died, as is found out next
            ours.send(replace(sends, sockets=()))
        _receive(ours, _ANSWER_SECONDS)
        yield Sender(ours)
    finally:
        end([process])
        ours.close()


def _receive(pipe: Connection, seconds: float | None) -> Any:
    try:
        if not pipe.poll(seconds):
            raise TrafficFailure("the sender's process does not answer")
        return pipe.recv()
    except (EOFError, OSError):
        raise TrafficFailure("the sender's process has died") from None


def _send(pipe: Connection, sockets: tuple[socket.socket, ...], period_ns: int | None) -> None:
    """What the process does."""
    try:
        sends = replace(pipe.recv(), sockets=sockets)
        pipe.send("ready")
        start_ns = pipe.recv()
        gc.disable()
        watched_ns = 0
        if period_ns is None:
            watched_ns = WATCHED_NS
            with suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
        sent_ns = _send_all(sends, start_ns, watched_ns)
        while period_ns is not None:
            start_ns += period_ns
            _send_all(sends, start_ns, watched_ns)
        pipe.send(sent_ns)
    except (EOFError, BrokenPipeError):
        pass  # whoever started this is gone


def _send_all(sends: Sends, start_ns: int, watched_ns: int) -> NDArray[np.int64]:
    sent_ns = np.zeros(len(sends.by), np.int64)
    todo = zip(sends.by.tolist(), (sends.at_ns + start_ns).tolist(), sends.payload_bytes.tolist(), strict=True)
    for number, (by, due_ns, payload_bytes) in enumerate(todo):
        datagram = numbered(sends.prefixes[by], number, payload_bytes)
        while (now_ns := time.monotonic_ns()) < due_ns:
            if due_ns - now_ns > watched_ns:
                time.sleep((due_ns - now_ns - watched_ns) / 1e9)
        sent_ns[number] = now_ns
        with suppress(OSError):  # the host's queue is full or its cable is out: lost, as it would be further on
            sends.sockets[by].sendto(datagram, sends.destinations[by])
    return sent_ns
