"""Latencies in buckets: as near to the exact ones as is said, and they add up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stretto.bench.histogram import LARGEST_NS, PERCENTILES, Histogram, merged
from stretto.bench.report import percentile_us

FRACTIONS = [0.0, 0.001, *PERCENTILES.values(), 0.99999, 1.0]


def of(values: list[int] | np.ndarray) -> Histogram:
    """A histogram of these."""
    histogram = Histogram()
    histogram.record(np.array(values, np.int64))
    return histogram


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_never_too_small_and_less_than_a_thousandth_too_great(seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(12, 3, 10_000).astype(np.int64) + 1
    for fraction, seen in zip(FRACTIONS, of(values).percentiles_us(FRACTIONS), strict=True):
        exact = percentile_us(values, fraction)
        assert exact is not None
        assert seen is not None
        assert exact <= seen < exact * (1 + 1 / 1024)


def test_every_edge_of_a_bucket() -> None:
    for bits in range(1, 42):
        for value in ((1 << bits) - 1, 1 << bits, (1 << bits) + 1):
            [seen] = of([value, 2 * LARGEST_NS]).percentiles_us([0.5])
            assert seen is not None
            assert value <= round(seen * 1e3) < value * (1 + 1 / 1024)


def test_small_ones_and_the_greatest_are_exact() -> None:
    assert of([0, 1, 2_047]).percentiles_us([0.1, 0.5, 1.0]) == [0.0, 0.001, 2.047]
    assert of([7, 123_456_789]).summary_us()["max"] == 123_456.789
    assert of([LARGEST_NS + 5]).summary_us()["max"] == (LARGEST_NS + 5) / 1e3


def test_a_rank_that_is_whole_is_not_rounded_up() -> None:
    assert of(list(range(1, 1_001))).percentiles_us([0.999, 0.9, 0.99]) == [0.999, 0.9, 0.99]


def test_of_none_there_is_none() -> None:
    assert Histogram().summary_us() == {"p50": None, "p90": None, "p99": None, "p999": None, "max": None}


def test_parts_add_up_to_the_whole_and_survive_a_file() -> None:
    values = np.random.default_rng(7).lognormal(12, 2, 3_000).astype(np.int64)
    parts = [Histogram.from_json(json.loads(json.dumps(of(part).to_json()))) for part in np.split(values, 3)]
    assert merged(parts).to_json() == of(values).to_json()
    assert merged(parts).total == 3_000
