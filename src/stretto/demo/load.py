"""The load of the demonstration: sessions that increment a counter each, and what the callers saw.

A session knows the next value of its counter. So the load is a check too: an operation that was lost or ran twice shows in the next answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic_ns

from stretto import AsyncCluster, StrettoError
from stretto.apps.kv import KeyValueStore

_PAUSE_AFTER_FAILURE_S = 0.05


@dataclass
class Phase:
    """What was seen during a part of the run: latencies in nanoseconds, and the longest time without any answer."""

    name: str
    began_ns: int = field(default_factory=monotonic_ns)
    ended_ns: int | None = None
    latencies_ns: list[int] = field(default_factory=list)
    longest_gap_ns: int = 0

    def quantile_us(self, share: float) -> int:
        """The latency that this share of the calls did not exceed, in microseconds; 0 if there were none."""
        latencies = sorted(self.latencies_ns)
        return round(latencies[min(len(latencies) - 1, int(share * len(latencies)))] / 1_000) if latencies else 0

    def row(self) -> dict[str, float | int | str]:
        """The figures, named with their units."""
        seconds = ((self.ended_ns or monotonic_ns()) - self.began_ns) / 1e9
        return {
            "phase": self.name,
            "seconds": round(seconds, 2),
            "operations": len(self.latencies_ns),
            "throughput_ops_s": round(len(self.latencies_ns) / seconds),
            "p50_us": self.quantile_us(0.5),
            "p99_us": self.quantile_us(0.99),
            "longest_gap_ms": round(self.longest_gap_ns / 1e6, 1),
        }


class Load:
    """Sessions that each call again as soon as they are answered. `phases` are the parts of the run so far; the last is the present one."""

    def __init__(self, cluster: AsyncCluster, sessions: int) -> None:
        self.phases: list[Phase] = []
        self.failures: list[str] = []
        self.wrong: list[str] = []
        self._store = cluster.service(KeyValueStore)
        self._sessions = sessions
        self._last_answer_ns = monotonic_ns()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._count(b"counter/%d" % number)) for number in range(self._sessions)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def enter(self, name: str) -> None:
        """End the phase, if there is one, and begin the next. Answers count from the first phase on."""
        self.end()
        self.phases.append(Phase(name))

    def end(self) -> None:
        """End the phase; later answers do not count."""
        if self.phases:
            self.phases[-1].ended_ns = monotonic_ns()

    async def _count(self, key: bytes) -> None:
        expected = 1
        uncertain = 0  # calls that failed, but may have been executed
        while True:
            sent_ns = monotonic_ns()
            try:
                number: int = await self._store.increment(key)
            except StrettoError as error:
                self.failures.append(str(error))
                uncertain += 1
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
                continue
            if 0 <= number - expected <= uncertain:
                uncertain -= number - expected
            else:
                self.wrong.append(f"{key.decode()} said {number} where {expected} was right")
            expected = number + 1
            self._record(sent_ns)

    def _record(self, sent_ns: int) -> None:
        now_ns = monotonic_ns()
        phase = self.phases[-1] if self.phases else None
        if phase is not None and phase.ended_ns is None:
            phase.latencies_ns.append(now_ns - sent_ns)
            phase.longest_gap_ns = max(phase.longest_gap_ns, now_ns - max(self._last_answer_ns, phase.began_ns))
        self._last_answer_ns = now_ns
