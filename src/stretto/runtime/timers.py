"""The named timers of a node on an event loop. Setting a timer again is cheap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic_ns


class _Timer:
    """`deadline_ns`: when the timer should fire; None if it is not set. `wakes_ns` and `handle`: when the loop will check it next."""

    __slots__ = ("deadline_ns", "handle", "wakes_ns")

    def __init__(self) -> None:
        self.deadline_ns: int | None = None
        self.wakes_ns = 0
        self.handle: asyncio.TimerHandle | None = None


class Timers:
    """Calls `fire(name)` at a timer's deadline or later, never earlier.

    `late_ns`: how late the timer was that fired last.

    A timer that is set again for later keeps its entry in the loop. When the loop calls it, it is scheduled again for the remaining time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[str], None]) -> None:
        self._loop = loop
        self._fire = fire
        self._timers: dict[str, _Timer] = {}
        self.late_ns = 0

    def set(self, name: str, delay_ns: int) -> None:
        """Fire `name` after `delay_ns` nanoseconds. Replaces a timer of that name."""
        timer = self._timers.get(name)
        if timer is None:
            timer = self._timers[name] = _Timer()
        timer.deadline_ns = deadline_ns = monotonic_ns() + delay_ns
        if timer.handle is not None:
            if timer.wakes_ns <= deadline_ns:
                return
            timer.handle.cancel()
        self._wake_at(name, timer, deadline_ns)

    def cancel(self, name: str) -> None:
        """Cancel the timer `name`, if it is set."""
        timer = self._timers.get(name)
        if timer is not None:
            timer.deadline_ns = None

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            if timer.handle is not None:
                timer.handle.cancel()
        self._timers.clear()

    def _wake_at(self, name: str, timer: _Timer, deadline_ns: int) -> None:
        timer.wakes_ns = deadline_ns
        timer.handle = self._loop.call_at(deadline_ns / 1e9, self._wake, name, timer)

    def _wake(self, name: str, timer: _Timer) -> None:
        timer.handle = None
        deadline_ns = timer.deadline_ns
        if deadline_ns is None:
            return
        self.late_ns = monotonic_ns() - deadline_ns
        if self.late_ns < 0:
            self._wake_at(name, timer, deadline_ns)
            return
        timer.deadline_ns = None
        self._fire(name)
