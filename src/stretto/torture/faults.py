"""Inject the scheduled faults into the replica processes of a cluster, end them, and watch restarted replicas until they serve again."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Any

from stretto.runtime.local_cluster import LocalCluster
from stretto.runtime.metrics import is_normal, metrics_or_none
from stretto.torture.disk import SmallDisk
from stretto.torture.namespaces import Network, replica_port
from stretto.torture.schedule import FULL_DISK, KINDS, POWER_CUT, WIPE, Impaired, Strike

_END_SECONDS = 5.0
_LATE_SECONDS = 0.5
"""How long to wait for a process to end because its disk was full. It does not end at once."""
_ANSWER_SECONDS = 0.25
_POLL_SECONDS = 0.01

Note = Callable[..., None]


class Faults:
    """Inject faults into a cluster. `network` and `disk` are None if no scheduled fault needs them.

    `note(event, **details)` is called for each event: `begun` and `ended` for a fault, `back` when a restarted replica serves again, and
    `died` when a replica's process ends without a fault. Setting `over` ends the run early; it is also set when a replica dies.
    """

    def __init__(self, cluster: LocalCluster, network: Network | None, disk: SmallDisk | None, over: asyncio.Event, note: Note) -> None:
        self.counts: Counter[str] = Counter()
        self.recoveries_ns: list[int] = []
        """Time from each restart until the replica served again. Restarts that another fault interrupted are not counted."""
        self.died: dict[int, str] = {}
        """The replicas whose process ended without a fault, with the last line of their logs."""
        self.impaired = Impaired(cluster.config.n)
        self._cluster = cluster
        self._network = network
        self._disk = disk
        self._over = over
        self._note = note
        self._restarted_ns: dict[int, int] = {}

    async def run(self, strikes: Iterable[Strike]) -> None:
        """Inject the faults one after another until `over` is set. Every fault has ended when this returns."""
        async with asyncio.TaskGroup() as lasting:
            for strike in strikes:
                if await happens(self._over, strike.rest_ns / 1e9):
                    return
                while (target := self.impaired.target_of(strike)) is None:
                    if await happens(self._over, _POLL_SECONDS):
                        return
                lasting.create_task(self._strike(strike, target))

    async def watch(self) -> None:
        """Watch for replicas that serve again after a restart, and for replicas that die without a fault. Runs until it is cancelled."""
        while True:
            for index in range(self._cluster.config.n):
                struck = self.impaired.struck.get(index)
                if index in self.died or (struck is not None and KINDS[struck].ends):
                    continue
                if self._cluster.state(index) == "died":
                    self._on_death(index)
                elif struck is None and index in self.impaired.recovering and is_normal(await self.metrics(index)):
                    self._on_return(index)
            await asyncio.sleep(_POLL_SECONDS)

    async def metrics(self, index: int) -> dict[str, Any] | None:
        """The metrics of a replica, or None if it does not answer."""
        return await asyncio.to_thread(metrics_or_none, self._cluster.config, index, _ANSWER_SECONDS)

    def _on_death(self, index: int) -> None:
        self.died[index] = self._cluster.last_line(index)
        self._note("died", replica=index, reason=self.died[index])
        self._over.set()

    def _on_return(self, index: int) -> None:
        self.impaired.back(index)
        restarted_ns = self._restarted_ns.pop(index, None)
        if restarted_ns is not None:
            self.recoveries_ns.append(monotonic_ns() - restarted_ns)
            self._note("back", replica=index, after_ms=round(self.recoveries_ns[-1] / 1e6, 1))

    async def _strike(self, strike: Strike, target: int) -> None:
        hit = range(self._cluster.config.n) if strike.kind == POWER_CUT else (target,)
        self.impaired.begin(strike.kind, target)
        self.counts[strike.kind] += 1
        for replica in hit:
            self._restarted_ns.pop(replica, None)  # this fault would distort the measured recovery time
        rules = cut_rules(strike, target, self._cluster.config.n)
        self._note("begun", fault=strike.kind, replicas=list(hit), **({"rules": rules} if rules else {}))
        await asyncio.to_thread(self._begin, strike.kind, target, rules)
        await happens(self._over, strike.lasts_ns / 1e9)
        await asyncio.gather(*(self._end(strike.kind, replica) for replica in hit))

    def _begin(self, kind: str, target: int, rules: list[str]) -> None:
        if KINDS[kind].network:
            assert self._network is not None
            self._network.cut(target, rules)
        elif kind == FULL_DISK:
            assert self._disk is not None
            self._disk.fill()
        elif kind == POWER_CUT:
            for replica in range(self._cluster.config.n):
                self._cluster.kill(replica)
        else:
            number = {"terminate": signal.SIGTERM, "pause": signal.SIGSTOP}.get(kind, signal.SIGKILL)
            self._cluster.pid_files[target].signal(number)

    async def _end(self, kind: str, replica: int) -> None:
        restarted_ns = monotonic_ns()
        restarted = await asyncio.to_thread(self._undo, kind, replica)
        self.impaired.end(replica, restarted=restarted)
        self._note("ended", fault=kind, replica=replica, restarted=restarted)
        if restarted:
            self._restarted_ns[replica] = restarted_ns

    def _undo(self, kind: str, replica: int) -> bool:
        """End the fault. Returns whether the replica's process had to be restarted."""
        process = self._cluster.pid_files[replica]
        if KINDS[kind].network:
            assert self._network is not None
            self._network.mend(replica)
        elif kind == FULL_DISK:
            assert self._disk is not None
            self._disk.free()
            process.wait(_LATE_SECONDS)
        elif kind == "pause":
            process.signal(signal.SIGCONT)
        elif not process.wait(_END_SECONDS):
            process.signal(signal.SIGKILL)
            process.wait(_END_SECONDS)
        if not KINDS[kind].ends or self._cluster.state(replica) == "running":
            return False
        if kind == WIPE:
            for path in self._cluster.data[replica].iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._cluster.restart(replica)
        return True


def cut_rules(strike: Strike, target: int, replicas: int) -> list[str]:
    """The packets that a network fault drops, as nft match expressions. Empty for the other kinds."""
    port, peer = replica_port(target), replica_port((target + strike.peer) % replicas)
    to_it, from_it = f'oifname "{port}"', f'iifname "{port}"'
    some = f"numgen random mod 1000 < {round(1_000 * strike.loss)}"
    return {
        "isolate": [to_it, from_it],
        "deafen": [to_it],
        "mute": [from_it],
        "cut_link": [f'iifname "{peer}" {to_it}'],
        "lose": [f"{to_it} {some}", f"{from_it} {some}"],
    }.get(strike.kind, [])


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Wait for an event, at most `within_s` seconds. Returns whether it was set."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
