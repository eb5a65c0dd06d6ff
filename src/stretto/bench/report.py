"""From what was seen to one flat object of figures, and from several of those to their medians."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import count
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from stretto.bench.clients import ClientRun
from stretto.bench.measure import Kill, Measurement, Metrics
from stretto.bench.plan import Plan
from stretto.core.config import ClusterConfig

Times = npt.NDArray[np.int64]
Figures = dict[str, Any]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def percentile_us(latencies_ns: Times, fraction: float) -> float | None:
    """The smallest recorded latency that at least this fraction of all does not exceed (nearest rank), in microseconds; None of none.

    It is exact: every operation is recorded, and nothing is interpolated.
    """
    if not len(latencies_ns):
        return None
    rank = max(1, int(np.ceil(fraction * len(latencies_ns))))
    return float(np.partition(latencies_ns, rank - 1)[rank - 1]) / 1e3


def latencies(latencies_ns: Times) -> Figures:
    """Percentiles and maximum, in microseconds."""
    figures: Figures = {name: percentile_us(latencies_ns, fraction) for name, fraction in PERCENTILES.items()}
    return figures | {"max": percentile_us(latencies_ns, 1.0)}


def figures_of(plan: Plan, config: ClusterConfig, seen: Measurement) -> Figures:
    """All figures of one measurement.

    An operation counts if its result came in the measured time. Counters of processes are read a little before and after; they become
    rates by each process's own clock, so that this does not matter.
    """
    seconds = (seen.end_ns - seen.start_ns) / 1e9
    ended_ns, latency_ns = _operations(seen)
    operations = len(ended_ns)
    replicas = [_Rates(before, after, seconds) for before, after in zip(seen.before, seen.after, strict=True)]
    clients = [_Rates(run.before, run.after, seconds) for run in seen.clients]
    failures = Counter(kind for run in seen.clients for at_ns, kind in run.failures if seen.start_ns <= at_ns < seen.end_ns)
    reconciliations = _most(replicas, "reconciliations")

    def per_operation(amount: float | None) -> float | None:
        return None if amount is None or not operations else amount / operations

    return {
        "protocol": config.protocol,
        "replicas": config.n,
        "durability": config.durability,
        "client_processes": plan.client_processes,
        "sessions": plan.sessions,
        "seconds": plan.seconds,
        "operation": plan.operation,
        "one_request_per_datagram": plan.one_request_per_datagram,
        "restart": plan.restart,
        "operations": operations,
        "throughput_ops_s": operations / seconds,
        "operations_by_second": np.bincount((ended_ns - seen.start_ns) // 10**9, minlength=int(np.ceil(seconds))).tolist(),
        "latency_us": latencies(latency_ns),
        "longest_gap_ms": _longest_gap(ended_ns, seen.start_ns, seen.end_ns)[1] / 1e6,
        "oldest_call_ms": max(run.oldest_call_ns for run in seen.clients) / 1e6,
        "replica_cpu_us_per_op": [per_operation(replica.cpu_us()) for replica in replicas],
        "client_cpu_us_per_op": per_operation(_total(client.cpu_us() for client in clients)),
        "replica_collections": [replica.increase("collections") for replica in replicas],
        "fsyncs_per_op": [per_operation(replica.amount("fsyncs")) for replica in replicas],
        "bytes_persisted_per_op": [per_operation(replica.amount("bytes_persisted")) for replica in replicas],
        "fsync_us": [replica.after.get("fsync_us") for replica in replicas],
        "longest_checkpoint_pause_us": [replica.after.get("longest_checkpoint_pause_us") for replica in replicas],
        "datagrams_per_op": per_operation(_total(node.amount("datagrams_sent") for node in [*replicas, *clients])),
        "view_changes": _most(replicas, "view_changes"),
        "reconciliations": reconciliations,
        "reconciliations_per_s": reconciliations / seconds,
        "repairs": _most(replicas, "repairs"),
        "rolled_back_operations": round(_total(replica.amount("rolled_back_operations") for replica in replicas) or 0),
        "retransmissions": round(_total(client.amount("retransmissions") for client in clients) or 0),
        "failures": dict(failures),
        "ignored_messages": _ignored(replicas),
        "ignored_messages_of_clients": _ignored(clients),
        "replica_rss_mb": {
            "start": [_megabytes(metrics) for metrics in seen.before],
            "end": [_megabytes(metrics) for metrics in seen.after],
        },
        "memory": _memory(seen.memory),
        "kill": None if seen.kill is None else _after_kill(seen.kill, ended_ns, latency_ns, seen),
        "batched_sockets": all(metrics["batched_sockets"] for metrics in _known(seen)),
    }


def _operations(seen: Measurement) -> tuple[Times, Times]:
    """End and latency of every operation that ended in the measured time, in the order of the ends."""
    ended_ns = _joined(seen.clients, "ended_ns")
    latency_ns = _joined(seen.clients, "latency_ns")
    order = np.argsort(ended_ns, kind="stable")
    ended_ns, latency_ns = ended_ns[order], latency_ns[order]
    first, last = np.searchsorted(ended_ns, [seen.start_ns, seen.end_ns])
    return ended_ns[first:last], latency_ns[first:last]


def _joined(runs: list[ClientRun], name: str) -> Times:
    return np.concatenate([np.frombuffer(getattr(run, name), np.int64) for run in runs])


def _longest_gap(ended_ns: Times, start_ns: int, end_ns: int) -> tuple[int, int]:
    """Where the longest time without the end of an operation ended, and its length."""
    times = np.concatenate([[start_ns], ended_ns, [end_ns]])
    gaps = np.diff(times)
    longest = int(np.argmax(gaps))
    return int(times[longest + 1]), int(gaps[longest])


def _memory(samples: list[tuple[int, list[int | None]]]) -> list[Figures]:
    """The replicas' resident memory when they had committed 1, 2, 5, 10, ... thousand operations, and the last that was seen."""
    marks = (digit * 1_000 * 10**power for power in count() for digit in (1, 2, 5))
    mark = next(marks)
    kept = []
    for sample in samples:
        if sample[0] >= mark or sample is samples[-1]:
            kept.append({"operations": sample[0], "rss_mb": [None if rss is None else rss / 1e6 for rss in sample[1]]})
            mark = next(mark for mark in marks if mark > sample[0])
    return kept


