"""The scans compared with a loop over single packets, and with the formulas of queueing theory."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from stretto.network.model import queues
from stretto.network.model.queues import NEVER, Times, serve_fifo, serve_priority

UNBOUNDED = 1 << 60


def port(own: Times, own_time: int, other: Times, other_times: Times, capacity: int, priority: bool) -> tuple[list[int], int]:
    """One output port, event by event: first all arrivals of a time, then, if the wire is idle, the next packet by class and order."""
    events: list[tuple[int, int, int, int, int | None]] = [(int(t), 0, i, own_time, i) for i, t in enumerate(own)]
    events += [(int(t), 1, i, int(s), None) for i, (t, s) in enumerate(zip(other, other_times, strict=True))]
    heapq.heapify(events)
    departures = [NEVER] * len(own)
    waiting: dict[int, list[tuple[int, int, int, int | None]]] = {0: [], 1: []}
    in_service, ends, dropped = 0, -(1 << 62), 0
    while events or any(waiting.values()):
        now = events[0][0] if events else NEVER
        start = ends if any(waiting.values()) else NEVER
        if start < now or (not events):
            in_service = 0 if waiting[0] else 1
            _, _, time, number = waiting[in_service].pop(0)
            ends += time
            if number is not None:
                departures[number] = ends
            continue
        batch = []
        while events and events[0][0] == now:
            batch.append(heapq.heappop(events))
        idle = ends <= now and not any(waiting.values())
        for _, kind, order, time, number in batch:
            cls = kind if priority else 0
            held = sum(packet[2] for packet in waiting[cls]) + (max(0, ends - now) if in_service == cls else 0)
            if held + time > capacity:
                dropped += number is None
            else:
                waiting[cls].append((kind, order, time, number))
        if idle:
            ends = now
    return departures, dropped


@pytest.mark.parametrize("priority", [False, True], ids=["fifo", "priority"])
@pytest.mark.parametrize("capacity", [UNBOUNDED, 60, 25, 12])
def test_equals_the_loop(monkeypatch: pytest.MonkeyPatch, priority: bool, capacity: int) -> None:
    monkeypatch.setattr(queues, "_BLOCK", 7)
    monkeypatch.setattr(queues, "_CALM", 3)
    rng = np.random.default_rng(capacity)
    drops = 0
    for case in range(400):
        n_own, n_other = rng.integers(0, 25), rng.integers(0, 60)
        spread = int(rng.choice([30, 200, 500]))
        own = np.sort(rng.integers(0, spread, n_own))
        other = np.sort(rng.integers(0, spread, n_other))
        times = rng.integers(1, 12, n_other)
        own_time = int(rng.integers(1, 5))
        serve = serve_priority if priority else serve_fifo
        expected, expected_drops = port(own, own_time, other, times, capacity, priority)
        served = serve(own, own_time, other, times, capacity)
        assert served.departures.tolist() == expected, case
        assert served.others_dropped == expected_drops, case
        drops += expected_drops + expected.count(NEVER)
    assert (drops > 0) == (capacity < UNBOUNDED)


def test_many_packets_at_the_same_time() -> None:
    zeros = np.zeros(50, np.int64)
    times = np.full(50, 3)
    assert serve_fifo(zeros, 2, zeros, times, UNBOUNDED).departures.tolist() == list(range(2, 102, 2))
    assert serve_priority(zeros, 2, zeros - 1, times, UNBOUNDED).departures.tolist() == list(range(4, 104, 2))


def poisson(rng: np.random.Generator, rate: float, n: int) -> Times:
    return np.cumsum(rng.exponential(1e6 / rate, n)).astype(np.int64)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("law", ["exponential", "constant", "two sizes"])
def test_mean_wait_is_that_of_pollaczek_and_khinchine(load: float, law: str) -> None:
    """M/M/1, M/D/1 and M/G/1. Our own packets have length 0, so they measure the wait of a random arrival."""
    rng = np.random.default_rng(1)
    n = 1_500_000
    laws = {"exponential": rng.exponential(1e6, n), "constant": np.full(n, 1e6), "two sizes": rng.choice([2e5, 1.8e6], n)}
    times = laws[law].astype(np.int64)
    other = poisson(rng, load, n)
    own = np.sort(rng.integers(0, other[-1], 300_000))
    waits = serve_fifo(own, 0, other, times, UNBOUNDED).departures - own
    expected = load * (times.astype(float) ** 2).mean() / times.mean() ** 2 / (2 * (1 - load)) * 1e6
    assert waits.mean() == pytest.approx(expected, rel=0.05)


def test_priority_waits_are_those_of_the_formula() -> None:
    """Cobham (1954): the wait of the high class is the mean residual service time over the idle share of its own class."""
    rng = np.random.default_rng(2)
    n = 1_000_000
    other = poisson(rng, 0.5, n)
    own = np.sort(rng.integers(0, other[-1], 300_000))
    own_load = 300_000 * 4e5 / other[-1]
    waits = serve_priority(own, 400_000, other, np.full(n, 1_000_000), UNBOUNDED).departures - own - 400_000
    residue = 0.5 * 1e6 / 2 + own_load * 4e5 / 2
    assert waits.mean() == pytest.approx(residue / (1 - own_load), rel=0.03)


def test_the_loss_of_a_full_buffer_is_that_of_erlang() -> None:
    """An M/D/1 queue with room for one packet loses the share load / (1 + load)."""
    rng = np.random.default_rng(3)
    other = poisson(rng, 0.7, 200_000)
    served = serve_fifo(other[:0], 1, other, np.full(len(other), 1_000_000), 1_000_000)
    assert served.others_dropped / len(other) == pytest.approx(0.7 / 1.7, rel=0.02)
