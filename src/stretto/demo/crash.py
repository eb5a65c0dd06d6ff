"""Replica processes under load; one of them is killed and restarted."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stretto import connect_async
from stretto.core.config import ClusterConfig
from stretto.demo.display import Display
from stretto.demo.load import Load, Phase
from stretto.runtime.local_cluster import LocalCluster
from stretto.runtime.metrics import is_normal, metrics_or_none

_TICK_SECONDS = 0.25
_BACK_WITHIN_SECONDS = 20.0
_PAUSE_SECONDS = 0.01
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    - `killed`: the index of the replica that was killed; `role`: "leader" or "follower";
    - `phases`: what the callers saw before the kill, after it, and after the restart;
    - `back_ms`: milliseconds from the restart until the replica was back in service; None if it was not within 20 s;
    - `failures`: why calls failed; `wrong`: answers that were wrong.
    """

    killed: int
    role: str
    phases: list[Phase]
    back_ms: float | None
    failures: list[str]
    wrong: list[str]

    @property
    def ok(self) -> bool:
        """Whether every answer was right, service went on in each phase, and the replica came back."""
        return not self.wrong and self.back_ms is not None and all(phase.latencies_ns for phase in self.phases)

    def report(self) -> dict[str, Any]:
        """The figures, named with their units."""
        return {
            "killed": self.killed,
            "killed_was": self.role,
            "back_in_service_ms": self.back_ms,
            "phases": [phase.row() for phase in self.phases],
            "failed_calls": len(self.failures),
            "last_failure": self.failures[-1] if self.failures else None,
            "wrong_answers": self.wrong,
            "ok": self.ok,
        }

    def conclusion(self) -> str:
        """The outcome in one line."""
        if self.wrong:
            return f"WRONG: {'; '.join(self.wrong[:3])}"
        if self.back_ms is None:
            return f"Replica {self.killed} did not come back within {_BACK_WITHIN_SECONDS:g} s of its restart"
        if not self.ok:
            return f"Service did not continue: {self.failures[-1] if self.failures else 'no call was answered'}"
        article = "the" if self.role == "leader" else "a"
        gap_ms = self.phases[1].row()["longest_gap_ms"]
        calls = f"{len(self.failures)} calls failed, the last one with: {self.failures[-1]}" if self.failures else "no call failed"
        return (
            f"Replica {self.killed}, {article} {self.role}, was killed; service went on after at most {gap_ms} ms, and it was back "
            f"{self.back_ms} ms after its restart. Every answer was right, and {calls}."
        )


def run(config: ClusterConfig, sessions: int, seconds: float, role: Literal["leader", "follower"]) -> Outcome:
    """Start a cluster on this machine, load it with `sessions` callers for `seconds`, kill one replica and restart it.

    Whatever happens, all that was started is ended. SIGTERM and SIGHUP raise SystemExit. Raises StrettoError if the cluster does not start.
    """
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="stretto-demo-") as directory:
        cluster = LocalCluster.create(Path(directory), config)
        try:
            cluster.start()
            return asyncio.run(_run(cluster, sessions, seconds, role))
        finally:
            with _signals_handled((signal.SIGINT, *_SIGNALS), signal.SIG_IGN):
                cluster.stop()


async def _run(cluster: LocalCluster, sessions: int, seconds: float, role: str) -> Outcome:
    async with connect_async(cluster.config) as client, Load(client, sessions) as load:
        with Display(load) as display:
            load.enter("all replicas")
            await _watch(cluster, load, seconds / 3, display)
            victim = await asyncio.to_thread(_victim, cluster, role)
            cluster.kill(victim)
            load.enter(f"replica {victim} killed")
            await _watch(cluster, load, seconds / 3, display)
            load.enter(f"replica {victim} started again")
            restarted = asyncio.create_task(_restart(cluster, victim))
            await _watch(cluster, load, seconds / 3, display)
            load.end()
            back_ms = await restarted
    return Outcome(victim, role, load.phases, back_ms, load.failures, load.wrong)


async def _restart(cluster: LocalCluster, victim: int) -> float | None:
    """Restart a replica with lost state, and wait until it is in service: how many milliseconds that took; None if it is not."""
    began = time.monotonic()
    await asyncio.to_thread(cluster.restart, victim)
    while time.monotonic() < began + _BACK_WITHIN_SECONDS:
        if is_normal(await asyncio.to_thread(metrics_or_none, cluster.config, victim, _TICK_SECONDS)):
            return round((time.monotonic() - began) * 1_000, 1)
        await asyncio.sleep(_PAUSE_SECONDS)
    return None


def _victim(cluster: LocalCluster, role: str) -> int:
    """The replica to kill: the leader of the latest view, or a follower."""
    views = [(replica["metrics"]["view"], replica["metrics"]["leader"]) for replica in cluster.status() if replica["metrics"]]
    leader: int = max(views, default=(0, 0))[1]
    return leader if role == "leader" else (leader + 1) % cluster.config.n


async def _watch(cluster: LocalCluster, load: Load, seconds: float, display: Display) -> None:
    """Show what happens, until the time is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        answers, began = load.phases[-1].latencies_ns, time.monotonic()
        before = len(answers)
        await asyncio.sleep(min(_TICK_SECONDS, left))
        throughput = (len(answers) - before) / (time.monotonic() - began)
        display.show(throughput, await asyncio.to_thread(cluster.status))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end what runs in here as Ctrl-C does, so that everything it started is ended too."""
    with _signals_handled(_SIGNALS, _exit):
        yield


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _signals_handled(numbers: tuple[signal.Signals, ...], handler: Callable[[int, Any], None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