def _after_kill(kill: Kill, ended_ns: Times, latency_ns: Times, seen: Measurement) -> Figures:
    """`gap_ms`: the longest time without results that ended after the kill. `back_in_service_ms`: from the start of the replica's new
    process until it served; None if there is none, or it did not. The rest is of the operations that ended after the kill.
    """
    first = int(np.searchsorted(ended_ns, kill.at_ns))
    before_ns = int(ended_ns[first - 1]) if first else seen.start_ns
    resumed_ns, gap_ns = _longest_gap(ended_ns[first:], before_ns, seen.end_ns)
    return {
        "target": kill.target,
        "replica": kill.replica,
        "at_ms": (kill.at_ns - seen.start_ns) / 1e6,
        "gap_ms": gap_ns / 1e6,
        "resumed_after_ms": (resumed_ns - kill.at_ns) / 1e6,
        "back_in_service_ms": None if kill.back_ns is None or kill.restarted_ns is None else (kill.back_ns - kill.restarted_ns) / 1e6,
        "throughput_ops_s": (len(ended_ns) - first) / ((seen.end_ns - kill.at_ns) / 1e9),
        "latency_us": latencies(latency_ns[first:]),
    }


class _Rates:
    """What one process did in the measured time, from its metrics before and after; nothing if it was not there both times."""

    def __init__(self, before: Metrics | None, after: Metrics | None, seconds: float) -> None:
        self.before: Metrics = before or {}
        self.after: Metrics = after or {}
        self.known = bool(before and after) and self.before.get("pid") == self.after.get("pid")
        self._share = seconds / (self.after["uptime_s"] - self.before["uptime_s"]) if self.known else 0.0

    def increase(self, name: str) -> int:
        """By how much a counter grew between the two readings."""
        return int(self.after.get(name, 0) - self.before.get(name, 0)) if self.known else 0

    def amount(self, name: str) -> float | None:
        """By how much a counter grew in the measured time, to a small part."""
        return self.increase(name) * self._share if self.known else None

    def cpu_us(self) -> float | None:
        """The processor time that was used."""
        return (self.after["cpu_s"] - self.before["cpu_s"]) * self._share * 1e6 if self.known else None

    def ignored(self) -> Counter[str]:
        """Messages ignored, by reason."""
        if not self.known:
            return Counter()
        return Counter(self.after.get("ignored_messages", {})) - Counter(self.before.get("ignored_messages", {}))


def _most(replicas: list[_Rates], name: str) -> int:
    """What happens to the group is counted by each replica that takes part: the one that saw most of it."""
    return max(replica.increase(name) for replica in replicas)


def _total(amounts: Iterable[float | None]) -> float | None:
    """The sum of what is known."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _ignored(nodes: list[_Rates]) -> dict[str, int]:
    total: Counter[str] = sum((node.ignored() for node in nodes), Counter())
    return dict(sorted(total.items()))


def _megabytes(metrics: Metrics | None) -> float | None:
    return None if metrics is None else metrics["rss_bytes"] / 1e6


def _known(seen: Measurement) -> list[Metrics]:
    return [metrics for metrics in seen.before if metrics is not None]


_SPREAD = ("throughput_ops_s", "latency_us", "replica_cpu_us_per_op", "client_cpu_us_per_op", "longest_gap_ms", "floor_us", "kill")


def combined(runs: list[Figures]) -> Figures:
    """Several runs as one object: of each number the median, of the most important ones the least and greatest too, and the runs."""
    if len(runs) == 1:
        return runs[0]
    spread = {name: _each(_range, [run[name] for run in runs]) for name in _SPREAD if runs[0].get(name) is not None}
    medians: Figures = _each(_median, runs)
    return medians | {"repeat": len(runs), "spread": spread, "runs": runs}


def _each(of_numbers: Any, values: list[Any]) -> Any:
    """Apply a function to the corresponding numbers of equally built values; of anything else the first stands for all."""
    first = values[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _each(of_numbers, [value[key] for value in values if key in value]) for key in keys}
    if isinstance(first, list) and all(len(value) == len(first) for value in values):
        return [_each(of_numbers, list(items)) for items in zip(*values, strict=True)]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return of_numbers(numbers) if numbers else first


def _median(numbers: list[float]) -> float:
    middle = median(numbers)
    return int(middle) if all(isinstance(number, int) for number in numbers) and middle == int(middle) else middle


def _range(numbers: list[float]) -> list[float]:
    return [min(numbers), max(numbers)]
