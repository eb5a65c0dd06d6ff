"""A system timer that wakes an event loop to the microsecond. epoll rounds asyncio's own timers up to whole milliseconds."""

from __future__ import annotations

import ctypes
import os
from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import CLOCK_MONOTONIC

_libc = ctypes.CDLL(None, use_errno=True)
_TFD_TIMER_ABSTIME = 1


class _TimerSetting(ctypes.Structure):
    """The C library's `itimerspec`: the interval of a repeating timer (here 0), and the time of the first expiry."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Alarm:
    """Calls `rings` in the loop once, at the time that was set. Python's `os` has these timers (timerfd) from version 3.13.

    Raises OSError if the system has no more timers.
    """

    def __init__(self, loop: AbstractEventLoop, rings: Callable[[], None]) -> None:
        self._setting = _TimerSetting()
        self._loop = loop
        self._rings = rings
        self._fd = _libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._on_time)

    def set(self, at_ns: int) -> None:
        """Ring at this time of the monotonic clock, or at once if it has passed. This replaces the time that was set before."""
        self._setting.at_s, self._setting.at_ns = divmod(at_ns, 10**9)
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Cancel the timer and release it."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _on_time(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set again before this event was handled
        self._rings()
