"""Latencies in bounded memory: counts in buckets whose width grows with the value, after Gil Tene's HdrHistogram.

Up to 2,048 ns a bucket is one nanosecond wide. Above, each power of two is divided into 1,024 buckets. So a value that is read from the
histogram is less than 1/1024 above the recorded one, from nanoseconds to an hour, with 34,000 counters. Histograms of several processes
or runs can be added.

The package `hdrhistogram` counts one value in each call, in Python, and needs two more packages. Here numpy counts an array of values at
once, which costs a load generator little.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}

_STEPS_BITS = 10
_STEPS = 1 << _STEPS_BITS
_LARGEST_BITS = 42
LARGEST_NS = (1 << _LARGEST_BITS) - 1
"""Longer latencies (above 73 minutes) are counted as this value; the maximum stays exact."""


class Histogram:
    """How often each latency was recorded. `greatest_ns`: the exact maximum."""

    def __init__(self) -> None:
        self.greatest_ns = 0
        self._counts = np.zeros((_LARGEST_BITS - _STEPS_BITS + 1) * _STEPS, np.int64)

    @property
    def total(self) -> int:
        """The number of recorded latencies."""
        return int(self._counts.sum())

    def record(self, latencies_ns: Times) -> None:
        """Count these latencies."""
        if len(latencies_ns):
            self.greatest_ns = max(self.greatest_ns, int(latencies_ns.max()))
            np.add.at(self._counts, _bucket_of(latencies_ns), 1)

    def add(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self.greatest_ns = max(self.greatest_ns, other.greatest_ns)
        self._counts += other._counts

    def percentiles_us(self, fractions: list[float]) -> list[float | None]:
        """For each fraction, the latency that this part of all latencies does not exceed (nearest rank), in microseconds.

        It is the upper end of the bucket of that latency, so it is too great by less than 1/1024 and never too small. None if nothing was
        recorded.
        """
        upto = np.cumsum(self._counts)
        if not upto[-1]:
            return [None] * len(fractions)
        # Not `ceil` of the bare product: 0.999 * 1000 is a little more than 999.
        ranks = np.maximum(1, np.ceil(np.array(fractions) * upto[-1] - 1e-6))
        _, highest = _bounds(np.searchsorted(upto, ranks))
        return [min(int(value), self.greatest_ns) / 1e3 for value in highest]

    def summary_us(self) -> dict[str, float | None]:
        """The usual percentiles and the maximum, in microseconds; None if nothing was recorded."""
        named = dict(zip(PERCENTILES, self.percentiles_us(list(PERCENTILES.values())), strict=True))
        return named | {"max": self.greatest_ns / 1e3 if self.total else None}

    def to_json(self) -> dict[str, Any]:
        """The least latency and the count of each bucket that is not empty, as `from_json` takes them."""
        filled = np.flatnonzero(self._counts)
        lowest, _ = _bounds(filled)
        return {
            "relative_error": 1 / _STEPS,
            "greatest_ns": self.greatest_ns,
            "lowest_ns": lowest.tolist(),
            "counts": self._counts[filled].tolist(),
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Histogram:
        """The histogram that `to_json` described."""
        histogram = cls()
        histogram.greatest_ns = kept["greatest_ns"]
        np.add.at(histogram._counts, _bucket_of(np.array(kept["lowest_ns"], np.int64)), np.array(kept["counts"], np.int64))
        return histogram


def merged(histograms: list[Histogram]) -> Histogram:
    """One histogram with the counts of all."""
    whole = Histogram()
    for histogram in histograms:
        whole.add(histogram)
    return whole


def _bucket_of(values_ns: Times) -> Times:
    values = np.clip(values_ns, 0, LARGEST_NS)
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(bits - (_STEPS_BITS + 1), 0)
    buckets: Times = shift * _STEPS + (values >> shift)
    return buckets


def _bounds(buckets: Times) -> tuple[Times, Times]:
    """The least and the greatest value of each bucket."""
    shift = np.maximum(buckets // _STEPS - 1, 0)
    lowest = (buckets - shift * _STEPS) << shift
    return lowest, lowest + (1 << shift) - 1
