"""The background traffic of a port, and the jitter of hosts. Both are determined by a seed and by the port or host.

poisson: packets of two sizes in equal numbers, 200 and 1,400 bytes, which are the most frequent in data centres (Benson, Akella and Maltz,
IMC 2010), and 38 bytes of frame each. The times between packets are exponential.

onoff: the same packets in bursts. A burst is a host that sends at its full rate; its number of packets is lognormal (the distribution that
the same measurements fit to on-periods). Bursts begin at random times, like those of many hosts. A port carries the sum of all bursts.

Stacks: sending and receiving hosts hold each message for a time of its own, exponential around a mean.

Here are the settings alone, which can be checked without numpy; `draws` makes the arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.network.topology import PS_PER_S, Wire

if TYPE_CHECKING:
    from stretto.network.model.queues import Times

BURSTS = ("poisson", "onoff")
SIZES_BYTES = (238, 1_438)
MEAN_BYTES = sum(SIZES_BYTES) / 2


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
        """What arrives at the output queue of `node:port` from `start_ps` to before `end_ps`: times, and how long each takes to send."""
        from stretto.network.model import draws

        if not self.load or end_ps <= start_ps or (self.ports is not None and (node, port) not in self.ports):
            return draws.no_packets(), draws.no_packets()
        random = draws.generator("background", self.seed, node, port)
        sending_ps = [wire.transmission_ps(size) for size in SIZES_BYTES]
        if self.bursts == "poisson":
            return draws.poisson(random, sending_ps, self.load, start_ps, end_ps)
        spacing_ps = [size * 8 * PS_PER_S // self.burst_rate_bps for size in SIZES_BYTES]
        return draws.onoff(random, sending_ps, spacing_ps, self.burst_packets, self.load, start_ps, end_ps)


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
        from stretto.network.model import draws

        return draws.exponential(draws.generator("stack", self.seed, side, host), self.mean_ps, messages)
