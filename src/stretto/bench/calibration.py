"""What the runtime spends on this machine, found by putting real clusters under loads that differ in what the processes have to do.

Every process counts its bursts, datagrams and messages, and the kernel its processor time. What one of each costs is a non-negative least
squares fit: the costs whose sums come nearest to the times, in relative terms. Loads are such that bursts, datagrams and messages vary
independently: few and many sessions, in one client process or several, requests that share datagrams or do not. What they
leave open (messages received, operations executed, and messages sent are as many in most protocols) is shared out as in `anchors`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from stretto.bench.anchors import Anchors, measure_anchors
from stretto.bench.costs import CLIENT, REPLICA, ROLES, CostFile, Fit
from stretto.bench.measure import Measurement, Metrics, Progress, measure, own_cluster
from stretto.bench.plan import NULL, SERVICES, Plan
from stretto.catalog import protocol
from stretto.core.errors import StrettoError
from stretto.runtime.local_cluster import loopback_config
from stretto.simulation.world import Costs

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
"""Each cost with what it is paid for."""
CROWDING = "crowding_ns"
"""What a burst costs more where processes share a core: caches are cold. It is fitted too, so that it goes into no other cost, and kept
apart: a simulated machine has a processor of its own."""
_ANCHOR_WEIGHT = 0.3
"""Of an anchor, where the measurement of a process has 1: little, so that it decides only what nothing else does."""

_FLAT = 1e-12

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """What a cluster is put under: `sessions` in so many client processes, whose requests share datagrams or do not."""

    protocol: str
    sessions: int
    client_processes: int = 1
    one_request_per_datagram: bool = False

    def plan(self, seconds: float) -> Plan:
        """How it is measured."""
        return Plan(self.client_processes, self.sessions, seconds, NULL, self.one_request_per_datagram, warm_up_s=min(0.5, seconds))

    def __str__(self) -> str:
        alone = ", one request a datagram" if self.one_request_per_datagram else ""
        processes = f" in {self.client_processes} processes" if self.client_processes > 1 else ""
        return f"{self.protocol}, {self.sessions} sessions{processes}{alone}"


_SHAPES = (
    *((1, 1, False), (4, 1, False), (4, 4, False), (16, 1, False), (16, 1, True), (16, 4, False)),
    *((64, 1, False), (64, 1, True), (64, 4, False), (64, 4, True), (256, 1, False), (256, 4, True)),
)
_QUICK_SHAPES = ((1, 1, False), (16, 1, False), (16, 4, False), (64, 1, True), (64, 4, True), (256, 1, False))


def loads_of(protocols: Sequence[str], quick: bool) -> list[Load]:
    """The loads of a calibration. Protocols take turns, so that a machine that is disturbed for a while does not disturb one of them."""
    return [Load(name, *shape) for shape in (_QUICK_SHAPES if quick else _SHAPES) for name in protocols]


@dataclass(frozen=True)
class Sample:
    """What one process did in `seconds`, and the processor time that it took. `counts`: by the names of the costs; `leads`: whether it is
    the replica that leads; `throughput_ops_s`: that of all clients together."""

    load: Load
    role: str
    index: int
    leads: bool
    seconds: float
    cpu_ns: float
    throughput_ops_s: float
    counts: dict[str, float]

    def per_operation(self, amount: float) -> float:
        """An amount of this process divided by the operations that clients completed meanwhile."""
        return amount / self.seconds / self.throughput_ops_s


def crowded(load: Load, replicas: int) -> bool:
    """Whether there are more busy processes than cores for them."""
    return replicas + load.client_processes > len(os.sched_getaffinity(0))


def sample_load(load: Load, seconds: float, progress: Progress) -> list[Sample]:
    """Put a fresh cluster under that load, and read the counters of all its processes.

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
    """Between two readings by the process's own clock."""
    return float(after["uptime_s"] - before["uptime_s"])


def _increase(before: Metrics, after: Metrics, name: str) -> int:
    if name == "executed":  # the log is what was executed and not rolled back
        return _increase(before, after, "last_position") + _increase(before, after, "rolled_back_operations")
    return int(after.get(name, 0) - before.get(name, 0))


