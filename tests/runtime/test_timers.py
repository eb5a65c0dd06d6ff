"""Named timers: they never fire early, can be replaced and cancelled, and are cheap to set again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from stretto.runtime.timers import Timers

MS = 1_000_000


class Fired:
    def __init__(self) -> None:
        self.at: list[tuple[str, int]] = []

    def __call__(self, name: str) -> None:
        self.at.append((name, time.monotonic_ns()))

    def names(self) -> list[str]:
        return [name for name, _ in self.at]


def run(scenario: Callable[[Timers, Fired], object]) -> Fired:
    async def main() -> Fired:
        fired = Fired()
        timers = Timers(asyncio.get_running_loop(), fired)
        result = scenario(timers, fired)
        if asyncio.iscoroutine(result):
            await result
        await asyncio.sleep(0.15)
        timers.close()
        return fired

    return asyncio.run(main())


def test_a_timer_fires_once_and_never_early() -> None:
    deadlines = {}

    def scenario(timers: Timers, fired: Fired) -> None:
        for delay in (0, 1, 999, 1_500_000, 30 * MS + 7, 20 * MS):
            name = str(delay)
            deadlines[name] = time.monotonic_ns() + delay
            timers.set(name, delay)

    fired = run(scenario)
    assert sorted(fired.names()) == sorted(deadlines)
    assert all(at >= deadlines[name] for name, at in fired.at)


def test_setting_a_timer_again_replaces_it() -> None:
    settings: dict[str, int] = {}

    def scenario(timers: Timers, fired: Fired) -> None:
        for delays in ((5, 40), (60, 10), (5, 50, 20), (5, None), (5, None, 30), (30, None, 10)):
            name = str(delays)
            for delay in delays:
                if delay is None:
                    timers.cancel(name)
                else:
                    timers.set(name, delay * MS)
            settings[name] = time.monotonic_ns() + (delays[-1] or 0) * MS

    fired = run(scenario)
    expected = sorted(settings, key=lambda name: settings[name])
    expected.remove(str((5, None)))
    assert sorted(fired.names()) == sorted(expected)
    for name, at in fired.at:
        assert settings[name] - MS <= at < settings[name] + 2_000 * MS, name


def test_a_timer_that_is_always_set_again_does_not_fire_and_adds_no_loop_entries() -> None:
    async def scenario(timers: Timers, fired: Fired) -> None:
        loop = asyncio.get_running_loop()
        calls = 0
        call_at = loop.call_at

        def counting(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            nonlocal calls
            calls += 1
            return call_at(*args, **kwargs)

        loop.call_at = counting  # type: ignore[method-assign, assignment]
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            for _ in range(100):
                timers.set("again", 400 * MS)
            await asyncio.sleep(0)
        assert fired.at == []
        assert calls < 10
        timers.cancel("again")

    assert run(scenario).at == []


def test_a_closed_host_fires_nothing() -> None:
    async def scenario(timers: Timers, fired: Fired) -> None:
        timers.set("a", 5 * MS)
        timers.cancel("never set")
        timers.close()

    assert run(scenario).at == []
