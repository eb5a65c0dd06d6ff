"""The open loop, with a cluster that answers when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle, islice
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest

from stretto.bench.alarm import Alarm
from stretto.bench.load import OpenLoop
from stretto.bench.plan import Plan
from stretto.core.config import ClusterConfig, Member
from stretto.core.errors import ConfigurationError, RequestTimeout

MS = 1_000_000
CONFIG = ClusterConfig(tuple(Member("127.0.0.1", 7000 + index) for index in range(3)))


class Host:
    """Answers opening calls at once, and keeps the others."""

    def __init__(self) -> None:
        self.calls: list[Callable[[Any], None]] = []

    def call(self, operation: bytes, done: Callable[[Any], None]) -> None:
        """As of a ClientHost."""
        if operation:
            self.calls.append(done)
        else:
            done(b"")


def run_load(sessions: int, gaps_ms: list[float], then: Callable[[Host, OpenLoop], Any]) -> OpenLoop:
    """Begin an open loop and let `then` go on with it."""

    async def main() -> OpenLoop:
        host = Host()
        gaps = (round(gap * MS) for gap in cycle(gaps_ms))
        load = OpenLoop(asyncio.get_running_loop(), host, sessions, [b"x"], gaps)  # type: ignore[arg-type]
        load.recording.measure(monotonic_ns(), monotonic_ns() + 60_000 * MS)
        load.begin()
        await load.all_open
        await then(host, load)
        load.close()
        load.recording.count()
        return load

    return asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def test_latency_counts_from_when_an_operation_was_due_though_no_session_was_free() -> None:
    async def then(host: Host, load: OpenLoop) -> None:
        await until(lambda: len(host.calls) == 1)
        began_ns = monotonic_ns()
        await asyncio.sleep(0.05)  # meanwhile at least nine more are due
        assert len(host.calls) == 1
        assert load.oldest_call_ns() >= monotonic_ns() - began_ns
        for number in range(10):
            host.calls[number](b"")
        assert len(host.calls) == 11

    recorded = run_load(1, [5], then).recording.recorded
    assert recorded is not None
    assert recorded.before.total == recorded.waits.total == 10
    # Due 5 ms after each other and answered together, so the last one waited 45 ms less than the first.
    longest, shortest = recorded.before.percentiles_us([1.0, 0.0])
    assert longest is not None
    assert shortest is not None
    assert longest - shortest == pytest.approx(45_000, abs=4_000)
    assert longest >= 50_000
    [most_waited] = recorded.waits.percentiles_us([1.0])
    assert most_waited is not None
    assert most_waited >= 44_000


def test_operations_are_due_though_nothing_is_answered() -> None:
    async def then(host: Host, load: OpenLoop) -> None:
        await until(lambda: len(host.calls) == 20)
        host.calls[3](RequestTimeout())
        await until(lambda: len(host.calls) == 21)

    recorded = run_load(20, [0.2], then).recording.recorded
    assert recorded is not None
    assert recorded.failures == {"RequestTimeout": 1}
    assert recorded.before.total == 0


def test_a_process_that_was_late_counts_from_when_it_should_have_sent() -> None:
    async def then(host: Host, load: OpenLoop) -> None:
        began_ns = monotonic_ns()
        while monotonic_ns() < began_ns + 30 * MS:
            pass  # the process does something else
        await until(lambda: len(host.calls) >= 6)
        for done in host.calls[:6]:
            done(b"")

    recorded = run_load(100, [5], then).recording.recorded
    assert recorded is not None
    [longest] = recorded.before.percentiles_us([1.0])
    assert longest is not None
    assert longest >= 24_000


@pytest.mark.parametrize("processes", [1, 3])
def test_gaps_are_exponential_and_all_processes_together_have_the_rate(processes: int) -> None:
    plan = Plan(client_processes=processes, rate_ops_s=20_000, seed=5)
    for process in range(processes):
        gaps = np.array(list(islice(plan.gaps_ns(process), 50_000)))
        mean = 1e9 * processes / 20_000
        assert gaps.mean() == pytest.approx(mean, rel=0.02)
        assert gaps.std() == pytest.approx(mean, rel=0.03)
        assert np.median(gaps) == pytest.approx(mean * np.log(2), rel=0.02)


def test_the_seed_decides_the_gaps_and_each_process_has_its_own() -> None:
    def gaps(seed: int, process: int) -> list[int]:
        return list(islice(Plan(rate_ops_s=10.0, seed=seed).gaps_ns(process), 5))

    assert gaps(1, 0) == gaps(1, 0)
    assert len({tuple(gaps(seed, process)) for seed in (1, 2) for process in (0, 1)}) == 4


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 2e6])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="--rate"):
        Plan(rate_ops_s=rate).validate(CONFIG)


def test_an_alarm_is_set_anew_or_rings_once() -> None:
    async def main() -> list[int]:
        rang: list[int] = []
        alarm = Alarm(asyncio.get_running_loop(), lambda: rang.append(monotonic_ns()))
        began_ns = monotonic_ns()
        alarm.set(began_ns + 5 * MS)
        alarm.set(began_ns + 20 * MS)
        await until(lambda: bool(rang))
        await asyncio.sleep(0.01)
        assert rang[0] >= began_ns + 20 * MS
        alarm.set(began_ns)  # has passed
        await until(lambda: len(rang) == 2)
        alarm.close()
        return rang

    assert len(asyncio.run(main())) == 2
