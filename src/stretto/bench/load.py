"""The load: sessions that each make one call at a time, and the next as soon as that has ended (a closed loop)."""

from __future__ import annotations

from array import array
from asyncio import AbstractEventLoop, Future
from collections.abc import Iterator
from itertools import cycle
from time import monotonic_ns

from stretto.core.errors import StrettoError
from stretto.runtime.client import ClientHost


class Recording:
    """When each operation ended and how long it took, in nanoseconds of the machine's monotonic clock, in the order of their ends.

    Two numbers an operation, kept until the measurement is over: nothing is aggregated while it runs, so all percentiles are exact.
    """

    def __init__(self) -> None:
        self.ended_ns = array("q")
        self.latency_ns = array("q")
        self.failures: list[tuple[int, str]] = []


class Session:
    """One closed loop. A call that fails is recorded as a failure, and followed by the next call like any other."""

    __slots__ = ("_call", "_failures", "_on_return", "_operations", "_record_end", "_record_latency", "started_ns")

    def __init__(self, host: ClientHost, operations: Iterator[bytes], recording: Recording) -> None:
        self.started_ns = 0
        self._call = host.call
        self._operations = operations
        self._record_end = recording.ended_ns.append
        self._record_latency = recording.latency_ns.append
        self._failures = recording.failures
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
            self._failures.append((now_ns, type(outcome).__name__))
        self.started_ns = now_ns
        self._call(next(self._operations), self._on_return)


class ClosedLoops:
    """`count` sessions on one client node. `all_open` is done when each of them has had its first result."""

    def __init__(self, loop: AbstractEventLoop, host: ClientHost, count: int, operations: list[bytes]) -> None:
        self.recording = Recording()
        self.all_open: Future[None] = loop.create_future()
        drawn = cycle(operations)
        self._host = host
        self._opening = count
        self._sessions = [Session(host, drawn, self.recording) for _ in range(count)]

    def begin(self) -> None:
        """Open all sessions; each one goes on to its loop at once."""
        for session in self._sessions:
            self._open(session)

    def oldest_call_ns(self) -> int:
        """How long the oldest outstanding call has been waiting."""
        return monotonic_ns() - min(session.started_ns for session in self._sessions)

    def _open(self, session: Session) -> None:
        session.started_ns = monotonic_ns()
        self._host.call(b"", lambda outcome: self._opened(session, outcome))

    def _opened(self, session: Session, outcome: bytes | StrettoError) -> None:
        if isinstance(outcome, StrettoError):
            return self._open(session)
        self._opening -= 1
        if not self._opening:
            self.all_open.set_result(None)
        return session.begin()
