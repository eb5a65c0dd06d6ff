"""Figures from recorded operations, by hand-made recordings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stretto.bench.clients import ClientRun
from stretto.bench.histogram import Histogram
from stretto.bench.measure import Kill, Measurement
from stretto.bench.plan import Plan
from stretto.bench.recording import Recording
from stretto.bench.report import combined, figures_of, latencies, percentile_us
from stretto.core.config import ClusterConfig, Member
from stretto.core.errors import ClusterUnavailable, RequestTimeout

CONFIG = ClusterConfig(tuple(Member("127.0.0.1", 7000 + index) for index in range(3)))
MS = 1_000_000


def metrics(uptime_s: float, cpu_s: float, **counters: Any) -> dict[str, Any]:
    """What a process tells of itself."""
    return {"uptime_s": uptime_s, "cpu_s": cpu_s, "rss_bytes": 50_000_000, "batched_sockets": True, **counters}


def client_run(ended_ms: list[float], latency_us: float = 1.5, split_ms: float | None = None) -> ClientRun:
    """A client whose operations ended at these times after the start, at 10 s; measured for two seconds."""
    recording = Recording()
    recording.measure(10_000 * MS, 12_000 * MS)
    if split_ms is not None:
        recording.split(10_000 * MS + round(split_ms * MS))
    recording.ended_ns.extend(10_000 * MS + round(at * MS) for at in ended_ms)
    recording.latency_ns.extend([round(latency_us * 1_000)] * len(ended_ms))
    recording.fail(10_500 * MS, RequestTimeout())
    recording.fail(11_000 * MS, RequestTimeout())
    recording.fail(12_500 * MS, ClusterUnavailable())
    recording.count()
    assert recording.recorded is not None
    before, after = metrics(3.0, 1.0, datagrams_sent=0), metrics(5.0, 1.5, datagrams_sent=100)
    return ClientRun(before, after, recording.recorded, 7 * MS)


def measurement(clients: list[ClientRun], kill: Kill | None = None) -> Measurement:
    """Two seconds, three replicas; replica 2 answered no more at the end."""
    before = [metrics(1.0, 0.5, view=0, leader=0, reconciliations=1, ignored_messages={"late": 1}) for _ in range(3)]
    after: list[dict[str, Any] | None] = [
        metrics(5.0, 1.5, view=0, leader=0, reconciliations=5, ignored_messages={"late": 4, "new": 2}),
        metrics(5.0, 1.5, view=1, leader=1, reconciliations=4, ignored_messages={"late": 1}),
        None,
    ]
    return Measurement(10_000 * MS, 12_000 * MS, list(before), after, clients, kill)


def test_a_percentile_is_the_nearest_rank() -> None:
    values = np.array([30, 10, 40, 20], dtype=np.int64) * 1_000
    assert [percentile_us(values, fraction) for fraction in (0.0, 0.25, 0.26, 0.5, 0.75, 0.99, 1.0)] == [10, 10, 20, 20, 30, 40, 40]
    assert percentile_us(values[:0], 0.5) is None
    assert latencies(values) == {"p50": 20, "p90": 40, "p99": 40, "p999": 40, "max": 40}


def test_only_what_ends_in_the_measured_time_counts() -> None:
    figures = figures_of(Plan(seconds=2), CONFIG, measurement([client_run([-1, 0, 500, 1_999]), client_run([1_000, 2_000, 2_500])]))
    assert figures["operations"] == 4
    assert figures["throughput_ops_s"] == 2.0
    assert figures["operations_by_second"] == [2, 2]
    assert figures["longest_gap_ms"] == 999.0


def test_gaps_at_the_edges_count() -> None:
    assert figures_of(Plan(seconds=2), CONFIG, measurement([client_run([700, 800])]))["longest_gap_ms"] == 1_200.0
    assert figures_of(Plan(seconds=2), CONFIG, measurement([client_run([1_500, 1_900])]))["longest_gap_ms"] == 1_500.0


def test_without_operations_there_are_no_figures_of_them() -> None:
    figures = figures_of(Plan(seconds=2), CONFIG, measurement([client_run([])]))
    assert figures["operations"] == 0
    assert figures["operations_by_second"] == [0, 0]
    assert figures["longest_gap_ms"] == 2_000.0
    assert figures["latency_us"] == {"p50": None, "p90": None, "p99": None, "p999": None, "max": None}
    assert figures["client_cpu_us_per_op"] is None


def test_counters_become_rates_by_the_process_s_own_clock() -> None:
    figures = figures_of(Plan(seconds=2), CONFIG, measurement([client_run([float(at) for at in range(1_000)])]))
    # A replica used one second of processor time in four, of which two were measured; the client half a second in two.
    assert figures["replica_cpu_us_per_op"] == [500.0, 500.0, None]
    assert figures["client_cpu_us_per_op"] == 500.0
    assert figures["datagrams_per_op"] == 0.1


def test_what_concerns_the_group_is_counted_once() -> None:
    figures = figures_of(Plan(seconds=2), CONFIG, measurement([client_run([1])]))
    assert figures["reconciliations"] == 4
    assert figures["reconciliations_per_s"] == 2.0
    assert figures["ignored_messages"] == {"late": 3, "new": 2}


def test_failures_are_reported_by_kind() -> None:
    assert figures_of(Plan(seconds=2), CONFIG, measurement([client_run([1])]))["failures"] == {"RequestTimeout": 2}


def test_the_leader_is_that_of_the_highest_view() -> None:
    assert figures_of(Plan(seconds=2), CONFIG, measurement([client_run([1])]))["leader"] == 1


def test_a_kill_is_followed_by_its_gap() -> None:
    clients = [client_run([100, 600, 990, 1_070, 1_080], 1.5, 1_000), client_run([1_090, 1_900], 2, 1_000)]
    kill = figures_of(Plan(seconds=2), CONFIG, measurement(clients, Kill("leader", 1, 11_000 * MS)))["kill"]
    assert kill["at_ms"] == 1_000.0
    assert kill["gap_ms"] == 810.0
    assert kill["resumed_after_ms"] == 900.0
    assert kill["throughput_ops_s"] == 4.0
    assert kill["latency_us"]["p50"] == 1.5
    assert kill["latency_us"]["p99"] == 2.0


def test_a_restart_is_followed_by_its_return() -> None:
    def back(kill: Kill) -> float | None:
        figure: float | None = figures_of(Plan(seconds=2), CONFIG, measurement([client_run([100])], kill))["kill"]["back_in_service_ms"]
        return figure

    assert back(Kill("leader", 1, 11_000 * MS)) is None
    assert back(Kill("leader", 1, 11_000 * MS, restarted_ns=11_010 * MS)) is None
    assert back(Kill("leader", 1, 11_000 * MS, restarted_ns=11_010 * MS, back_ns=11_460 * MS)) == 450.0


def test_a_process_that_was_started_again_has_no_rates() -> None:
    seen = measurement([client_run([100])])
    for metrics, pid in ((seen.before[0], 7), (seen.after[0], 8)):
        assert metrics is not None
        metrics["pid"] = pid
    figures = figures_of(Plan(seconds=2), CONFIG, seen)
    assert [cpu is None for cpu in figures["replica_cpu_us_per_op"]] == [True, False, True]


def test_memory_is_reported_at_1_2_and_5_times_powers_of_ten_and_at_the_end() -> None:
    seen = measurement([client_run([100])])
    counts = [0, 900, 1_000, 1_500, 2_100, 2_400, 30_000, 40_000, 60_000, 61_000]
    seen.memory.extend((count, [1_000_000 + count, None]) for count in counts)
    reported = figures_of(Plan(seconds=2), CONFIG, seen)["memory"]
    assert [one["operations"] for one in reported] == [1_000, 2_100, 30_000, 60_000, 61_000]
    assert reported[0]["rss_mb"] == [1.001, None]


def test_several_runs_become_their_medians() -> None:
    histograms = {number: Histogram() for number in (5, 1, 2)}
    for number, histogram in histograms.items():
        histogram.record(np.array([number]))
    runs = [
        {
            "seed": number,
            "leader": 0,
            "latency_histogram": histograms[number].to_json(),
            "wait_us": None,
            "datagrams_per_op": 0.1,
            "throughput_ops_s": number,
            "latency_us": {"p50": number, "max": None},
            "replica_cpu_us_per_op": [number, None],
            "longest_gap_ms": 1.0,
            "client_cpu_us_per_op": 2.0,
            "latency_floor_us": None,
            "protocol": "speculative",
            "batched_sockets": True,
            "kill": None,
            "failures": {"RequestTimeout": 3} if number == 5 else {},
        }
        for number in (5, 1, 2)
    ]
    figures = combined(runs)
    assert figures["throughput_ops_s"] == 2
    assert figures["latency_us"] == {"p50": 2, "max": None}
    assert figures["replica_cpu_us_per_op"] == [2, None]
    assert figures["protocol"] == "speculative"
    assert figures["batched_sockets"] is True
    assert figures["failures"] == {"RequestTimeout": 3}
    assert figures["spread"]["throughput_ops_s"] == [1, 5]
    assert figures["spread"]["latency_us"]["p50"] == [1, 5]
    assert figures["runs"] == runs
    assert (figures["seed"], figures["leader"]) == (5, 0)
    assert figures["latency_histogram"]["lowest_ns"] == [1, 2, 5]
    assert combined(runs[:1]) is runs[0]


@pytest.mark.parametrize(("sessions", "processes", "expected"), [(7, 3, [3, 2, 2]), (4, 4, [1, 1, 1, 1]), (256, 1, [256])])
def test_sessions_are_split_evenly(sessions: int, processes: int, expected: list[int]) -> None:
    plan = Plan(sessions=sessions, client_processes=processes)
    assert [plan.sessions_of(process) for process in range(processes)] == expected
