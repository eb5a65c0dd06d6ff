"""One measurement, seen from the coordinator, which mostly sleeps while replicas and clients work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stretto.bench.clients import ClientRun, Clients, OnHost, client_processes
from stretto.bench.plan import Plan
from stretto.core.config import ClusterConfig
from stretto.core.errors import StrettoError
from stretto.runtime.local_cluster import ClusterFailure, LocalCluster
from stretto.runtime.metrics import is_normal, metrics_or_none

Progress = Callable[[str, float | None], None]
"""Called with the present step, and the part of it that is done, from 0 to 1; None if that is not known."""

Strike = Callable[[], str]
"""Stops a part of the network and returns its name."""

_LEAD_NS = 20_000_000
_WAKE_S = 0.25
_POLL_NS = 10_000_000
_END_SECONDS = 5.0
_PROBE_SECONDS = 0.25
_MEMORY_INTERVAL = 1.05
"""Memory is sampled ever less often, because each sample leaves a little garbage in the replica, which rarely runs its collector."""

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Kill:
    """A replica, or the part of the network that `target` names, was stopped at that time.

    `restarted_ns`: when the replica was started again. `back_ns`: when it first reported that it serves.
    """

    target: str
    replica: int | None
    at_ns: int
    restarted_ns: int | None = None
    back_ns: int | None = None


@dataclass(frozen=True)
class Measurement:
    """What was measured from `start_ns` to `end_ns`.

    `before`, `after`: the metrics of the replicas, None for a replica that did not answer. `memory`: samples of the number of operations
    that the cluster had committed, and the resident bytes of each replica.
    """

    start_ns: int
    end_ns: int
    before: list[Metrics | None]
    after: list[Metrics | None]
    clients: list[ClientRun]
    kill: Kill | None
    memory: list[tuple[int, list[int | None]]] = field(default_factory=list)


def measure(
    plan: Plan,
    config: ClusterConfig,
    cluster: LocalCluster | None,
    progress: Progress,
    *,
    on_host: OnHost = nullcontext,
    strike: Strike | None = None,
) -> Measurement:
    """Put the running cluster of `config` under load and measure it.

    `cluster`: given if this process started it; it is then watched, and replicas of it can be killed. `on_host`: where each client process
    is started. `strike`: stops a part of the network half-way, instead of the kill in the plan.

    Raises LoadFailure if a client fails, and ClusterFailure if a replica of `cluster` dies.
    """
    with client_processes(config, plan, on_host) as clients:
        progress("opening sessions", None)
        _wait_until_open(clients, cluster)
        progress("warming up", None)
        time.sleep(plan.warm_up_s)
        watch = _Watch(plan, config, cluster, clients, strike)
        before = _all_metrics(config)
        start_ns = time.monotonic_ns() + _LEAD_NS
        end_ns = start_ns + round(plan.seconds * 1e9)
        clients.measure(start_ns, end_ns)
        _sleep_until(start_ns)
        while (now_ns := time.monotonic_ns()) < end_ns:
            progress("measuring", (now_ns - start_ns) / (end_ns - start_ns))
            watch.look(now_ns - start_ns)
            _sleep_until(min(end_ns, now_ns + round(_WAKE_S * 1e9), start_ns + watch.next_event_ns(now_ns - start_ns)))
        after = _all_metrics(config)
        return Measurement(start_ns, end_ns, before, after, clients.stop(), watch.kill, watch.memory)


class _Watch:
    """Watches that all processes live. Half-way, it kills and restarts a replica if the plan says so, or strikes the network."""

    def __init__(self, plan: Plan, config: ClusterConfig, cluster: LocalCluster | None, clients: Clients, strike: Strike | None) -> None:
        self.kill: Kill | None = None
        self.memory: list[tuple[int, list[int | None]]] = []
        self._next_memory_ns = 0
        self._plan = plan
        self._kill_after_ns = round(plan.seconds * 1e9 / 2)
        self._config = config
        self._cluster = cluster
        self._clients = clients
        self._strike = strike

    def next_event_ns(self, elapsed_ns: int) -> int:
        """When `look` has something to do next, counted from the start."""
        if (self._plan.kill or self._strike) and elapsed_ns < self._kill_after_ns:
            return self._kill_after_ns
        return elapsed_ns + _POLL_NS if self._awaited() is not None else 1 << 62

    def look(self, elapsed_ns: int) -> None:
        """Do what is due. Raises LoadFailure or ClusterFailure if a process died that was not killed here."""
        self._clients.check()
        if self._plan.memory and elapsed_ns >= self._next_memory_ns:
            self._look_at_memory()
            self._next_memory_ns = round(elapsed_ns * _MEMORY_INTERVAL)
        if self._cluster is None:
            return
        refuse_the_dead(self._cluster, self.kill.replica if self.kill else None)
        if self.kill is None and elapsed_ns >= self._kill_after_ns:
            if self._strike is not None:
                at_ns = time.monotonic_ns()
                self._clients.split(at_ns)
                self.kill = Kill(self._strike(), None, at_ns)
            elif self._plan.kill is not None:
                self.kill = self._kill(self._cluster, self._plan.kill)
        elif (replica := self._awaited()) is not None and is_normal(metrics_or_none(self._config, replica, _PROBE_SECONDS)):
            assert self.kill is not None
            self.kill = replace(self.kill, back_ns=time.monotonic_ns())

    def _awaited(self) -> int | None:
        """The replica that was killed and restarted and does not serve yet."""
        return self.kill.replica if self.kill and self.kill.restarted_ns is not None and self.kill.back_ns is None else None

    def _kill(self, cluster: LocalCluster, target: str) -> Kill:
        leader = leader_of(_all_metrics(self._config))
        if leader is None:
            raise ClusterFailure("no replica answers, so the leader is not known")
        replica = leader if target == "leader" else (leader + 1) % self._config.n
        cluster.kill(replica)
        kill = Kill(target, replica, time.monotonic_ns())
        self._clients.split(kill.at_ns)
        if self._plan.restart:
            cluster.pid_files[replica].wait(_END_SECONDS)
            kill = replace(kill, restarted_ns=time.monotonic_ns())
            cluster.restart(replica)
        return kill

    def _look_at_memory(self) -> None:
        metrics = _all_metrics(self._config)
        committed = max((int(one["committed"]) for one in metrics if one is not None), default=0)
        self.memory.append((committed, [None if one is None else int(one["rss_bytes"]) for one in metrics]))


@contextmanager
def own_cluster(
    config: ClusterConfig, progress: Progress, prefix: Callable[[int], Sequence[str]] = lambda address: ()
) -> Iterator[LocalCluster]:
    """Start all members of `config` on this machine, and end them on leaving the context. `prefix`: see `LocalCluster`."""
    with TemporaryDirectory(prefix="stretto-bench-") as directory:
        cluster = LocalCluster.create(Path(directory), config, prefix)
        progress("starting replicas", None)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


def refuse_the_dead(cluster: LocalCluster, killed: int | None) -> None:
    """Raise ClusterFailure if a replica other than `killed` has died."""
    for index in range(cluster.config.n):
        if index != killed and cluster.state(index) == "died":
            raise ClusterFailure(f"replica {index} has died during the measurement: {cluster.last_line(index)}")


def _wait_until_open(clients: Clients, cluster: LocalCluster | None) -> None:
    try:
        clients.wait_until_open()
    except StrettoError:
        if cluster is not None:
            refuse_the_dead(cluster, None)
        raise


def _all_metrics(config: ClusterConfig) -> list[Metrics | None]:
    return [metrics_or_none(config, index) for index in range(config.n)]


def leader_of(metrics: list[Metrics | None]) -> int | None:
    """The leader according to the replica in the highest view; None if no replica answered."""
    known = [one for one in metrics if one is not None]
    return int(max(known, key=lambda one: int(one["view"]))["leader"]) if known else None


def _sleep_until(time_ns: int) -> None:
    time.sleep(max(0, time_ns - time.monotonic_ns()) / 1e9)
