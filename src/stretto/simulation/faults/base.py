"""The base of all faults: a fault begins and ends repeatedly, with a strength that is drawn each time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

import msgspec

from stretto.core.node import Address
from stretto.simulation.lifecycle import Lifecycle
from stretto.simulation.network import Deliver, Network
from stretto.simulation.world import Machine, World

Copies: TypeAlias = list[tuple[Address, int]]
Tampering: TypeAlias = Callable[[Address, Copies], Copies]
"""Changes the copies of a sender's datagram: where they arrive, and when."""

MICROSECOND = 1_000
MILLISECOND = 1_000_000
NETWORK: Address = -1
SHORTEST_NS = 10 * MICROSECOND


def log_uniform(random: Random, low: float, high: float) -> float:
    """A random number from `low` to `high` that is equally likely in each order of magnitude."""
    return float(low * (high / low) ** random.random())


class FaultyNetwork:
    """A network with the faults that are active at the moment."""

    def __init__(self, network: Network) -> None:
        self.tamperings: list[Tampering] = []
        self._network = network
        self.at_once = network.at_once

    def carry(self, leaves_ns: int, source: Address, destination: Address, size: int, deliver: Deliver) -> None:
        """See `stretto.simulation.network.Network`."""

        def tamper(receiver: Address, arrives_ns: int) -> None:
            copies = [(receiver, arrives_ns)]
            for tampering in self.tamperings:
                copies = tampering(source, copies)
            for copy in copies:
                deliver(*copy)

        self._network.carry(leaves_ns, source, destination, size, tamper if self.tamperings else deliver)


class Stricken:
    """What faults can strike: the network, the replicas' machines and their lifecycle, and the machines of sequencers and clients."""

    def __init__(
        self,
        world: World,
        network: FaultyNetwork,
        lifecycle: Lifecycle,
        clients: Sequence[Machine],
        sequencers: Sequence[Machine] = (),
        begin_sequencer: Callable[[Machine], None] = lambda machine: None,
    ) -> None:
        self.world = world
        self.network = network
        self.lifecycle = lifecycle
        self.replicas = lifecycle.replicas
        self.sequencers = list(sequencers)
        self.begin_sequencer = begin_sequencer
        self.machines = [*lifecycle.replicas, *sequencers, *clients]


class Strength(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The strength of a fault, relative to its usual strength.

    - `frequency`: the times between two strikes are divided by this;
    - `duration`: the duration of a strike is multiplied by this;
    - `severity`, from 0 to 1: the share of the usual range, in orders of magnitude from the mildest on, from which the fault draws.
    """

    frequency: float = 1.0
    duration: float = 1.0
    severity: float = 1.0


class Fault(ABC):
    """One kind of fault. `begin` draws the details of a strike, strikes, and returns them; `end` undoes it.

    `end` is not called for a fault that is `for_good`.
    """

    for_good = False

    needs_disk = False
    """Whether the fault needs machines with a disk."""

    needs_sequencer = False
    """Whether the fault needs sequencers."""

    longest_ns = 200 * MILLISECOND
    longest_rest_ns = 20 * MILLISECOND
    """The longest strike and the longest rest; lengths are drawn log-uniformly from `SHORTEST_NS` on."""

    def __init__(self, stricken: Stricken, random: Random, severity: float) -> None:
        self.stricken = stricken
        self.lifecycle = stricken.lifecycle
        self.random = random
        self.target: Address = NETWORK
        self._severity = severity

    @classmethod
    def at_once(cls, lifecycle: Lifecycle) -> int:
        """How many faults of this kind may be active at a time."""
        return 1

    @abstractmethod
    def begin(self) -> dict[str, Any] | None:
        """Strike. Returns the details, for the trace; None if it cannot strike now."""

    @abstractmethod
    def end(self) -> None:
        """Stop."""

    def draw_strength(self, low: float, high: float) -> float:
        """A random number from `low` up to the limit of the fault's severity (at most `high`), equally likely in each order of
        magnitude."""
        return log_uniform(self.random, low, low * (high / low) ** self._severity)


class MachineFault(Fault):
    """A fault of one machine at a time."""

    machine: Machine

    def choose(self, machines: Sequence[Machine]) -> Machine:
        """Draw the machine to strike."""
        self.machine = self.random.choice(machines)
        self.target = self.machine.address
        return self.machine
