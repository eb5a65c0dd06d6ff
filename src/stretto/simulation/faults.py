"""Faults by name. Each strikes again and again for a while, how hard, how long and whom being drawn from the seed, until all are healed.

Faults of the network change what `FaultyNetwork` answers; faults of machines hold, slow or crash them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

from stretto.core.errors import ConfigurationError
from stretto.core.node import Address
from stretto.core.trace import FaultBegun, FaultEnded
from stretto.simulation.network import Deliver, Network
from stretto.simulation.world import Machine, World

Copies: TypeAlias = list[tuple[Address, int]]
Tampering: TypeAlias = Callable[[Address, Copies], Copies]
"""What a fault does to the copies of a datagram of a sender: where they arrive, and when."""

MICROSECOND = 1_000
MILLISECOND = 1_000_000
NETWORK: Address = -1


class FaultyNetwork:
    """A network with what is wrong with it at the moment."""

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
    """What faults can strike: the world's network, the replicas' machines and those of clients, and how many may crash."""

    def __init__(self, world: World, network: FaultyNetwork, replicas: Sequence[Machine], clients: Sequence[Machine]) -> None:
        self.world = world
        self.network = network
        self.replicas = list(replicas)
        self.machines = [*replicas, *clients]
        self.max_crashes = (len(replicas) - 1) // 2

    def living(self) -> list[Machine]:
        """The replicas that have not crashed."""
        return [machine for machine in self.replicas if not machine.crashed]


class Fault(ABC):
    """One kind of fault. `begin` draws how it strikes this time and says so; `end` takes back what `begin` did.

    `end` is not called of a fault `for_good`.
    """

    for_good = False

    longest_ns = 200 * MILLISECOND
    """How long it strikes at most; how long it does is spread evenly over the orders of magnitude below."""

    def __init__(self, stricken: Stricken, random: Random) -> None:
        self.stricken = stricken
        self.random = random
        self.target: Address = NETWORK

    @abstractmethod
    def begin(self) -> dict[str, Any] | None:
        """Strike; what with, for the trace. None: it cannot strike, now or later."""

    @abstractmethod
    def end(self) -> None:
        """Stop."""

    def log_uniform(self, low: float, high: float) -> float:
        """A draw that is as likely in each order of magnitude between the two."""
        return float(low * (high / low) ** self.random.random())


class NetworkFault(Fault):
    """A fault that tampers with datagrams."""

    def begin(self) -> dict[str, Any]:
        """Draw what to do to datagrams, and do it from now on."""
        self._tampering, details = self.draw()
        self.stricken.network.tamperings.append(self._tampering)
        return details

    def end(self) -> None:
        """Leave datagrams alone."""
        self.stricken.network.tamperings.remove(self._tampering)

    @abstractmethod
    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """What to do to datagrams this time, and how to tell of it."""


class Loss(NetworkFault):
    """Copies are lost, each with the same probability."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """From one in a thousand to four in five."""
        probability = self.log_uniform(0.001, 0.8)
        chance = self.random.random
        return lambda _, copies: [copy for copy in copies if chance() >= probability], {"probability": probability}


class Duplication(NetworkFault):
    """A second copy arrives, a little later or much later."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """From one copy in a hundred to one in two, up to 100 ms later."""
        probability = self.log_uniform(0.01, 0.5)
        longest = self.log_uniform(10 * MICROSECOND, 100 * MILLISECOND)
        chance = self.random.random

        def duplicate(_source: Address, copies: Copies) -> Copies:
            again = [(receiver, at + int(longest * chance())) for receiver, at in copies if chance() < probability]
            return copies + again if again else copies

        return duplicate, {"probability": probability, "longest_delay_ns": int(longest)}


class Reordering(NetworkFault):
    """Some copies are held back, so that later ones overtake them."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """From one copy in a thousand to one in two, by 1 us to 20 ms at most."""
        probability = self.log_uniform(0.001, 0.5)
        longest = self.log_uniform(MICROSECOND, 20 * MILLISECOND)
        chance = self.random.random

        def hold_back(_source: Address, copies: Copies) -> Copies:
            return [(receiver, at + int(longest * chance()) if chance() < probability else at) for receiver, at in copies]

        return hold_back, {"probability": probability, "longest_delay_ns": int(longest)}


class Partition(NetworkFault):
    """The nodes fall into two sides that do not hear each other; clients may be on either."""

    one_way = False

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """Any replicas but none or all on the one side, and any clients."""
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
    """Everything from one node to another is late."""

    def draw(self) -> tuple[Tampering, dict[str, Any]]:
        """By 10 us to 50 ms."""
        source, destination = (machine.address for machine in self.random.sample(self.stricken.machines, 2))
        late = int(self.log_uniform(10 * MICROSECOND, 50 * MILLISECOND))

        def delay(sender: Address, copies: Copies) -> Copies:
            if sender != source:
                return copies
            return [(receiver, at + late if receiver == destination else at) for receiver, at in copies]

        return delay, {"source": source, "destination": destination, "delay_ns": late}


class MachineFault(Fault):
    """A fault of one machine at a time."""

    machine: Machine

    def choose(self, machines: Sequence[Machine]) -> Machine:
        """Draw whom to strike."""
        self.machine = self.random.choice(machines)
        self.target = self.machine.address
        return self.machine


class Pause(MachineFault):
    """A node stops for a long time and then goes on as if nothing had been: input waits, timers fire late."""

    longest_ns = 1_000 * MILLISECOND

    def begin(self) -> dict[str, Any]:
        """Freeze any node."""
        self.choose(self.stricken.machines).hold()
        return {}

    def end(self) -> None:
        """Let it go on."""
        self.machine.release()


class SlowNode(MachineFault):
    """A node takes longer for everything."""

    def begin(self) -> dict[str, Any]:
        """By 1 us to 10 ms for every burst."""
        slowdown = int(self.log_uniform(MICROSECOND, 10 * MILLISECOND))
        self.choose(self.stricken.machines).slowdown_ns += slowdown
        self._slowdown = slowdown
        return {"slowdown_ns": slowdown}

    def end(self) -> None:
        """Let it be as fast as it was."""
        self.machine.slowdown_ns -= self._slowdown


class Crash(MachineFault):
    """A replica stops for good; at most f of them do."""

    for_good = True

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed."""
        living = self.stricken.living()
        if len(self.stricken.replicas) - len(living) == self.stricken.max_crashes:
            return None
        self.choose(living).crash()
        return {}

    def end(self) -> None:
        """Never."""


