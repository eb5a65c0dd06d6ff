"""Sends datagrams from hosts of a testbed at given times, in one process with a socket on each host.

A socket stays in the network namespace in which it was opened. The process itself can be elsewhere, so one thread can send for all hosts.
It sleeps until shortly before a message is due and then polls the clock, so that sending times are accurate to microseconds. Late messages
are sent at once. The time just before each message is sent is recorded. The process has real-time priority if that is allowed, below the
priority of the switches.
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
"""How long before a message is due the sender stops sleeping. Timers are late by about this much."""
_PRIORITY = 5
_ANSWER_SECONDS = 20.0


class TrafficFailure(StrettoError):
    """Senders or receivers on a testbed failed. The message says how."""


@dataclass(frozen=True)
class Sends:
    """Datagrams to send. Datagram i is sent through socket `by[i]`, with the destination and prefix of that index, `at_ns[i]` after the
    start.

    `at_ns` is ascending. Datagram i is padded to `payload_bytes[i]`.
    """

    sockets: tuple[socket.socket, ...]
    destinations: tuple[tuple[str, int], ...]
    prefixes: tuple[bytes, ...]
    by: NDArray[np.int64]
    at_ns: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]


def open_socket(plan: Plan, host: str) -> socket.socket:
    """A UDP socket on a host, which can also send multicasts. Raises NoNetwork if the host does not exist."""
    with namespaces.entered(plan.namespace(host)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(plan.address(host)))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    return sock


class Sender:
    """The sending process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def start(self, start_ns: int) -> None:
        """Begin at that time of the monotonic clock."""
        self._pipe.send(start_ns)

    def is_done(self) -> bool:
        """Whether all datagrams have been sent."""
        return self._pipe.poll()

    def sent_ns(self) -> NDArray[np.int64]:
        """Wait until all datagrams have been sent. Returns the time of each. Raises TrafficFailure if the process has died."""
        sent: NDArray[np.int64] = _receive(self._pipe, None)
        return sent


@contextmanager
def sender(sends: Sends, period_ns: int | None = None) -> Iterator[Sender]:
    """A sender that is ready to start, and that is ended with the context.

    With a `period_ns` it repeats the datagrams with that period until it is ended. Such datagrams are load, so their times are not exact.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    # Only the sockets are passed at the start. If the rest were too, and the process died at once, its parent would wait forever.
    process = spawn.Process(target=_send, args=(theirs, sends.sockets, period_ns), name="sender", daemon=True)
    try:
        with interrupts_blocked():
            process.start()
        theirs.close()
        with suppress(BrokenPipeError):  # the process has died, which _receive reports
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
    """The main function of the process."""
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
        pass  # the parent process has ended


def _send_all(sends: Sends, start_ns: int, watched_ns: int) -> NDArray[np.int64]:
    sent_ns = np.zeros(len(sends.by), np.int64)
    todo = zip(sends.by.tolist(), (sends.at_ns + start_ns).tolist(), sends.payload_bytes.tolist(), strict=True)
    for number, (by, due_ns, payload_bytes) in enumerate(todo):
        datagram = numbered(sends.prefixes[by], number, payload_bytes)
        while (now_ns := time.monotonic_ns()) < due_ns:
            if due_ns - now_ns > watched_ns:
                time.sleep((due_ns - now_ns - watched_ns) / 1e9)
        sent_ns[number] = now_ns
        with suppress(OSError):  # the host's queue is full or its cable is cut: the datagram is lost
            sends.sockets[by].sendto(datagram, sends.destinations[by])
    return sent_ns
