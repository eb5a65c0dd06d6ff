"""One run against a running cluster: load with faults, then the end of all faults, recovery, and reading everything back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from io import RawIOBase
from time import monotonic
from typing import Any

import msgspec

from stretto.client.async_cluster import AsyncCluster
from stretto.runtime.local_cluster import LocalCluster
from stretto.runtime.metrics import is_normal
from stretto.torture.disk import SmallDisk
from stretto.torture.faults import Faults, happens
from stretto.torture.load import Load, Workload
from stretto.torture.namespaces import Network
from stretto.torture.schedule import strikes
from stretto.verify.history import Operation

RETURN_SECONDS = 30.0
_TICK_SECONDS = 0.25
_POLL_SECONDS = 0.02

Connect = Callable[[], AbstractAsyncContextManager[AsyncCluster]]
Progress = Callable[[str, float | None], None]
"""Called with what the run is doing, and with the share that is done (0 to 1), or None if that is unknown."""


@dataclass(frozen=True)
class Plan:
    """Inject faults of these `kinds` for `seconds`, drawn from `seed`, under a load of `rate` operations per second."""

    seconds: float
    seed: int
    rate: int
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The observations of a run.

    - `seconds`: how long faults were injected; `faults`: how often each kind was;
    - `recoveries_ms`: times from the restart of a replica until it served; `died`: replicas that ended without a fault, and why;
    - `operations`: calls that were answered; `unanswered`: calls that ended with an error, so that their outcome is unknown;
    - `longest_gap_ms`: the longest time without any answer, including the recovery at the end;
    - `back_in_service_ms`: from the end of the faults until all replicas served and had caught up; None if they did not;
    - `read_back`: how many tokens are lost (acknowledged, but not found) and how many are found more than once; None if not known;
    - `history`: the calls of the contending sessions.
    """

    seconds: float
    faults: dict[str, int]
    recoveries_ms: list[float]
    died: dict[int, str]
    operations: int
    unanswered: int
    last_error: str | None
    longest_gap_ms: float
    back_in_service_ms: float | None
    read_back: tuple[int, int] | None
    history: list[Operation]


class Torture:
    """Inject the planned faults into the running replicas of `cluster`. Each event goes to `log` with its time, as JSON Lines.

    `network` and `disk` are None if none of the plan's kinds needs them.
    """

    def __init__(
        self, plan: Plan, cluster: LocalCluster, network: Network | None, disk: SmallDisk | None, log: RawIOBase, progress: Progress
    ) -> None:
        self._plan = plan
        self._cluster = cluster
        self._network = network
        self._disk = disk
        self._log = log
        self._progress = progress

    def run(self, connect: Connect, workload: Workload) -> Outcome:
        """Do the whole run. The first SIGINT or SIGTERM ends the faults early; the outcome covers the time until then. A second aborts."""
        try:
            with asyncio.Runner() as runner:
                return runner.run(self._run(connect, workload))
        except BaseExceptionGroup as group:
            raise _first_of(group) from group

    async def _run(self, connect: Connect, workload: Workload) -> Outcome:
        async with connect() as client, asyncio.TaskGroup() as tasks:
            over = asyncio.Event()
            load = Load(client.execute, workload, self._plan.seed, self._plan.rate)
            faults = Faults(self._cluster, self._network, self._disk, over, partial(self._note, load))
            running = tasks.create_task(load.run())
            watching = tasks.create_task(faults.watch())
            with _ended_by_signals(over):
                await self._strike(over, load, faults)
            seconds = load.service.now_ns / 1e9
            self._progress("all faults have ended; waiting until all replicas serve", None)
            back_in_service_ms = None if faults.died else await self._until_all_serve(faults)
            load.end()
            await running
            watching.cancel()
            self._progress("reading back", None)
            read_back = await load.read_back()
        service = load.service
        self._note(load, "longest gap", ended_ns=service.gap_ended_ns, after_ms=round(service.longest_gap_ns / 1e6, 1))
        return Outcome(
            seconds=seconds,
            faults=dict(faults.counts),
            recoveries_ms=[time_ns / 1e6 for time_ns in faults.recoveries_ns],
            died=faults.died,
            operations=service.answered,
            unanswered=service.unanswered,
            last_error=service.last_error,
            longest_gap_ms=service.longest_gap_ns / 1e6,
            back_in_service_ms=back_in_service_ms,
            read_back=read_back,
            history=load.history,
        )

    async def _strike(self, over: asyncio.Event, load: Load, faults: Faults) -> None:
        """Inject faults for the planned time, then end them all."""
        striking = asyncio.create_task(faults.run(strikes(self._plan.seed, self._cluster.config.n, self._plan.kinds)))
        while not over.is_set() and not striking.done() and (left_s := self._plan.seconds - load.service.now_ns / 1e9) > 0:
            now = ", ".join(f"{kind} of {replica}" for replica, kind in faults.impaired.struck.items()) or "no fault"
            done = f"{load.service.answered:,} operations, {faults.counts.total():,} faults; now {now}"
            self._progress(done, 1 - left_s / self._plan.seconds)
            await happens(over, min(_TICK_SECONDS, left_s))
        over.set()
        await striking

    async def _until_all_serve(self, faults: Faults) -> float | None:
        """Wait until all replicas serve and have committed every operation that any of them has committed by now.

        Returns how long that took, in milliseconds; None if it takes more than RETURN_SECONDS.
        """
        began = monotonic()
        committed: int | None = None
        while monotonic() - began < RETURN_SECONDS:
            metrics = [await faults.metrics(index) for index in range(self._cluster.config.n)]
            counts = [int(one["committed"]) for one in metrics if one is not None]
            committed = max(counts, default=None) if committed is None else committed
            if committed is not None and all(map(is_normal, metrics)) and min(counts) >= committed:
                return (monotonic() - began) * 1e3
            await asyncio.sleep(_POLL_SECONDS)
        return None

    def _note(self, load: Load, event: str, **details: Any) -> None:
        self._log.write(msgspec.json.encode({"at_ns": load.service.now_ns, "event": event, **details}) + b"\n")


@contextmanager
def _ended_by_signals(over: asyncio.Event) -> Iterator[None]:
    """Set `over` at the first SIGINT or SIGTERM. After that both signals have their former effect again."""
    loop = asyncio.get_running_loop()
    formerly = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in formerly.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def end() -> None:
        over.set()
        restore()

    for number in formerly:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        restore()


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception of a group. The others follow from it."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
