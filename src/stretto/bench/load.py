"""The load that one client process makes.

Closed loop: each session makes one call at a time, and the next one as soon as it has ended. A slow cluster therefore gets fewer requests,
and the latencies do not show the requests that were not sent in the meantime (Gil Tene calls this coordinated omission).

Open loop: operations are due at times that do not depend on the cluster. An operation waits if no session is free. Its latency counts from
the time when it was due, so it includes the wait for a session, and the delay of a client process that is itself late (Schroeder, Wierman,
Harchol-Balter, "Open versus closed: a cautionary tale", NSDI'06).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Future
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from time import monotonic_ns

from stretto.bench.alarm import Alarm
from stretto.bench.recording import Recording
from stretto.core.errors import StrettoError
from stretto.runtime.client_host import ClientHost

_NOTHING_DUE = 1 << 63


class Load(ABC):
    """`count` sessions on one client node. `all_open` is done when each session has had its first result, which is not recorded."""

    def __init__(self, loop: AbstractEventLoop, host: ClientHost, count: int) -> None:
        self.recording = Recording()
        self.all_open: Future[None] = loop.create_future()
        self._host = host
        self._opening = count

    def begin(self) -> None:
        """Open all sessions."""
        for _ in range(self._opening):
            self._open()

    @abstractmethod
    def opened(self) -> None:
        """One more session is open."""

    @abstractmethod
    def oldest_call_ns(self) -> int:
        """How long the oldest operation without a result has been due."""

    @abstractmethod
    def close(self) -> None:
        """Release what the load holds. Its host is closed next."""

    def _open(self) -> None:
        self._host.call(b"", self._on_first)

    def _on_first(self, outcome: bytes | StrettoError) -> None:
        if isinstance(outcome, StrettoError):
            self._open()
            return
        self._opening -= 1
        self.opened()
        if not self._opening:
            self.all_open.set_result(None)


class ClosedLoops(Load):
    """Sessions that make one call after another, each as soon as it is open."""

    def __init__(self, loop: AbstractEventLoop, host: ClientHost, count: int, operations: list[bytes]) -> None:
        super().__init__(loop, host, count)
        self._operations = cycle(operations)
        self._sessions: list[_ClosedLoop] = []

    def opened(self) -> None:
        """Make the first call of this session."""
        session = _ClosedLoop(self._host, self._operations, self.recording)
        self._sessions.append(session)
        session.begin()

    def oldest_call_ns(self) -> int:
        """See `Load`."""
        return monotonic_ns() - min(session.started_ns for session in self._sessions)

    def close(self) -> None:
        """See `Load`. There is nothing to release."""


class _ClosedLoop:
    """One session. A call that fails is recorded as a failure, and the next call follows."""

    __slots__ = ("_call", "_fail", "_on_return", "_operations", "_record_end", "_record_latency", "started_ns")

    def __init__(self, host: ClientHost, operations: Iterator[bytes], recording: Recording) -> None:
        self.started_ns = 0
        self._call = host.call
        self._operations = operations
        self._record_end = recording.ended_ns.append
        self._record_latency = recording.latency_ns.append
        self._fail = recording.fail
        self._on_return = self.returned

    def begin(self) -> None:
        """Make the first call."""
        self.started_ns = monotonic_ns()
        self._call(next(self._operations), self._on_return)

    def returned(self, outcome: bytes | StrettoError) -> None:
        """Record how a call ended, and make the next."""
        now_ns = monotonic_ns()
        if isinstance(outcome, bytes):
            self._record_end(now_ns)
            self._record_latency(now_ns - self.started_ns)
        else:
            self._fail(now_ns, outcome)
        self.started_ns = now_ns
        self._call(next(self._operations), self._on_return)


class OpenLoop(Load):
    """Sessions that serve a stream of operations. `gaps_ns`: an endless stream of the times between one due operation and the next.

    Both streams are drawn when a session takes an operation, so operations that are due and wait for a session take no memory.
    """

    def __init__(self, loop: AbstractEventLoop, host: ClientHost, count: int, operations: list[bytes], gaps_ns: Iterator[int]) -> None:
        super().__init__(loop, host, count)
        self._operations = cycle(operations)
        self._gaps_ns = gaps_ns
        self._next_due_ns = 0
        self._alarm = Alarm(loop, self._on_alarm)
        self._servers: list[_Server] = []
        self._idle: list[_Server] = []

    def opened(self) -> None:
        """The stream begins when all sessions are open."""
        server = _Server(self)
        self._servers.append(server)
        self._idle.append(server)
        if not self._opening:
            self._next_due_ns = monotonic_ns() + next(self._gaps_ns)
            self._alarm.set(self._next_due_ns)

    def oldest_call_ns(self) -> int:
        """See `Load`."""
        return max(0, monotonic_ns() - min(self._next_due_ns, *(server.due_ns for server in self._servers)))

    def close(self) -> None:
        """See `Load`."""
        self._alarm.close()

    def _on_alarm(self) -> None:
        self._serve(monotonic_ns())

    def _serve(self, now_ns: int) -> None:
        """Send the operations that are due, as long as sessions are free. Then set the alarm for the next one that is not due yet."""
        idle, call = self._idle, self._host.call
        while idle and self._next_due_ns <= now_ns:
            server = idle.pop()
            server.due_ns, server.sent_ns = self._next_due_ns, now_ns
            self._next_due_ns += next(self._gaps_ns)
            call(next(self._operations), server.returned)
        if self._next_due_ns > now_ns:
            self._alarm.set(self._next_due_ns)

    def ended(self, server: _Server, outcome: bytes | StrettoError) -> None:
        """Record how a call ended. Its session takes the next operation that waits."""
        now_ns = monotonic_ns()
        recording = self.recording
        if isinstance(outcome, bytes):
            recording.ended_ns.append(now_ns)
            recording.latency_ns.append(now_ns - server.due_ns)
            recording.wait_ns.append(server.sent_ns - server.due_ns)
        else:
            recording.fail(now_ns, outcome)
        server.due_ns = _NOTHING_DUE
        self._idle.append(server)
        if self._next_due_ns <= now_ns:
            self._serve(now_ns)


class _Server:
    """One session: when its present operation, if any, was due, and when it was sent."""

    __slots__ = ("due_ns", "returned", "sent_ns")

    def __init__(self, load: OpenLoop) -> None:
        self.due_ns = self.sent_ns = _NOTHING_DUE
        self.returned = partial(load.ended, self)