def typical(samples: Iterable[Sample]) -> list[Sample]:
    """Of the samples of each process under each load, the one whose processor time for a message received is the median."""
    repeats: dict[tuple[Load, str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        repeats[sample.load, sample.role, sample.index].append(sample)
    return [sorted(same, key=_ns_per_message)[(len(same) - 1) // 2] for same in repeats.values()]


def _ns_per_message(sample: Sample) -> float:
    return sample.cpu_ns / max(1.0, sample.counts[RECEIVE_MESSAGE])


# The fit


def fit(samples: Sequence[Sample], anchors: Anchors) -> tuple[dict[str, float], Fit]:
    """The costs that explain the samples best, in nanoseconds by the names of `Costs`, and how well they do.

    Protocols do different things with what they receive, so `receive_message_ns` is one for each: `receive_message_ns of multipaxos`.
    Minimises the sum of squares of relative errors, with the anchors, stretched to the measured size, as weak measurements.
    """
    counts = [_counts(sample) for sample in samples]
    names = [name for name in dict.fromkeys(name for one in counts for name in one) if any(one.get(name) for one in counts)]
    if CROWDING in names and all(sample.counts[CROWDING] for sample in samples):
        names.remove(CROWDING)  # it is what every burst costs here
    shares = {name: share for name in names if (share := asdict(anchors).get(name.partition(" ")[0])) is not None}
    rows = np.array([[one.get(name, 0.0) / sample.cpu_ns for name in names] for one, sample in zip(counts, samples, strict=True)])
    stretch = _stretch(rows, names, shares)
    weak = np.zeros((len(shares), len(names)))
    for row, (name, share) in enumerate(shares.items()):
        weak[row, names.index(name)] = _ANCHOR_WEIGHT / (stretch * share)
    wanted = np.concatenate([np.ones(len(rows)), np.full(len(shares), _ANCHOR_WEIGHT)])
    costs = nonnegative_least_squares(np.vstack([rows, weak]), wanted)
    errors = np.abs(rows @ costs - 1)
    quality = Fit(len(rows), round(float(np.sqrt(np.mean(errors**2))), 4), round(float(errors.max()), 4))
    return dict(zip(names, costs.tolist(), strict=True)), quality


def _counts(sample: Sample) -> dict[str, float]:
    counts = dict(sample.counts)
    counts[f"{RECEIVE_MESSAGE} of {sample.load.protocol}"] = counts.pop(RECEIVE_MESSAGE)
    return counts


def _stretch(rows: Numbers, names: list[str], shares: dict[str, float]) -> float:
    """How many times as much as in `anchors` everything costs, in these proportions."""
    together = sum(rows[:, names.index(name)] * share for name, share in shares.items())
    others = [rows[:, column] for column, name in enumerate(names) if name not in shares]
    found = nonnegative_least_squares(np.column_stack([*others, together]), np.ones(len(rows)))
    return max(1e-3, float(found[-1]))


def nonnegative_least_squares(a: Numbers, b: Numbers) -> Numbers:
    """The x >= 0 with the least |a x - b| (Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23)."""
    scale = np.linalg.norm(a, axis=0)
    a = a / scale
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], bool)
    for _ in range(10 * a.shape[1]):
        gradient = np.where(free, 0.0, a.T @ (b - a @ x))
        if gradient.max() < _FLAT:
            break
        free[gradient.argmax()] = True
        while True:
            tried = np.zeros_like(x)
            tried[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            negative = free & (tried <= 0)
            if not negative.any():
                break
            x += (tried - x) * np.min(x[negative] / (x[negative] - tried[negative]))
            free &= x > _FLAT
            x[~free] = 0.0
        x = tried
    result: Numbers = x / scale
    return result


def calibrate(samples: Sequence[Sample], machine: dict[str, Any]) -> CostFile:
    """Costs of replicas and clients, from all samples of a calibration on that machine, see `stretto.bench.machine`."""
    anchors = measure_anchors()
    chosen = typical(samples)
    costs: dict[str, Costs] = {}
    protocols: dict[str, dict[str, int]] = defaultdict(dict)
    crowding: dict[str, int] = {}
    fits: dict[str, Fit] = {}
    for role in ROLES:
        found, fits[role] = fit([sample for sample in chosen if sample.role == role], anchors)
        crowding[role] = round(found.pop(CROWDING, 0.0))
        own = {name: found.pop(name) for name in list(found) if name.startswith(RECEIVE_MESSAGE)}
        for name, cost in own.items():
            protocols[name.partition(" of ")[2]][role] = round(cost)
        found[RECEIVE_MESSAGE] = median(own.values())
        costs[role] = Costs(**{name: round(cost) for name, cost in found.items()})
    return CostFile(costs[REPLICA], costs[CLIENT], crowding, fits, machine, dict(protocols))


def sample_all(loads: Sequence[Load], repeat: int, seconds: float, progress: Progress) -> Iterator[list[Sample]]:
    """The samples of all loads, `repeat` times over: a machine that is disturbed for a while disturbs every load once at most."""
    total = repeat * len(loads)
    for number, load in enumerate(load for _ in range(repeat) for load in loads):

        def tell(what: str, done: float | None, number: int = number, load: Load = load) -> None:
            progress(f"{load}: {what}", (number + (done or 0.0)) / total)

        yield sample_load(load, seconds, tell)