FAULTS: dict[str, tuple[type[Fault], ...]] = {
    "loss": (Loss,),
    "duplication": (Duplication,),
    "reordering": (Reordering,),
    "partition": (Partition,),
    "one_way_partition": (OneWayPartition,),
    "crash": (Crash,),
    "pause": (Pause,),
    "slow": (SlowNode, SlowLink),
}
"""Every fault by its name."""


def check_names(names: Sequence[str]) -> None:
    """Raises ConfigurationError if there is no fault of one of these names."""
    for name in names:
        if name not in FAULTS:
            raise ConfigurationError(f"{name!r} is not a fault; there are {', '.join(FAULTS)}", key="faults")


class Faults:
    """Lets faults come and go."""

    shortest_ns = 10 * MICROSECOND
    longest_rest_ns = 20 * MILLISECOND

    def __init__(self, names: Sequence[str], stricken: Stricken, seed: str) -> None:
        self._world = stricken.world
        self._active: dict[Fault, str] = {}
        self._healed = False
        for name in names:
            for kind in FAULTS[name]:
                self._rest(kind(stricken, Random(f"{seed}/{kind.__name__}")), name)

    def heal(self) -> None:
        """End all faults, and let none begin."""
        self._healed = True
        for fault in list(self._active):
            self._end(fault)

    def _rest(self, fault: Fault, name: str) -> None:
        rest = int(fault.log_uniform(self.shortest_ns, self.longest_rest_ns))
        self._world.at(self._world.now_ns + rest, self._begin, fault, name)

    def _begin(self, fault: Fault, name: str) -> None:
        details = None if self._healed else fault.begin()
        if details is None:
            return
        if self._world.tracer is not None:
            self._world.tracer(FaultBegun(self._world.now_ns, fault.target, name, details))
        if fault.for_good:
            self._rest(fault, name)
        else:
            self._active[fault] = name
            lasts = int(fault.log_uniform(self.shortest_ns, fault.longest_ns))
            self._world.at(self._world.now_ns + lasts, self._end, fault)

    def _end(self, fault: Fault, _: Any = None) -> None:
        name = self._active.pop(fault, None)
        if name is None:
            return
        fault.end()
        if self._world.tracer is not None:
            self._world.tracer(FaultEnded(self._world.now_ns, fault.target, name))
        if not self._healed:
            self._rest(fault, name)
