"""Faults of the network: they change where copies of datagrams arrive, and when."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from stretto.core.node import Address
from stretto.simulation.faults.base import MICROSECOND, MILLISECOND, Copies, Fault, Tampering


class NetworkFault(Fault):
    """A fault that changes how datagrams arrive."""

    def begin(self) -> dict[str, Any]:
        """Draw an effect on datagrams, and apply it from now on."""
        self._tampering, details = self.draw()
        self.stricken.network.tamperings.append(self._tampering)
        return details

    def end(self) -> None:
        """Stop changing datagrams."""
        self.stricken.network.tamperings.remove(self._tampering)

    @abstractmethod
    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """The effect on datagrams this time, and its details for the trace."""


class Loss(NetworkFault):
    """Copies are lost, each with the same probability."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """Lose from one copy in a thousand to four in five."""
        probability = self.draw_strength(0.001, 0.8)
        chance = self.random.random
        return lambda _, copies: [copy for copy in copies if chance() >= probability], {"probability": probability}


class Duplication(NetworkFault):
    """A second copy arrives, a little later or much later."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """Duplicate from one copy in a hundred to one in two, up to 100 ms later."""
        probability = self.draw_strength(0.01, 0.5)
        longest = self.draw_strength(10 * MICROSECOND, 100 * MILLISECOND)
        chance = self.random.random

        def duplicate(_source: Address, copies: Copies) -> Copies:
            again = [(receiver, at + int(longest * chance())) for receiver, at in copies if chance() < probability]
            return copies + again if again else copies

        return duplicate, {"probability": probability, "longest_delay_ns": int(longest)}


class Reordering(NetworkFault):
    """Some copies are delayed, so that later ones overtake them."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """Delay from one copy in a thousand to one in two, at most by 1 us to 20 ms."""
        probability = self.draw_strength(0.001, 0.5)
        longest = self.draw_strength(MICROSECOND, 20 * MILLISECOND)
        chance = self.random.random

        def hold_back(_source: Address, copies: Copies) -> Copies:
            return [(receiver, at + int(longest * chance()) if chance() < probability else at) for receiver, at in copies]

        return hold_back, {"probability": probability, "longest_delay_ns": int(longest)}


class Partition(NetworkFault):
    """The nodes are split into two sides that do not hear each other. Clients may be on either."""

    one_way = False

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """One side has some replicas, but not all, and any clients."""
        replicas = self.stricken.replicas
        others = self.stricken.machines[len(replicas) :]
        # A single replica can only be cut off from its clients.
        cut = self.random.sample(replicas, self.random.randint(1, max(1, len(replicas) - 1)))
        cut += [machine for machine in others if self.random.random() < 0.5]
        side = frozenset(machine.address for machine in cut)
        one_way = self.one_way

        def separate(source: Address, copies: Copies) -> Copies:
            inside = source in side
            if one_way and inside:
                return copies
            return [copy for copy in copies if (copy[0] in side) == inside]

        return separate, {"side": sorted(side)}


class OneWayPartition(Partition):
    """One side does not hear the other; the other hears it."""

    one_way = True


class SlowLink(NetworkFault):
    """All datagrams from one node to another are late."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """Delay them by 10 us to 50 ms."""
        source, destination = (machine.address for machine in self.random.sample(self.stricken.machines, 2))
        late = int(self.draw_strength(10 * MICROSECOND, 50 * MILLISECOND))

        def delay(sender: Address, copies: Copies) -> Copies:
            if sender != source:
                return copies
            return [(receiver, at + late if receiver == destination else at) for receiver, at in copies]

        return delay, {"source": source, "destination": destination, "delay_ns": late}


class StalledLink(NetworkFault):
    """All datagrams from one node to another are delayed, and arrive together at one later time."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """Let them arrive in 100 us to 200 ms."""
        source, destination = (machine.address for machine in self.random.sample(self.stricken.machines, 2))
        until_ns = self.stricken.world.now_ns + int(self.draw_strength(100 * MICROSECOND, 200 * MILLISECOND))

        def hold(sender: Address, copies: Copies) -> Copies:
            if sender != source:
                return copies
            return [(receiver, max(at, until_ns) if receiver == destination else at) for receiver, at in copies]

        return hold, {"source": source, "destination": destination, "until_ns": until_ns}
