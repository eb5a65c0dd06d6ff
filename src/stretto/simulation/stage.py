"""A world moved by hand: nodes whose every message and timer waits until it is told to happen.

For named schedules, where the point is the order of single steps. (A seeded world that runs by itself is `stretto.simulation`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from stretto.core.config import ClusterConfig, Limits, Member
from stretto.core.errors import StrettoError
from stretto.core.node import Address, Client, Message, Node, Replica
from stretto.core.protocol import BOOTSTRAP, ProtocolDefinition, Start
from stretto.core.state_machine import StateMachine

CLIENT_BASE = 1 << 20
"""The address of the first client."""


@dataclass(frozen=True, eq=False)
class InFlight:
    """A message that was sent and has neither arrived nor been lost."""

    source: Address
    destination: Address
    message: Message

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination}: {self.message}"


@dataclass
class StagePort:
    """What a node on a stage has for a world."""

    stage: Stage
    address: Address
    random: Random
    durable: bool
    timers: dict[str, int] = field(default_factory=dict)
    at_burst_end: list[str] = field(default_factory=list)
    records: list[Message] = field(default_factory=list)

    @property
    def now_ns(self) -> int:
        """The stage's time."""
        return self.stage.now_ns

    def send(self, destination: Address, message: Message) -> None:
        """Put a message in flight."""
        self.stage.in_flight.append(InFlight(self.address, destination, message))

    def multicast(self, message: Message) -> None:
        """Put a copy for each replica in flight."""
        for index in range(len(self.stage.replicas)):
            self.send(index, message)

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Note when the timer is due; it fires when it is told to, or at the end of the step if it has no delay."""
        self.timers[name] = self.now_ns + delay_ns
        if not delay_ns:
            self.at_burst_end.append(name)

    def cancel_timer(self, name: str) -> None:
        """Forget the timer."""
        self.timers.pop(name, None)

    def persist(self, record: Message) -> None:
        """Keep it for a later life. (Each step of a stage is a burst, and all of it is synced.)"""
        self.records.append(record)

    def compact(self, records: Sequence[Message]) -> None:
        """Keep these alone."""
        self.records = list(records)

    def stop(self, reason: str) -> None:
        """Its end: nothing reaches it any more."""
        self.stage.crash(self.address)
        self.report("stopped", reason=reason)

    def report(self, event: str, **details: Any) -> None:
        """Keep it with the others."""
        self.stage.reports.append((self.address, event, details))


class Stage:
    """`n` replicas of a protocol, in service, with sequencers if it has them, and as many clients as are asked for.

    `check_invariants` runs after every step.

    Parameters: `durable`, whether replicas have a disk; `limits`, of the configuration.
    Attributes: `in_flight`, messages in the order of sending; `results`, how each call made here ended, by the handle that `call` gave.
    """

    def __init__(
        self,
        definition: ProtocolDefinition,
        n: int,
        machine: Callable[[], StateMachine],
        *,
        durable: bool = False,
        limits: Limits = Limits(),  # noqa: B008 (it is frozen)
    ) -> None:
        self.now_ns = 0
        self.in_flight: list[InFlight] = []
        self.reports: list[tuple[Address, str, dict[str, Any]]] = []
        self.results: dict[int, bytes | StrettoError] = {}
        members = tuple(Member("127.0.0.1", 7_000 + address) for address in range(n + definition.usual_sequencers))
        self.config = ClusterConfig(members[:n], protocol=definition.name, sequencers=members[n:], limits=limits)
        self.replicas: list[Replica] = []
        self.nodes: dict[Address, Node] = {}
        self.ports: dict[Address, StagePort] = {}
        self._definition = definition
        self._machine = machine
        self._durable = durable
        self._calls = 0
        self._lives = 0
        self._clients = 0
        for address in range(n, len(members)):
            self.begin_sequencer(address)
        for index in range(n):
            self.replicas.append(self._begin(index, BOOTSTRAP))
        self.settle()

    def _begin(self, index: Address, start: Start) -> Replica:
        replica = self._definition.replica(self._port(index), self.config, index, self._machine(), start)
        self.nodes[index] = replica
        return replica

    def begin_sequencer(self, address: Address) -> None:
        """A sequencer begins a life, which knows nothing of those before."""
        factory = self._definition.sequencer
        assert factory is not None
        self.nodes[address] = factory(self._port(address), self.config, address - self.config.n)

    def _port(self, address: Address) -> StagePort:
        self._lives += 1
        port = StagePort(self, address, Random(self._lives), self._durable and address < self.config.n)
        if address in self.ports:
            port.records = self.ports[address].records
        self.ports[address] = port
        return port

    def client(self) -> Client:
        """One more client."""
        address = CLIENT_BASE + self._clients
        self._clients += 1
        client = self._definition.client(self._port(address), self.config)
        self.nodes[address] = client
        return client

    def call(self, client: Client, operation: bytes) -> int:
        """Begin a call; `results` has its end under the handle that this returns."""
        self._calls += 1
        handle = self._calls
        client.call(operation, self.now_ns, lambda outcome: self.results.__setitem__(handle, outcome))
        return handle

    def waiting(self, *types: type[Message], source: Address | None = None, to: Address | None = None) -> list[InFlight]:
        """The messages in flight of these types (all, if none is named), from and to these addresses."""
        return [
            flight
            for flight in self.in_flight
            if (not types or isinstance(flight.message, types)) and source in (None, flight.source) and to in (None, flight.destination)
        ]

    def deliver(self, *types: type[Message], source: Address | None = None, to: Address | None = None) -> int:
        """Deliver what is `waiting` now, not what that causes; returns how many."""
        chosen = self.waiting(*types, source=source, to=to)
        for flight in chosen:
            self.deliver_one(flight)
        return len(chosen)

    def deliver_one(self, flight: InFlight, again: bool = False) -> None:
        """Deliver one message; `again`: a copy of it stays in flight."""
        if not again:
            self.in_flight.remove(flight)
        node = self.nodes.get(flight.destination)
        if node is not None:
            node.on_message(flight.source, flight.message)
            self._end_burst(flight.destination)

    def lose(self, *types: type[Message], source: Address | None = None, to: Address | None = None) -> int:
        """Lose what is `waiting`; returns how many."""
        chosen = self.waiting(*types, source=source, to=to)
        self.in_flight = [flight for flight in self.in_flight if flight not in chosen]
        return len(chosen)

    def fire(self, address: Address, name: str) -> None:
        """Let a timer that was set fire, time going on to when it is due."""
        due = self.ports[address].timers.pop(name)
        self.now_ns = max(self.now_ns, due)
        self.nodes[address].on_timer(name)
        self._end_burst(address)

    def _end_burst(self, address: Address) -> None:
        """A step is a burst: what was to happen at its end happens now."""
        port = self.ports[address]
        while port.at_burst_end:
            name = port.at_burst_end.pop()
            if port.timers.pop(name, None) is not None and address in self.nodes:
                self.nodes[address].on_timer(name)
        if address in self.nodes:
            self.nodes[address].check_invariants()

    def crash(self, address: Address) -> None:
        """The node is gone, with its timers; what it sent is still in flight."""
        del self.nodes[address]
        self.ports[address].timers.clear()

    def restart(self, address: Address) -> Replica:
        """A replica that has crashed begins another life: with what it persisted, or without memory."""
        return self._begin_again(address, Start(records=list(self.ports[address].records)))

    def bootstrap(self, address: Address) -> Replica:
        """A replica that has crashed begins as if it never had before."""
        self.ports[address].records = []
        return self._begin_again(address, BOOTSTRAP)

    def _begin_again(self, address: Address, start: Start) -> Replica:
        assert address not in self.nodes
        self.replicas[address] = replica = self._begin(address, start)
        replica.check_invariants()
        return replica

    def settle(self, keep: Callable[[InFlight], bool] = lambda flight: True, steps: int = 10_000) -> None:
        """Deliver everything, and what that causes, until nothing is in flight. Messages that are not to `keep` are lost."""
        for _ in range(steps):
            if not self.in_flight:
                return
            flight = self.in_flight[0]
            if keep(flight):
                self.deliver_one(flight)
            else:
                self.in_flight.remove(flight)
        raise AssertionError(f"still {len(self.in_flight)} messages in flight after {steps} steps")

    def run(self, duration_ns: int, keep: Callable[[InFlight], bool] = lambda flight: True) -> None:
        """Let time pass: timers fire when they are due, messages arrive at once and in order."""
        end = self.now_ns + duration_ns
        while True:
            self.settle(keep)
            due = [(when, address, name) for address, port in self.ports.items() for name, when in port.timers.items()]
            if not due or min(due)[0] > end:
                self.now_ns = end
                return
            _, address, name = min(due)
            self.fire(address, name)
