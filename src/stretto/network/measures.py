"""Measures of how far receivers disagree about the order of messages, and of their latencies.

A receiver is represented by the array of its arrival times, one for each message, NEVER for a message that did not arrive. Two receivers
are compared by the messages that both received. The `sequence` of a receiver against a reference lists these messages in the receiver's
order, each by its position in the reference's order. If the orders are equal, it is 0, 1, 2, ...

    overtaken   the share of messages that come after a message that is later in the reference's order (RFC 4737, section 3)
    pairwise    the share of pairs of messages that the two receivers have in different orders
    lis         1 - the length of the longest increasing subsequence over the length (Geng et al., VLDB 2023)
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
    """The messages that both received, in the order of `receiver`, each by its position in the order of `reference`."""
    both = np.flatnonzero((reference != NEVER) & (receiver != NEVER))
    position = np.empty(len(both), np.int64)
    position[np.argsort(reference[both], kind="stable")] = np.arange(len(both))
    return position[np.argsort(receiver[both], kind="stable")]


def overtaken(positions: NDArray[np.int64]) -> float:
    """The share of messages that come after one with a higher position."""
    return float((positions < np.maximum.accumulate(positions)).mean()) if len(positions) else 0.0


def pairwise(positions: NDArray[np.int64]) -> float:
    """The share of pairs in descending order. `positions` are 0 to n-1 in some order.

    Works bit by bit, from the highest: among positions with equal higher bits, each one before a zero is a descending pair.
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
    """1 - the length of the longest increasing subsequence over the length."""
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
    """The shares of every receiver (second index) against every receiver before it in the list (first index)."""
    return {(i, j): between(receivers[i], receivers[j]) for i, j in combinations(range(len(receivers)), 2)}


def of_group(receivers: Sequence[Times]) -> Disagreement:
    """The group's shares: `overtaken` and `lis` are means over the other receivers against the first, `pairwise` over all pairs."""
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
    """For each message that all received, the time between its first and last arrival, in microseconds."""
    table = np.vstack(receivers)
    whole = table[:, (table != NEVER).all(axis=0)]
    spread: NDArray[np.float64] = (whole.max(axis=0) - whole.min(axis=0)) / PS_PER_US
    return spread


def quorum_times(receivers: Sequence[Times], quorum: int) -> Times:
    """The time at which the `quorum`-th receiver had each message; NEVER if fewer received it."""
    times: Times = np.sort(np.vstack(receivers), axis=0)[quorum - 1]
    return times


def added_us(times: Times, baseline: Times) -> NDArray[np.float64]:
    """The additional time to a quorum compared with `baseline`, in microseconds, for each message with a quorum in both."""
    both = (times != NEVER) & (baseline != NEVER)
    added: NDArray[np.float64] = (times[both] - baseline[both]) / PS_PER_US
    return added
