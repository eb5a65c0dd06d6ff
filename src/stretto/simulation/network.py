"""Networks that carry datagrams in virtual time: the interface, and plain links as its simplest implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal, Protocol, TypeAlias

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.core.node import Address

GROUP: Address = -1
"""As a destination: every replica but the sender."""


Deliver: TypeAlias = Callable[[Address, int], None]
"""Called for a copy with its receiver and its arrival time in nanoseconds, which is not in the past."""


class Network(Protocol):
    """Decides when and where a datagram arrives. `at_once`: whether the network knows this as soon as the datagram leaves."""

    at_once: bool

    def carry(self, leaves_ns: int, source: Address, destination: Address, size: int, deliver: Deliver) -> None:
        """Carry a datagram of `size` bytes that leaves `source` at that time to `destination`, an address or GROUP.

        `deliver` is called for each copy that arrives, twice if a copy is duplicated: at once, or later in virtual time, when the arrival
        is known.
        """


class Delay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A distribution of delays: `base_ns`, plus a random time whose mean (lognormal: median) is about `spread_ns`.

    - `constant`: always the sum of the two;
    - `uniform`: from `base_ns` to `base_ns` + 2 x `spread_ns`;
    - `exponential`: a long tail;
    - `lognormal`: a longer tail; `sigma` is the deviation of the logarithm.
    """

    kind: Literal["constant", "uniform", "exponential", "lognormal"] = "uniform"
    base_ns: int = 0
    spread_ns: int = 0
    sigma: float = 1.0

    def sampler(self, random: Random) -> Callable[[], int]:
        """A function that draws from the distribution."""
        base, spread, sigma = self.base_ns, self.spread_ns, self.sigma
        draw = random.random
        if self.kind == "constant" or spread == 0:
            constant = base + spread
            return lambda: constant
        if self.kind == "uniform":
            width = 2 * spread
            return lambda: base + int(width * draw())
        if self.kind == "exponential":
            exponential = random.expovariate
            return lambda: base + int(spread * exponential(1.0))
        lognormal = random.lognormvariate
        return lambda: base + int(spread * lognormal(0.0, sigma))


class Links(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long datagrams travel: `transit`, drawn once a datagram, and `skew`, drawn once a copy.

    The copies of a multicast have the same transit time and differ by the skew. So the ratio of `skew` to the time between two multicasts
    decides how often replicas receive them in different orders.

    Other disturbances of a copy have a constant rate (unlike faults, which strike and heal):

    - `loss`: the probability that it does not arrive, of multicasts and of everything else;
    - `reorder`: the probability that a copy of a multicast is delayed, independently of other copies, so that later ones overtake it;
    - `reorder_delay`: how long it is delayed;
    - `spell_ns`: if it is not 0, the network alternates: undisturbed for that long, then disturbed by `loss` and `reorder` for that long.

    Only multicasts are delayed, as in the experiments of the NSDI'15 paper (section 6): protocols depend on the order of multicasts.
    The disturbances apply in a data-centre network too.
    """

    transit: Delay = Delay("uniform", 20_000, 5_000)
    skew: Delay = Delay("uniform", 0, 25)
    loss: float = 0.0
    reorder: float = 0.0
    reorder_delay: Delay = Delay("uniform", 100_000, 50_000)
    spell_ns: int = 0

    @property
    def disturbed(self) -> bool:
        """Whether copies may be lost or delayed."""
        return bool(self.loss or self.reorder)

    def validate(self) -> Links:
        """Check these links and return them. Raises ConfigurationError with the key and what would be right."""
        for name in ("loss", "reorder"):
            if not 0 <= (probability := getattr(self, name)) <= 1:
                raise ConfigurationError(f"{probability} is not a probability; 0 to 1", key=f"links.{name}")
        return self


class DirectNetwork:
    """Every node has a link to every other node; nothing queues and nothing is lost."""

    at_once = True

    def __init__(self, links: Links, group: Sequence[Address], random: Random) -> None:
        self._transit = links.transit.sampler(random)
        self._skew = links.skew.sampler(random)
        self._group = tuple(group)
        self._others = {member: tuple(other for other in group if other != member) for member in group}

    def carry(self, leaves_ns: int, source: Address, destination: Address, size: int, deliver: Deliver) -> None:
        """See `Network`. Every arrival is known at once."""
        skew = self._skew
        sent = leaves_ns + self._transit()
        for receiver in self._others.get(source, self._group) if destination == GROUP else (destination,):
            deliver(receiver, sent + skew())


class DisturbedNetwork:
    """A network with the `loss` and `reorder` of `links`, always or in spells. It has its own random source."""

    def __init__(self, network: Network, links: Links, random: Random) -> None:
        self.at_once = network.at_once
        self._network = network
        self._loss = links.loss
        self._reorder = links.reorder
        self._spell_ns = links.spell_ns
        self._delay = links.reorder_delay.sampler(random)
        self._chance = random.random

    def carry(self, leaves_ns: int, source: Address, destination: Address, size: int, deliver: Deliver) -> None:
        """See `Network`."""
        if self._spell_ns and leaves_ns // self._spell_ns % 2 == 0:
            return self._network.carry(leaves_ns, source, destination, size, deliver)
        chance, loss = self._chance, self._loss
        reorder = self._reorder if destination == GROUP else 0.0

        def disturb(receiver: Address, arrives_ns: int) -> None:
            if loss and chance() < loss:
                return
            if reorder and chance() < reorder:
                arrives_ns += self._delay()
            deliver(receiver, arrives_ns)

        return self._network.carry(leaves_ns, source, destination, size, disturb)
