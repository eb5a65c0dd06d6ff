"""The background traffic of a port, and the jitter of hosts. Both are determined by a seed and by the port or host.

poisson: packets of two sizes in equal numbers, 200 and 1,400 bytes, which are the most frequent in data centres (Benson, Akella and Maltz,
IMC 2010), and 38 bytes of frame each. The times between packets are exponential.

onoff: the same packets in bursts. A burst is a host that sends at its full rate; its number of packets is lognormal (the distribution that
the same measurements fit to on-periods). Bursts begin at random times, like those of many hosts. A port carries the sum of all bursts.

Stacks: sending and receiving hosts delay each message by an exponential time.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from stretto.core.errors import ConfigurationError
from stretto.network.model.queues import Times
from stretto.network.routes import weight
from stretto.network.topology import PS_PER_S, Wire

BURSTS = ("poisson", "onoff")
SIZES_BYTES = (238, 1_438)
MEAN_BYTES = sum(SIZES_BYTES) / 2
LOGNORMAL_SIGMA = 1.5
_PACKETS = 32_768
"""How many packets are drawn at a time. The packets up to a time do not depend on how far beyond it they are drawn."""


def generator(*parts: object) -> np.random.Generator:
    """A separate random generator for each name."""
    return np.random.Generator(np.random.SFC64(weight(*parts)))


class Background(msgspec.Struct, frozen=True):
    """Background traffic.

    - `load`: its share of each link's rate, from 0 to below 1;
    - `bursts`: its distribution in time;
    - `burst_packets`: the mean number of packets in a burst;
    - `burst_rate_bps`: the rate within a burst, in bits per second;
    - `ports`: the ports (node and number) that have it; None means all.
    """

    load: float
    bursts: Literal["poisson", "onoff"] = "poisson"
    burst_packets: float = 16
    burst_rate_bps: int = 10**9
    seed: int = 0
    ports: frozenset[tuple[str, int]] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.load < 1:
            raise ConfigurationError(f"{self.load} is not a load; 0 or more and below 1", key="load")
        if self.bursts not in BURSTS:
            raise ConfigurationError(f"{self.bursts!r} is not a kind of bursts; one of {', '.join(BURSTS)}", key="bursts")
        if not 1 <= self.burst_packets <= 100_000:
            raise ConfigurationError(f"{self.burst_packets} is not a number of packets; 1 to 100000", key="burst_packets")

    def packets(self, node: str, port: int, wire: Wire, start_ps: int, end_ps: int) -> tuple[Times, Times]:
        """The packets that arrive at the output queue of `node:port` from `start_ps` to before `end_ps`: arrival and transmission times."""
        if not self.load or end_ps <= start_ps or (self.ports is not None and (node, port) not in self.ports):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        random = generator("background", self.seed, node, port)
        times = np.array([wire.transmission_ps(size) for size in SIZES_BYTES])
        if self.bursts == "poisson":
            return _poisson(random, times, times.mean() / self.load, start_ps, end_ps)
        # A burst that is slower than the link never queues by itself; a faster one does.
        spacing = np.array([size * 8 * PS_PER_S // self.burst_rate_bps for size in SIZES_BYTES])
        return _onoff(random, times, spacing, self.burst_packets, times.mean() / self.load, start_ps, end_ps)


class Stacks(msgspec.Struct, frozen=True):
    """The jitter of host stacks and network cards: exponential with mean `mean_ps`; 0 for none."""

    mean_ps: int = 0
    seed: int = 0

    def sending(self, messages: int) -> Times:
        """How long each message stays in its sender's stack."""
        return self._draw("sending", "", messages)

    def receiving(self, host: str, messages: int) -> Times:
        """How long each message stays in the stack of `host` after its last bit has arrived."""
        return self._draw("receiving", host, messages)

    def _draw(self, side: str, host: str, messages: int) -> Times:
        if not self.mean_ps:
            return np.zeros(messages, np.int64)
        return (generator("stack", self.seed, side, host).standard_exponential(messages) * self.mean_ps).astype(np.int64)


def _poisson(random: np.random.Generator, times: Times, gap_ps: float, start_ps: int, end_ps: int) -> tuple[Times, Times]:
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


def _onoff(
    random: np.random.Generator, times: Times, spacing: Times, mean_packets: float, gap_ps: float, start_ps: int, end_ps: int
) -> tuple[Times, Times]:
    bursts = max(16, int(_PACKETS / mean_packets))
    location = np.log(mean_packets) - LOGNORMAL_SIGMA**2 / 2
    # Rounding up adds about half a packet to a burst, so the time between bursts is computed from the real mean.
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
        # The byte that determines the size is kept in the lowest bits of the time during the sort.
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
