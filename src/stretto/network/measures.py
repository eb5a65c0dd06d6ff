"""How far receivers disagree about the order of messages, and how late they have them.

A receiver is the array of the moments at which it had each message, NEVER for those that it had not. Two receivers are compared by the
messages that both had: the `sequence` of a receiver against a reference is the positions, in the reference's order, of the messages as
the receiver had them. In order, it is 0, 1, 2, ...

    overtaken   the share of messages that come after one which the reference had later (RFC 4737, section 3)
    pairwise    the share of pairs of messages that the two had in different orders
    lis         1 - the longest rising subsequence over the length (Geng et al., VLDB 2023)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from stretto.network.model.queues import NEVER, Times

PS_PER_US = 1_000_000


class Disagreement(msgspec.Struct, frozen=True):
    """The three shares, 0 to 1."""

    overtaken: float
    pairwise: float
    lis: float


def sequence(reference: Times, receiver: Times) -> NDArray[np.int64]:
    """The messages that both had, as `receiver` had them, each by its position in the order of `reference`."""
    both = np.flatnonzero((reference != NEVER) & (receiver != NEVER))
    position = np.empty(len(both), np.int64)
    position[np.argsort(reference[both], kind="stable")] = np.arange(len(both))
    return position[np.argsort(receiver[both], kind="stable")]


def overtaken(positions: NDArray[np.int64]) -> float:
    """The share of messages that come after one with a higher position."""
    return float((positions < np.maximum.accumulate(positions)).mean()) if len(positions) else 0.0


def pairwise(positions: NDArray[np.int64]) -> float:
    """The share of pairs in falling order. `positions` are 0 to n-1 in some order.

    A bit at a time, from the highest: among positions that agree in the bits above, each pair of a one before a zero falls.
    """
    n = len(positions)
    if n < 2:
        return 0.0
    falling = 0
    current = positions
    for bit in range((n - 1).bit_length() - 1, -1, -1):
        above = current >> (bit + 1)
        current = current[np.argsort(above, kind="stable")]
        ones = (current >> bit) & 1
        before = np.cumsum(ones) - ones
        block = current >> (bit + 1)
        first = np.searchsorted(block, block, "left")
        falling += int(((before - before[first]) * (1 - ones)).sum())
    return falling / (n * (n - 1) / 2)


def lis(positions: NDArray[np.int64]) -> float:
    """1 - the length of the longest rising subsequence over the length."""
    ends: list[int] = []
    for position in positions.tolist():
        if not ends or position > ends[-1]:
            ends.append(position)
        else:
            ends[bisect_left(ends, position)] = position
    return 1 - len(ends) / len(positions) if len(positions) else 0.0


def between(reference: Times, receiver: Times) -> Disagreement:
    """The three shares of one receiver against another."""
    positions = sequence(reference, receiver)
    return Disagreement(overtaken(positions), pairwise(positions), lis(positions))


def by_pair(receivers: Sequence[Times]) -> dict[tuple[int, int], Disagreement]:
    """Every receiver (second index) against every one listed before it (first index)."""
    return {(i, j): between(receivers[i], receivers[j]) for i, j in combinations(range(len(receivers)), 2)}


def of_group(receivers: Sequence[Times]) -> Disagreement:
    """The group's shares: `overtaken` and `lis` against its first receiver, mean over the others; `pairwise` the mean over all pairs."""
    pairs = by_pair(receivers)
    if not pairs:
        return Disagreement(0.0, 0.0, 0.0)
    against_first = [pair for (reference, _), pair in pairs.items() if reference == 0]
    return Disagreement(
        float(np.mean([pair.overtaken for pair in against_first])),
        float(np.mean([pair.pairwise for pair in pairs.values()])),
        float(np.mean([pair.lis for pair in against_first])),
    )


def loss(receivers: Sequence[Times]) -> float:
    """The share of copies that did not arrive."""
    return float(np.mean([(receiver == NEVER).mean() for receiver in receivers]))


def latencies_us(receivers: Sequence[Times], sent: Times) -> NDArray[np.float64]:
    """All one-way latencies, in microseconds."""
    return np.concatenate([(receiver - sent)[receiver != NEVER] for receiver in receivers]) / PS_PER_US


def spreads_us(receivers: Sequence[Times]) -> NDArray[np.float64]:
    """For each message that all had, the time between the first and the last, in microseconds."""
    table = np.vstack(receivers)
    whole = table[:, (table != NEVER).all(axis=0)]
    spread: NDArray[np.float64] = (whole.max(axis=0) - whole.min(axis=0)) / PS_PER_US
    return spread


def quorum_times(receivers: Sequence[Times], quorum: int) -> Times:
    """When the `quorum`-th receiver had each message; NEVER if fewer had it."""
    times: Times = np.sort(np.vstack(receivers), axis=0)[quorum - 1]
    return times


def added_us(times: Times, baseline: Times) -> NDArray[np.float64]:
    """How much longer than in `baseline` each message took to its quorum, in microseconds, for those that had one in both."""
    both = (times != NEVER) & (baseline != NEVER)
    added: NDArray[np.float64] = (times[both] - baseline[both]) / PS_PER_US
    return added
