"""From what was seen to one flat object of figures, and from several of those to their medians."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from statistics import fmean, median
from typing import Any

import numpy as np

from stretto.bench.histogram import PERCENTILES, Histogram, Times, merged
from stretto.bench.measure import Kill, Measurement, Metrics, leader_of
from stretto.bench.plan import Plan
from stretto.bench.recording import Recorded, Timeline
from stretto.core.config import ClusterConfig

Figures = dict[str, Any]


def percentile_us(latencies_ns: Times, fraction: float) -> float | None:
    """The smallest recorded latency that at least this fraction of all does not exceed (nearest rank), in microseconds; None of none.

    It is exact: nothing is put in buckets or interpolated.
    """
    if not len(latencies_ns):
        return None
    rank = max(1, int(np.ceil(fraction * len(latencies_ns))))
    return float(np.partition(latencies_ns, rank - 1)[rank - 1]) / 1e3


def latencies(latencies_ns: Times) -> Figures:
    """Exact percentiles and maximum, in microseconds, of latencies that are all at hand: those of a simulation."""
    figures: Figures = {name: percentile_us(latencies_ns, fraction) for name, fraction in PERCENTILES.items()}
    return figures | {"max": percentile_us(latencies_ns, 1.0)}


def cpu_of_leader_us(leader: int | None, of_replicas: Sequence[float | None]) -> float | None:
    """The leader's processor time an operation, of that of all replicas; None if it is not known, or not known who leads."""
    return None if leader is None else of_replicas[leader]


def cpu_of_followers_us(leader: int | None, of_replicas: Sequence[float | None]) -> float | None:
    """The mean of what is known of the others; None of none."""
    known = [cpu for index, cpu in enumerate(of_replicas) if leader is not None and index != leader and cpu is not None]
    return fmean(known) if known else None


def figures_of(plan: Plan, config: ClusterConfig, seen: Measurement) -> Figures:
    """All figures of one measurement.

    An operation counts if its result came in the measured time. Counters of processes are read a little before and after; they become
    rates by each process's own clock, so that this does not matter.
    """
    seconds = (seen.end_ns - seen.start_ns) / 1e9
    recorded = _recorded(seen)
    latency = merged([recorded.before, recorded.after])
    operations = latency.total
    replicas = [_Rates(before, after, seconds) for before, after in zip(seen.before, seen.after, strict=True)]
    clients = [_Rates(run.before, run.after, seconds) for run in seen.clients]
    reconciliations = _most(replicas, "reconciliations")

    def per_operation(amount: float | None) -> float | None:
        return None if amount is None or not operations else amount / operations

    return {
        "protocol": config.protocol,
        "replicas": config.n,
        "durability": config.durability,
        "client_processes": plan.client_processes,
        "sessions": plan.sessions,
        "rate_ops_s": plan.rate_ops_s,
        "seed": plan.seed,
        "warm_up_s": plan.warm_up_s,
        "seconds": plan.seconds,
        "operation": plan.operation,
        "one_request_per_datagram": plan.one_request_per_datagram,
        "one_order": plan.one_order,
        "restart": plan.restart,
        "operations": operations,
        "throughput_ops_s": operations / seconds,
        "operations_by_second": recorded.timeline.by_second.tolist(),
        "latency_us": latency.summary_us(),
        "wait_us": None if plan.rate_ops_s is None else recorded.waits.summary_us(),
        "longest_gap_ms": recorded.timeline.longest_gap()[1] / 1e6,
        "oldest_call_ms": max(run.oldest_call_ns for run in seen.clients) / 1e6,
        "leader": leader_of(seen.after),
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
        "failures": dict(recorded.failures),
        "ignored_messages": _ignored(replicas),
        "ignored_messages_of_clients": _ignored(clients),
        "replica_rss_mb": {
            "start": [_megabytes(metrics) for metrics in seen.before],
            "end": [_megabytes(metrics) for metrics in seen.after],
        },
        "memory": _memory(seen.memory),
        "kill": None if seen.kill is None else _after_kill(seen.kill, recorded, seen),
        "batched_sockets": all(metrics["batched_sockets"] for metrics in seen.before if metrics is not None),
        "latency_histogram": latency.to_json(),
    }


def _recorded(seen: Measurement) -> Recorded:
    """What all client processes recorded, as one."""
    whole = Recorded(Timeline(seen.start_ns, seen.end_ns))
    for run in seen.clients:
        whole.add(run.recorded)
    return whole


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


def _after_kill(kill: Kill, recorded: Recorded, seen: Measurement) -> Figures:
    """`gap_ms`: the longest time without results that ended after the kill. `back_in_service_ms`: from the start of the replica's new
    process until it served; None if there is none, or it did not. The rest is of the operations that ended after the kill.
    """
    resumed_ns, gap_ns = recorded.timeline.longest_gap(kill.at_ns)
    return {
        "target": kill.target,
        "replica": kill.replica,
        "at_ms": (kill.at_ns - seen.start_ns) / 1e6,
        "gap_ms": gap_ns / 1e6,
        "resumed_after_ms": (resumed_ns - kill.at_ns) / 1e6,
        "back_in_service_ms": None if kill.back_ns is None or kill.restarted_ns is None else (kill.back_ns - kill.restarted_ns) / 1e6,
        "throughput_ops_s": recorded.after.total / ((seen.end_ns - kill.at_ns) / 1e9),
        "latency_us": recorded.after.summary_us(),
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


_SPREAD = (
    *("throughput_ops_s", "latency_us", "wait_us", "replica_cpu_us_per_op", "client_cpu_us_per_op"),
    *("datagrams_per_op", "longest_gap_ms", "latency_floor_us", "kill"),
)
_NO_FIGURES = ("seed", "leader", "latency_histogram")


def combined(runs: list[Figures]) -> Figures:
    """Several runs as one object: of each number the median, of the most important ones the least and greatest too, and the runs.

    The histogram is that of all operations of all runs, `leader` None unless it was always the same, `seed` that of the first run.
    """
    if len(runs) == 1:
        return runs[0]
    figures = [{name: value for name, value in run.items() if name not in _NO_FIGURES} for run in runs]
    spread = {name: _each(_range, [run[name] for run in figures]) for name in _SPREAD if figures[0].get(name) is not None}
    medians: Figures = _each(_median, figures)
    leaders = {run["leader"] for run in runs}
    histogram = merged([Histogram.from_json(run["latency_histogram"]) for run in runs])
    return medians | {
        "seed": runs[0]["seed"],
        "leader": leaders.pop() if len(leaders) == 1 else None,
        "latency_histogram": histogram.to_json(),
        "repeat": len(runs),
        "spread": spread,
        "runs": runs,
    }


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
