"""From one measurement to a flat object of figures, and from several of these to their medians."""

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
    """The smallest latency that at least this fraction of all latencies does not exceed (nearest rank), in microseconds.

    It is exact: there are no buckets and no interpolation. None if there is no latency.
    """
    if not len(latencies_ns):
        return None
    rank = max(1, int(np.ceil(fraction * len(latencies_ns))))
    return float(np.partition(latencies_ns, rank - 1)[rank - 1]) / 1e3


def latencies(latencies_ns: Times) -> Figures:
    """Exact percentiles and maximum, in microseconds, of latencies that are all in memory, as those of a simulation are."""
    figures: Figures = {name: percentile_us(latencies_ns, fraction) for name, fraction in PERCENTILES.items()}
    return figures | {"max": percentile_us(latencies_ns, 1.0)}


def cpu_of_leader_us(leader: int | None, of_replicas: Sequence[float | None]) -> float | None:
    """The processor time of the leader for one operation, chosen from that of all replicas; None if it or the leader is not known."""
    return None if leader is None else of_replicas[leader]


def cpu_of_followers_us(leader: int | None, of_replicas: Sequence[float | None]) -> float | None:
    """The mean over the followers whose processor time is known; None if it is known of none."""
    known = [cpu for index, cpu in enumerate(of_replicas) if leader is not None and index != leader and cpu is not None]
    return fmean(known) if known else None


def figures_of(plan: Plan, config: ClusterConfig, seen: Measurement) -> Figures:
    """All figures of one measurement.

    An operation counts if its result came in the measured time. The counters of a process are read a little before and a little after it;
    its own clock turns them into rates, so this difference does not matter.
    """
    seconds = (seen.end_ns - seen.start_ns) / 1e9
    recorded = _recorded(seen)
    latency = merged([recorded.before, recorded.after])
    replicas = [_Rates(before, after, seconds) for before, after in zip(seen.before, seen.after, strict=True)]
    clients = [_Rates(run.before, run.after, seconds) for run in seen.clients]
    return {
        **_conditions(plan, config),
        "operations": latency.total,
        "throughput_ops_s": latency.total / seconds,
        "operations_by_second": recorded.timeline.by_second.tolist(),
        "latency_us": latency.summary_us(),
        "wait_us": None if plan.rate_ops_s is None else recorded.waits.summary_us(),
        "longest_gap_ms": recorded.timeline.longest_gap()[1] / 1e6,
        "oldest_call_ms": max(run.oldest_call_ns for run in seen.clients) / 1e6,
        "leader": leader_of(seen.after),
        **_work(replicas, clients, latency.total),
        **_events(replicas, clients, seconds),
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


def _conditions(plan: Plan, config: ClusterConfig) -> Figures:
    """The settings of a measurement."""
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
    }


def _work(replicas: Sequence[_Rates], clients: Sequence[_Rates], operations: int) -> Figures:
    """What processes did for one operation: processor time, disk writes, datagrams; and their longest interruptions."""

    def per_operation(amount: float | None) -> float | None:
        return None if amount is None or not operations else amount / operations

    return {
        "replica_cpu_us_per_op": [per_operation(replica.cpu_us()) for replica in replicas],
        "client_cpu_us_per_op": per_operation(_total(client.cpu_us() for client in clients)),
        "replica_collections": [replica.increase("collections") for replica in replicas],
        "fsyncs_per_op": [per_operation(replica.amount("fsyncs")) for replica in replicas],
        "bytes_persisted_per_op": [per_operation(replica.amount("bytes_persisted")) for replica in replicas],
        "fsync_us": [replica.after.get("fsync_us") for replica in replicas],
        "longest_checkpoint_pause_us": [replica.after.get("longest_checkpoint_pause_us") for replica in replicas],
        "datagrams_per_op": per_operation(_total(node.amount("datagrams_sent") for node in [*replicas, *clients])),
    }


def _events(replicas: Sequence[_Rates], clients: Sequence[_Rates], seconds: float) -> Figures:
    """How often the protocol left its normal case."""
    reconciliations = _most(replicas, "reconciliations")
    return {
        "view_changes": _most(replicas, "view_changes"),
        "reconciliations": reconciliations,
        "reconciliations_per_s": reconciliations / seconds,
        "repairs": _most(replicas, "repairs"),
        "rolled_back_operations": round(_total(replica.amount("rolled_back_operations") for replica in replicas) or 0),
        "retransmissions": round(_total(client.amount("retransmissions") for client in clients) or 0),
    }


def _recorded(seen: Measurement) -> Recorded:
    """The recordings of all client processes, added up."""
    whole = Recorded(Timeline(seen.start_ns, seen.end_ns))
    for run in seen.clients:
        whole.add(run.recorded)
    return whole


def _memory(samples: list[tuple[int, list[int | None]]]) -> list[Figures]:
    """The resident memory of the replicas when they had committed 1, 2, 5, 10, ... thousand operations, and at the last sample."""
    marks = (digit * 1_000 * 10**power for power in count() for digit in (1, 2, 5))
    mark = next(marks)
    kept = []
    for sample in samples:
        if sample[0] >= mark or sample is samples[-1]:
            kept.append({"operations": sample[0], "rss_mb": [None if rss is None else rss / 1e6 for rss in sample[1]]})
            mark = next(mark for mark in marks if mark > sample[0])
    return kept


def _after_kill(kill: Kill, recorded: Recorded, seen: Measurement) -> Figures:
    """The figures of the time after a kill.

    `gap_ms`: the longest time without results that ended after the kill. `back_in_service_ms`: the time from the start of the new process
    of the replica until it serves; None if it was not restarted or did not serve again. Throughput and latency are those of the operations
    that ended after the kill.
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
    """What one process did in the measured time, from its metrics before and after.

    All amounts are unknown if the process did not answer both times, or was restarted in between.
    """

    def __init__(self, before: Metrics | None, after: Metrics | None, seconds: float) -> None:
        self.before: Metrics = before or {}
        self.after: Metrics = after or {}
        self.known = bool(before and after) and self.before.get("pid") == self.after.get("pid")
        self._share = seconds / (self.after["uptime_s"] - self.before["uptime_s"]) if self.known else 0.0

    def increase(self, name: str) -> int:
        """By how much a counter grew between the two readings."""
        return int(self.after.get(name, 0) - self.before.get(name, 0)) if self.known else 0

    def amount(self, name: str) -> float | None:
        """By how much a counter grew in the measured time: its increase, scaled from the time between the readings."""
        return self.increase(name) * self._share if self.known else None

    def cpu_us(self) -> float | None:
        """The processor time that the process used, in microseconds; None if unknown."""
        return (self.after["cpu_s"] - self.before["cpu_s"]) * self._share * 1e6 if self.known else None

    def ignored(self) -> Counter[str]:
        """The number of ignored messages by reason."""
        if not self.known:
            return Counter()
        return Counter(self.after.get("ignored_messages", {})) - Counter(self.before.get("ignored_messages", {}))


def _most(replicas: Sequence[_Rates], name: str) -> int:
    """An event of the group is counted by each replica that takes part in it, so the greatest count is taken."""
    return max(replica.increase(name) for replica in replicas)


def _total(amounts: Iterable[float | None]) -> float | None:
    """The sum of the amounts that are known; None if none is."""
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
    """Several runs as one object: the median of each number, the least and greatest of the main ones (`spread`), and the single `runs`.

    The histogram contains the operations of all runs. `leader` is None unless it was the same in all runs. `seed` is that of the first run.
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
    """Apply a function to the corresponding numbers of values with the same structure. Of anything else, the first is taken."""
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
