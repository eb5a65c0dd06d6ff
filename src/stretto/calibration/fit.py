"""From samples to costs: the costs whose sums come nearest to the processor times that were measured, as relative errors.

This is a least squares fit in which no cost is negative. In most protocols as many messages are received as operations are executed and
messages are sent, so the samples determine only the sum of these costs. The sum is divided in the proportions that the microbenchmarks
found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from stretto.calibration.costs import CLIENT, REPLICA, ROLES, CostFile, Fit
from stretto.calibration.loads import CROWDING, RECEIVE_MESSAGE, Sample, typical
from stretto.calibration.microbenchmarks import Microbenchmarks, run_microbenchmarks
from stretto.simulation.world import Costs

_MICROBENCHMARK_WEIGHT = 0.3
"""The weight of a microbenchmark in the fit, where a sample has 1: small, so that it only decides what the samples leave open."""
_FLAT = 1e-12
"""A gradient below this counts as zero."""

Numbers = npt.NDArray[np.float64]


def calibrate(samples: Sequence[Sample], machine: dict[str, Any]) -> CostFile:
    """The costs of replicas and clients.

    `samples`: all of one calibration. `machine`: what they were measured on, from `stretto.bench.machine.measured_on`.
    """
    microbenchmarks = run_microbenchmarks()
    chosen = typical(samples)
    costs: dict[str, Costs] = {}
    protocols: dict[str, dict[str, int]] = defaultdict(dict)
    crowding: dict[str, int] = {}
    fits: dict[str, Fit] = {}
    for role in ROLES:
        found, fits[role] = fit([sample for sample in chosen if sample.role == role], microbenchmarks)
        crowding[role] = round(found.pop(CROWDING, 0.0))
        own = {name: found.pop(name) for name in list(found) if name.startswith(RECEIVE_MESSAGE)}
        for name, cost in own.items():
            protocols[name.partition(" of ")[2]][role] = round(cost)
        found[RECEIVE_MESSAGE] = median(own.values())
        costs[role] = Costs(**{name: round(cost) for name, cost in found.items()})
    return CostFile(costs[REPLICA], costs[CLIENT], crowding, fits, machine, dict(protocols))


def fit(samples: Sequence[Sample], microbenchmarks: Microbenchmarks) -> tuple[dict[str, float], Fit]:
    """The costs that explain the samples best, in nanoseconds by the names of `Costs`, and how well they do.

    Protocols do different work for a message they receive, so each has its own cost of it, named as `receive_message_ns of multipaxos`.
    Minimises the sum of squares of the relative errors. The microbenchmarks, scaled to the size of the samples, take part as
    measurements of little weight.
    """
    counts = [_counts(sample) for sample in samples]
    names = [name for name in dict.fromkeys(name for one in counts for name in one) if any(one.get(name) for one in counts)]
    if CROWDING in names and all(sample.counts[CROWDING] for sample in samples):
        names.remove(CROWDING)  # every burst has it here, so it is a part of burst_ns
    shares = {name: share for name in names if (share := asdict(microbenchmarks).get(name.partition(" ")[0])) is not None}
    rows = np.array([[one.get(name, 0.0) / sample.cpu_ns for name in names] for one, sample in zip(counts, samples, strict=True)])
    scale = _scale(rows, names, shares)
    weak = np.zeros((len(shares), len(names)))
    for row, (name, share) in enumerate(shares.items()):
        weak[row, names.index(name)] = _MICROBENCHMARK_WEIGHT / (scale * share)
    targets = np.concatenate([np.ones(len(rows)), np.full(len(shares), _MICROBENCHMARK_WEIGHT)])
    costs = nonnegative_least_squares(np.vstack([rows, weak]), targets)
    errors = np.abs(rows @ costs - 1)
    quality = Fit(len(rows), round(float(np.sqrt(np.mean(errors**2))), 4), round(float(errors.max()), 4))
    return dict(zip(names, costs.tolist(), strict=True)), quality


def _counts(sample: Sample) -> dict[str, float]:
    counts = dict(sample.counts)
    counts[f"{RECEIVE_MESSAGE} of {sample.load.protocol}"] = counts.pop(RECEIVE_MESSAGE)
    return counts


def _scale(rows: Numbers, names: list[str], shares: dict[str, float]) -> float:
    """How many times greater the costs are in the samples than in the microbenchmarks, if their proportions are those of `shares`."""
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
