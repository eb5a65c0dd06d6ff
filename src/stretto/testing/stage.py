"""A world moved by hand: every message and every timer waits until the test makes it happen.

It is meant for scenarios in which the order of single steps matters. (`stretto.simulation` is a world that runs by itself, from a seed.)
`stretto.testing.transcript` writes down what happens on a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from stretto.core.config import ClusterConfig, Limits, Member
from stretto.core.errors import StrettoError
from stretto.core.node import Address, Client, Message, Node, Replica
from stretto.core.protocol import BOOTSTRAP, ProtocolDefinition, Start
from stretto.core.state_machine import StateMachine
from stretto.core.trace import Called, Delivered, Dropped, FaultBegun, Reported, Returned, Sent, TimerFired, Tracer, TraceRecord, described
from stretto.testing.port import RecordingPort
from stretto.testing.watching import Started, WatchedMachine

CLIENT_BASE = 1 << 20
"""The address of the first client."""


@dataclass(frozen=True, eq=False)
class InFlight:
    """A message that was sent and has neither been delivered nor lost."""

    source: Address
    destination: Address
    message: Message

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination}: {self.message}"


class StagePort(RecordingPort):
    """The port of a node on a stage: what the node sends is in flight at once."""

    def __init__(self, stage: Stage, address: Address, seed: int, durable: bool) -> None:
        super().__init__(address, stage.config.n, durable=durable, seed=seed)
        self.at_burst_end: list[str] = []
        self._stage = stage

    @property
    def now_ns(self) -> int:
        """The stage's time."""
        return self._stage.now_ns

    def send(self, destination: Address, message: Message) -> None:
        """Put a message in flight."""
        self._stage.send(self.address, destination, message)

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Note when the timer is due. It fires when the test says so, or at the end of the step if it has no delay."""
        super().set_timer(name, delay_ns)
        if not delay_ns:
            self.at_burst_end.append(name)

    def stop(self, reason: str, *, distrust: bool = False) -> None:
        """End the node: nothing is delivered to it any more."""
        super().stop(reason, distrust=distrust)
        self._stage.end(self.address)
        self.report("stopped", reason=reason)

    def report(self, event: str, **details: Any) -> None:
        """Keep it in the stage's `reports`."""
        self._stage.report(self.address, event, details)


