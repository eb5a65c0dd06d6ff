"""Random arrivals and delays as arrays: what `traffic` describes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stretto.network.model.queues import Times
from stretto.network.routes import weight

LOGNORMAL_SIGMA = 1.5
_PACKETS = 32_768
"""How many packets are drawn at a time. Packets up to a moment do not depend on how many are drawn after it."""


def generator(*parts: object) -> np.random.Generator:
    """A random generator for everything that has a name of its own."""
    return np.random.Generator(np.random.SFC64(weight(*parts)))


def no_packets() -> Times:
    """The arrivals where nothing arrives."""
    return np.zeros(0, np.int64)


def exponential(random: np.random.Generator, mean_ps: int, number: int) -> Times:
    """So many independent times around a mean; zeros if the mean is 0."""
    if not mean_ps:
        return np.zeros(number, np.int64)
    return (random.standard_exponential(number) * mean_ps).astype(np.int64)


def poisson(random: np.random.Generator, sending_ps: Sequence[int], load: float, start_ps: int, end_ps: int) -> tuple[Times, Times]:
    """Packets with exponential gaps: when they arrive, and how long each takes to send. `sending_ps`: that time for each size."""
    times = np.array(sending_ps)
    gap_ps = times.mean() / load
    by_byte = np.repeat(times, 128)
    room = int((end_ps - start_ps) / gap_ps * 1.1) + _PACKETS
    arrivals, transmissions = np.empty(room, np.int64), np.empty(room, np.int64)
    gaps = np.empty(_PACKETS, np.float32)
    now, filled = start_ps, 0
    while now < end_ps:
        if filled + _PACKETS > len(arrivals):
            arrivals, transmissions = (np.concatenate((array, np.empty_like(array))) for array in (arrivals, transmissions))
        random.standard_exponential(dtype=np.float32, out=gaps)
        gaps *= np.float32(gap_ps)
        block = arrivals[filled : filled + _PACKETS]
        block[:] = gaps
        block[0] += now
        np.cumsum(block, out=block)
        now = int(block[-1])
        transmissions[filled : filled + _PACKETS] = by_byte[random.integers(0, 256, _PACKETS, dtype=np.uint8)]
        filled += _PACKETS
    ready = int(np.searchsorted(arrivals[:filled], end_ps))
    return arrivals[:ready], transmissions[:ready]


def onoff(
    random: np.random.Generator,
    sending_ps: Sequence[int],
    spacing_ps: Sequence[int],
    mean_packets: float,
    load: float,
    start_ps: int,
    end_ps: int,
) -> tuple[Times, Times]:
    """Packets in bursts. `spacing_ps`: how long after the one before a packet of each size comes; `mean_packets`: in a burst.

    A burst that is slower than the link arrives slower than it leaves; a faster one queues.
    """
    times, spacing = np.array(sending_ps), np.array(spacing_ps)
    gap_ps = times.mean() / load
    bursts = max(16, int(_PACKETS / mean_packets))
    location = np.log(mean_packets) - LOGNORMAL_SIGMA**2 / 2
    # Rounding up adds about half a packet to a burst; the time between bursts is that of what really comes.
    mean = float(np.ceil(np.exp(generator("burst").standard_normal(100_000) * LOGNORMAL_SIGMA + location)).mean())
    spacing_by_byte, times_by_byte = np.repeat(spacing, 128), np.repeat(times, 128)
    now = start_ps
    waiting = np.zeros(0, np.int64)
    sorted_keys: list[Times] = []
    while now < end_ps:
        begins = now + np.cumsum((random.standard_exponential(bursts) * (gap_ps * mean)).astype(np.int64))
        counts = np.ceil(np.exp(random.standard_normal(bursts) * LOGNORMAL_SIGMA + location)).astype(np.int64)
        size = random.integers(0, 256, counts.sum(), dtype=np.uint8)
        keys = np.cumsum(spacing_by_byte[size])
        keys -= np.repeat(keys[np.cumsum(counts) - counts] - begins, counts)
        # The byte that decides the size rides in the lowest bits of the time through the sort.
        keys <<= 8
        keys |= size
        keys = np.concatenate((waiting, keys))
        keys.sort()
        now = int(begins[-1])
        ready = int(np.searchsorted(keys, now << 8))
        sorted_keys.append(keys[:ready])
        waiting = keys[ready:]
    keys = np.concatenate(sorted_keys)
    keys = keys[: np.searchsorted(keys, end_ps << 8)]
    transmissions = times_by_byte[keys.astype(np.uint8)]
    keys >>= 8
    return keys, transmissions
