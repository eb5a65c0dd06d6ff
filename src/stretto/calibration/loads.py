"""Real clusters under different loads, and what each of their processes counted and spent.

Every process counts its bursts, datagrams and messages, and the kernel its processor time. The loads are chosen such that bursts,
datagrams and messages vary independently of each other: few and many sessions, in one client process or several, with requests that share
datagrams or do not.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from stretto.bench.measure import Measurement, Metrics, Progress, measure, own_cluster
from stretto.bench.plan import NULL, SERVICES, Plan
from stretto.calibration.costs import CLIENT, REPLICA
from stretto.catalog import protocol
from stretto.core.errors import StrettoError
from stretto.runtime.local_cluster import loopback_config

_REPLICAS = 3
RECEIVE_MESSAGE = "receive_message_ns"
_COUNTERS = {
    "burst_ns": "bursts",
    "receive_datagram_ns": "datagrams_received",
    "send_datagram_ns": "datagrams_sent",
    RECEIVE_MESSAGE: "messages_received",
    "send_message_ns": "messages_sent",
    "execute_ns": "executed",
}
"""The counter that each cost is multiplied by. `executed` is computed, see `_increase`; the others are metrics of a process."""
CROWDING = "crowding_ns"
"""The additional cost of a burst where processes share a core and find its caches cold. It is fitted too, so that it does not distort the
other costs, and reported separately, because a simulated machine has a processor of its own."""


@dataclass(frozen=True)
class Load:
    """A load on a cluster. `sessions`: in all `client_processes` together."""

    protocol: str
    sessions: int
    client_processes: int = 1
    one_request_per_datagram: bool = False

    def plan(self, seconds: float) -> Plan:
        """The measurement of this load, for so many seconds."""
        return Plan(self.client_processes, self.sessions, seconds, NULL, self.one_request_per_datagram, warm_up_s=min(0.5, seconds))

    def __str__(self) -> str:
        datagrams = ", one request a datagram" if self.one_request_per_datagram else ""
        processes = f" in {self.client_processes} processes" if self.client_processes > 1 else ""
        return f"{self.protocol}, {self.sessions} sessions{processes}{datagrams}"


_SHAPES = (
    *((1, 1, False), (4, 1, False), (4, 4, False), (16, 1, False), (16, 1, True), (16, 4, False)),
    *((64, 1, False), (64, 1, True), (64, 4, False), (64, 4, True), (256, 1, False), (256, 4, True)),
)
_QUICK_SHAPES = ((1, 1, False), (16, 1, False), (16, 4, False), (64, 1, True), (64, 4, True), (256, 1, False))


def loads_of(protocols: Sequence[str], quick: bool) -> list[Load]:
    """The loads of a calibration. Protocols alternate, so that a short disturbance of the machine does not hit only one of them."""
    return [Load(name, *shape) for shape in (_QUICK_SHAPES if quick else _SHAPES) for name in protocols]


@dataclass(frozen=True)
class Sample:
    """What one process did in `seconds`, and the processor time that it took.

    `counts`: by the names of the costs. `leads`: whether the process is the leader. `throughput_ops_s`: of all clients together.
    """

    load: Load
    role: str
    index: int
    leads: bool
    seconds: float
    cpu_ns: float
    throughput_ops_s: float
    counts: dict[str, float]

    def per_operation(self, amount: float) -> float:
        """An amount of this process, divided by the number of operations that all clients completed in the same time."""
        return amount / self.seconds / self.throughput_ops_s


def crowded(load: Load, replicas: int) -> bool:
    """Whether there are more busy processes than cores."""
    return replicas + load.client_processes > len(os.sched_getaffinity(0))


def sample_load(load: Load, seconds: float, progress: Progress) -> list[Sample]:
    """Put a new cluster under that load, and read the counters of all its processes.

    Raises StrettoError if a process fails, or a replica does not answer.
    """
    definition = protocol(load.protocol)
    replicas = min(_REPLICAS, definition.max_replicas or _REPLICAS)
    config = loopback_config(replicas, load.protocol, SERVICES[NULL], sequencers=definition.usual_sequencers)
    plan = load.plan(seconds).validate(config)
    with own_cluster(config, progress) as cluster:
        return samples_of(load, measure(plan, config, cluster, progress))


def samples_of(load: Load, seen: Measurement) -> list[Sample]:
    """The samples of one measurement."""
    clients = [(run.before, run.after) for run in seen.clients]
    throughput = sum(_increase(before, after, "completed") / _seconds(before, after) for before, after in clients)
    if not throughput:
        raise StrettoError(f"{load}: no operation completed")
    samples = []
    for role, processes in ((REPLICA, zip(seen.before, seen.after, strict=True)), (CLIENT, clients)):
        for index, (before, after) in enumerate(processes):
            if before is None or after is None:
                raise StrettoError(f"{load}: replica {index} did not answer when it was asked for its counters")
            counts = {cost: float(_increase(before, after, name)) for cost, name in _COUNTERS.items()}
            counts[CROWDING] = counts["burst_ns"] if crowded(load, len(seen.before)) else 0.0
            seconds, cpu_ns = _seconds(before, after), (after["cpu_s"] - before["cpu_s"]) * 1e9
            samples.append(Sample(load, role, index, after.get("leader") == index, seconds, cpu_ns, throughput, counts))
    return samples


def _seconds(before: Metrics, after: Metrics) -> float:
    """The time between two readings, by the clock of the process."""
    return float(after["uptime_s"] - before["uptime_s"])


def _increase(before: Metrics, after: Metrics, name: str) -> int:
    if name == "executed":  # the log is what was executed and not rolled back
        return _increase(before, after, "last_position") + _increase(before, after, "rolled_back_operations")
    return int(after.get(name, 0) - before.get(name, 0))


def sample_all(loads: Sequence[Load], repeat: int, seconds: float, progress: Progress) -> Iterator[list[Sample]]:
    """The samples of all loads, `repeat` times. All loads are measured before one is repeated, so that a short disturbance of the machine
    hits each of them at most once. Raises StrettoError as `sample_load`."""
    total = repeat * len(loads)
    for number, load in enumerate(load for _ in range(repeat) for load in loads):

        def tell(what: str, done: float | None, number: int = number, load: Load = load) -> None:
            progress(f"{load}: {what}", (number + (done or 0.0)) / total)

        yield sample_load(load, seconds, tell)


def typical(samples: Iterable[Sample]) -> list[Sample]:
    """For each process and load, the sample whose processor time for a received message is the median of its repetitions."""
    repetitions: dict[tuple[Load, str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        repetitions[sample.load, sample.role, sample.index].append(sample)
    return [sorted(same, key=_ns_per_message)[(len(same) - 1) // 2] for same in repetitions.values()]


def _ns_per_message(sample: Sample) -> float:
    return sample.cpu_ns / max(1.0, sample.counts[RECEIVE_MESSAGE])