class Stage:
    """`n` replicas of a protocol, in service, with sequencers if it has them, and as many clients as are asked for.

    `check_invariants` runs after every step. Each step is one burst of input for one node.

    Parameters: `definition`, the protocol; `n`, the number of replicas; `machine`, makes a replica's state machine; `durable`, whether
    replicas have a disk; `limits`, of the configuration.

    - `in_flight`: messages in the order of sending; `reports`: what nodes reported: address, event, details;
    - `results`: how each call that was made here ended, by the handle that `call` returned: the result, or the error;
    - `replicas`, `nodes`, `ports`: by address; `now_ns`: the time, which only `fire` and `run` move;
    - `tracer`: is given a record of each step and of its effects, if it is set (see `stretto.testing.Transcript`).
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
        self.tracer: Tracer | None = None
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
        self._incarnations = 0
        self._clients = 0
        self._seen: dict[Address, tuple[int, int]] = {}
        for address in range(n, len(members)):
            self.begin_sequencer(address)
        for index in range(n):
            self.replicas.append(self._begin(index, BOOTSTRAP))
        self.settle()

    def _begin(self, index: Address, start: Start) -> Replica:
        how = f"with {len(start.records)} records" if start.records else "for the first time" if start.bootstrap else "without any records"
        self._trace(Started(self.now_ns, index, how))
        machine = WatchedMachine(self._machine(), lambda event: self._tell(index, event))
        port = self._port(index)
        replica = self._definition.replica(port, self.config, index, machine, start)
        self._seen[index] = (replica.view, replica.state.committed)
        if port.stopped is None:
            self.nodes[index] = replica
            replica.check_invariants()
        else:
            port.timers.clear()
        return replica

    def begin_sequencer(self, address: Address) -> None:
        """Start a sequencer, which knows nothing of earlier ones with this address."""
        factory = self._definition.sequencer
        assert factory is not None
        self.nodes[address] = factory(self._port(address), self.config, address - self.config.n)

    def _port(self, address: Address) -> StagePort:
        self._incarnations += 1
        port = StagePort(self, address, self._incarnations, self._durable and address < self.config.n)
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
        """Begin a call; `results` has its end under the handle that this returns. Raises ValueError if the client is another stage's."""
        self._calls += 1
        handle = self._calls
        address = next((address for address, node in self.nodes.items() if node is client), None)
        if address is None:
            raise ValueError("the client is not one of this stage; make it with stage.client()")
        self._trace(Called(self.now_ns, address, handle, operation))
        client.call(operation, self.now_ns, lambda outcome: self._return(address, handle, outcome))
        return handle

    def _return(self, address: Address, handle: int, outcome: bytes | StrettoError) -> None:
        self.results[handle] = outcome
        if isinstance(outcome, StrettoError):
            self._trace(Returned(self.now_ns, address, handle, None, type(outcome).__name__))
        else:
            self._trace(Returned(self.now_ns, address, handle, outcome, None))

    def name_of(self, address: Address) -> str:
        """A short name for people: r0 of a replica, s0 of a sequencer, c0 of a client, each counted from 0."""
        if address >= CLIENT_BASE:
            return f"c{address - CLIENT_BASE}"
        return f"r{address}" if address < self.config.n else f"s{address - self.config.n}"

    # What the ports call

    def send(self, source: Address, destination: Address, message: Message) -> None:
        """Put a message in flight."""
        self._tell_progress(source)
        self.in_flight.append(InFlight(source, destination, message))
        if self.tracer is not None:
            self.tracer(Sent(self.now_ns, source, destination, described(message)))

    def end(self, address: Address) -> None:
        """Deliver nothing more to a node, and forget its timers."""
        self.nodes.pop(address, None)
        self.ports[address].timers.clear()

    def report(self, address: Address, event: str, details: dict[str, Any]) -> None:
        """Keep what a node reported."""
        self.reports.append((address, event, details))
        self._tell(address, event, **details)

    def _trace(self, record: TraceRecord) -> None:
        if self.tracer is not None:
            self.tracer(record)

    def _tell(self, address: Address, event: str, **details: Any) -> None:
        self._trace(Reported(self.now_ns, address, event, details))

    def _tell_progress(self, address: Address) -> None:
        """Trace that a replica has another view, or has committed more, than when it was last looked at."""
        if address >= self.config.n or address not in self.nodes:
            return
        replica = cast(Replica, self.nodes[address])
        view, committed = self._seen[address]
        self._seen[address] = (replica.view, replica.state.committed)
        if replica.view != view:
            self._tell(address, f"leaves view {view} for {replica.view}")
        if replica.state.committed != committed:
            self._tell(address, f"commits up to {replica.state.committed}")

    # Steps

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
        if node is None:
            self._trace_end_of(flight, "it is down")
        else:
            self._trace_end_of(flight)
            node.on_message(flight.source, flight.message)
            self._end_burst(flight.destination)

    def lose(self, *types: type[Message], source: Address | None = None, to: Address | None = None) -> int:
        """Lose what is `waiting`; returns how many."""
        chosen = self.waiting(*types, source=source, to=to)
        for flight in chosen:
            self._lose_one(flight)
        return len(chosen)

    def _lose_one(self, flight: InFlight) -> None:
        self.in_flight.remove(flight)
        self._trace_end_of(flight, "lost")

    def _trace_end_of(self, flight: InFlight, loss: str | None = None) -> None:
        """Trace that a message is delivered, or why it is lost."""
        if self.tracer is None:
            return
        message = described(flight.message)
        if loss is None:
            self.tracer(Delivered(self.now_ns, flight.destination, flight.source, message))
        else:
            self.tracer(Dropped(self.now_ns, flight.destination, flight.source, loss, message))

    def fire(self, address: Address, name: str) -> None:
        """Fire a timer that was set, and move time on to when it is due. Raises ValueError if it is not set."""
        timers = self.ports[address].timers
        if name not in timers:
            raise ValueError(f"{self.name_of(address)} has set no timer {name!r}; it has set {', '.join(sorted(timers)) or 'none'}")
        due = timers.pop(name)
        self.now_ns = max(self.now_ns, due)
        self._trace(TimerFired(self.now_ns, address, name))
        self.nodes[address].on_timer(name)
        self._end_burst(address)

    def _end_burst(self, address: Address) -> None:
        """Fire the timers that were set without a delay, since a step is a burst of input."""
        port = self.ports[address]
        while port.at_burst_end:
            name = port.at_burst_end.pop()
            if port.timers.pop(name, None) is not None and address in self.nodes:
                self.nodes[address].on_timer(name)
        if address in self.nodes:
            self.nodes[address].check_invariants()
            self._tell_progress(address)
        else:
            port.timers.clear()  # it stopped in this burst

    def crash(self, address: Address) -> None:
        """End a node, and forget its timers. What it sent is still in flight."""
        self._trace(FaultBegun(self.now_ns, address, "crash", {}))
        del self.nodes[address]
        self.end(address)

    def restart(self, address: Address) -> Replica:
        """Start a replica again that has crashed, with what it persisted; without any state if that is nothing."""
        return self._begin_again(address, Start(records=list(self.ports[address].records)))

    def bootstrap(self, address: Address) -> Replica:
        """Start a replica that has crashed as if it were its first start."""
        self.ports[address].records = []
        return self._begin_again(address, BOOTSTRAP)

    def _begin_again(self, address: Address, start: Start) -> Replica:
        assert address not in self.nodes
        self.replicas[address] = replica = self._begin(address, start)
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
                self._lose_one(flight)
        raise AssertionError(f"still {len(self.in_flight)} messages in flight after {steps} steps")

    def run(self, duration_ns: int, keep: Callable[[InFlight], bool] = lambda flight: True) -> None:
        """Let time pass: timers fire when they are due, messages are delivered at once and in order."""
        end = self.now_ns + duration_ns
        while True:
            self.settle(keep)
            due = [(when, address, name) for address, port in self.ports.items() for name, when in port.timers.items()]
            if not due or min(due)[0] > end:
                self.now_ns = end
                return
            _, address, name = min(due)
            self.fire(address, name)
