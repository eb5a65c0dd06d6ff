"""What is kept of operations, against what the operations were."""

from __future__ import annotations

import numpy as np
import pytest

from stretto.bench.recording import Recording, Timeline
from stretto.core.errors import RequestTimeout

MS = 1_000_000
START, END = 500 * MS + 17, 2_750 * MS + 17


def recorded(ends: list[int], latencies: list[int], counted_at: tuple[int, ...] = (), split: int | None = None) -> Recording:
    """A recording of these, counted at these times too."""
    recording = Recording()
    recording.measure(START, END)
    if split is not None:
        recording.split(split)
    times = iter([*counted_at, END * 2])
    at = next(times)
    for end, latency in zip(ends, latencies, strict=True):
        while end >= at:
            recording.count(at)
            at = next(times)
        recording.ended_ns.append(end)
        recording.latency_ns.append(latency)
    recording.count()
    return recording


@pytest.mark.parametrize("seed", range(4))
def test_it_makes_no_difference_when_it_is_counted_and_by_how_many_processes(seed: int) -> None:
    random = np.random.default_rng(seed)
    ends = np.sort(random.integers(START - 100 * MS, END + 100 * MS, 300))
    latencies = random.integers(1, 1_000 * MS, 300)
    split = int(random.integers(START, END))
    whole = recorded(ends.tolist(), latencies.tolist(), split=split).recorded
    parts = [recorded(ends[part::3].tolist(), latencies[part::3].tolist(), (START, split, END), split).recorded for part in range(3)]
    assert whole is not None
    together = parts[0]
    assert together is not None
    for part in parts[1:]:
        assert part is not None
        together.add(part)
    inside = (ends >= START) & (ends < END)
    assert whole.before.total == np.sum(inside & (ends < split))
    assert whole.after.total == np.sum(inside & (ends >= split))
    for mine, theirs in ((whole.before, together.before), (whole.after, together.after)):
        assert mine.to_json() == theirs.to_json()
    assert whole.timeline.by_second.tolist() == together.timeline.by_second.tolist()
    assert whole.timeline.by_second.tolist() == np.bincount((ends[inside] - START) // 10**9, minlength=3).tolist()
    edges = np.concatenate([[START], ends[inside], [END]])
    assert whole.timeline.longest_gap()[1] == together.timeline.longest_gap()[1] == np.diff(edges).max()


def test_gaps_that_ended_before_are_left_out() -> None:
    timeline = Timeline(0, 1_000 * MS)
    timeline.record(np.array([10, 400, 410, 700, 950]) * MS)
    assert timeline.longest_gap() == (400 * MS, 390 * MS)
    assert timeline.longest_gap(401 * MS) == (700 * MS, 290 * MS)
    assert timeline.longest_gap(999 * MS) == (1_000 * MS, 50 * MS)


def test_what_is_put_aside_does_not_grow() -> None:
    recording = recorded(list(range(START, START + 1_000)), [5] * 1_000)
    assert len(recording.ended_ns) == len(recording.latency_ns) == 0


def test_before_the_measurement_all_is_thrown_away() -> None:
    recording = Recording()
    recording.ended_ns.append(1)
    recording.latency_ns.append(1)
    recording.fail(1, RequestTimeout())
    recording.count()
    recording.measure(0, 10)
    recording.count()
    assert recording.recorded is not None
    assert recording.recorded.before.total == 0
    assert not recording.recorded.failures
