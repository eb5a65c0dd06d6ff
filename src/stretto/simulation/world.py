"""The host of nodes in virtual time: a heap of events, and a machine for each node.

A machine is a single server. Input that arrives while it works is queued. When it is free again, it takes a burst from the queue, and the
messages that its node sends to one destination during a burst share datagrams. So load makes every operation cheaper, as on real machines.
With costs of zero, a machine is free at once, and a burst is one datagram.

The order of the heap, (time, sequence number), and seeded randomness decide everything that happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import reduce
from heapq import heappop, heappush
from math import ceil
from operator import or_
from random import Random
from typing import Any, TypeAlias

import msgspec

from stretto.core.node import Address, Message, Node, Port
from stretto.core.trace import Delivered, Dropped, Reported, Sent, TimerFired, Tracer, described
from stretto.simulation.network import GROUP, Network
from stretto.verify.violation import Violation

Action: TypeAlias = Callable[[Any, Any], Any]
Step: TypeAlias = Callable[[Any, Any], int]
"""A step of a node. Returns its cost in nanoseconds."""


EPOCH_NS = 1_700_000_000_000_000_000
"""The wall-clock time at which every simulation begins, in nanoseconds since 1970."""


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The costs of a machine, in nanoseconds of its one processor, and its sizes.

    - `receive_datagram_ns`, `receive_message_ns`: for each datagram, and for decoding and handling each message in it;
    - `send_datagram_ns`, `send_message_ns`: the same for sending; a multicast is one datagram;
    - `execute_ns`: for each execution of an operation, also when it is executed again after a rollback;
    - `burst_ns`: for each burst: waking up, and asking the sockets for input. What arrives meanwhile belongs to the burst;
    - `burst`: how many datagrams a burst may take;
    - `datagram_messages`: how many messages fit one datagram;
    - `queue`: the length of the queue, due timers included; a datagram that arrives at a full queue is lost.
    """

    receive_datagram_ns: int = 0
    receive_message_ns: int = 0
    send_datagram_ns: int = 0
    send_message_ns: int = 0
    execute_ns: int = 0
    burst_ns: int = 0
    burst: int = 64
    datagram_messages: int = 24
    queue: int = 4_096


class Codec:
    """Encodes and decodes messages. In a world with a codec, nodes share no object, and datagrams have sizes."""

    def __init__(self, message_types: tuple[type[Message], ...]) -> None:
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(list[reduce(or_, message_types)]).decode  # type: ignore[misc]


class World:
    """Virtual time, the machines in it, and what connects them.

    Parameters: `network`, which carries datagrams; `group`, the addresses of the replicas; `codec`, which encodes and decodes all messages,
    or None; `tracer`, which gets the trace records, or None. Callbacks may be set: `watch`, after every step of a node; `watch_disk`, when
    a burst of a machine with a disk is over and its records are on the disk; `on_report`, with the address, event and details of every
    report.
    """

    def __init__(self, network: Network, group: Sequence[Address], codec: Codec | None = None, tracer: Tracer | None = None) -> None:
        self.now_ns = 0
        self.machines: dict[Address, Machine] = {}
        self.tracer = tracer
        self.watch: Callable[[Machine], None] | None = None
        self.watch_disk: Callable[[Machine], None] | None = None
        self.on_report: Callable[[Address, str, dict[str, Any]], None] | None = None
        self._network = network
        self._group = group
        self._codec = codec
        self._heap: list[tuple[int, int, Action, Any, Any]] = []
        self._sequence = 0
        self._stopped = False

    def add(self, machine: Machine) -> Machine:
        """Add a machine, which has no node yet, under its address."""
        self.machines[machine.address] = machine
        return machine

    def at(self, time_ns: int, action: Action, first: Any = None, second: Any = None) -> None:
        """Call `action(first, second)` at that time."""
        self._sequence += 1
        heappush(self._heap, (time_ns, self._sequence, action, first, second))

    def stop(self) -> None:
        """End `run` after the present event."""
        self._stopped = True

    def run(self, until_ns: int, max_events: int) -> bool:
        """Let time pass until `stop` is called (returns True) or until that time (False).

        Raises Violation if that takes more than `max_events` events: then nodes send without end.
        """
        heap = self._heap
        self._stopped = False
        for _ in range(max_events):
            if not heap or heap[0][0] > until_ns:
                self.now_ns = until_ns
                return False
            self.now_ns, _, action, first, second = heappop(heap)
            action(first, second)
            if self._stopped:
                return True
        raise Violation("endless activity", f"{max_events} events, and time has only come to {self.now_ns / 1e9:.6f} s")

    def transmit(self, source: Address, destination: Address, messages: list[Message], leaves_ns: int) -> None:
        """Give a datagram to the network."""
        codec, machines, heap = self._codec, self.machines, self._heap
        encoded = b"" if codec is None else codec.encode(messages)
        reached: set[Address] = set()

        def deliver(receiver: Address, arrives_ns: int) -> None:
            machine = machines.get(receiver)
            if machine is not None:
                reached.add(receiver)
                self._sequence += 1
                payload = messages if codec is None else codec.decode(encoded)
                heappush(heap, (arrives_ns, self._sequence, machine.arrive, source, payload))

        self._network.carry(leaves_ns, source, destination, len(encoded), deliver)
        if self.tracer is not None:
            self._trace_sending(source, destination, messages, reached)

    def _trace_sending(self, source: Address, destination: Address, messages: list[Message], reached: set[Address]) -> None:
        assert self.tracer is not None
        group = destination == GROUP
        meant = (self._group if group else (destination,)) if self._network.at_once else ()
        missed = [receiver for receiver in meant if receiver not in reached and receiver != source]
        for message in map(described, messages):
            self.tracer(Sent(self.now_ns, source, None if group else destination, message))
            for receiver in missed:
                self.tracer(Dropped(self.now_ns, receiver, source, "network", message))


class Machine:
    """One node, its input queue, and the port through which it acts.

    A machine that has crashed may `start` again with a new node, its next incarnation. It keeps only the time of its clock.

    Invariants: while `_holds` is 0, nothing waits; `_deadlines` has the timers that are set; `_wakeups` has the time of each timer's event
    in the heap. (A timer that is set again keeps its first event, which then compares with the deadline.)
    """

    durable = False

    served = False
    """Whether the disk shows that the replica has been in service."""

    def __init__(self, world: World, address: Address, costs: Costs, random: Random) -> None:
        self.address = address
        self.late_ns = 0
        self.random = random
        self.node: Any = None
        self.crashed = False
        self.incarnation = 0
        """Increases at each start and at each crash."""
        self.slowdown_ns = 0
        """Additional time of every burst, in nanoseconds."""
        self.wall_offset_ns = 0
        """How far its wall clock is ahead of the right time, in nanoseconds."""
        self.messages_received = self.messages_sent = 0
        self.datagrams_received = self.datagrams_sent = self.datagrams_dropped = 0
        self.bursts = 0
        self.busy_ns = 0
        """How long its processor has worked, over all incarnations."""
        self._world = world
        self._costs = costs
        self._room = costs.queue
        self._executing_ns = 0
        self._holds = 0
        self._queue: deque[tuple[Step, Any, Any]] = deque()
        self._outbox: dict[Address, list[Message]] = {}
        self._deadlines: dict[str, int] = {}
        self._wakeups: dict[str, int] = {}
        self._at_burst_end: list[tuple[str, int]] = []
        self._clock_rate = 1.0
        self._clock_set_ns = (0, 0)
        """When its rate was last changed, in the world's time and in its own."""

    # What its host does

    def start(self, factory: Callable[[Port], Node]) -> None:
        """Begin an incarnation: build the node, which may act at once."""
        self.crashed = False
        self.incarnation += 1
        self._holds = 0
        self._room = self._costs.queue
        self._deadlines.clear()
        self._wakeups.clear()
        self.node = factory(self)
        self._finish(0)

    def submit(self, action: Action, first: Any = None, second: Any = None) -> None:
        """Call `action(first, second)` as a step of the node when the machine is free. Its messages are sent after that step."""
        self._enqueue(self._run, action, (first, second))

    def hold(self) -> int:
        """Freeze the machine until a `release` for each `hold`: input waits, timers fire late. Returns the argument for `release`."""
        self._holds += 1
        return self.incarnation

    def release(self, incarnation: int, _: Any = None) -> None:
        """Undo one `hold` of this incarnation, unless the incarnation has ended."""
        if incarnation != self.incarnation:
            return
        self._holds -= 1
        self._go_on()

    def crash(self) -> None:
        """End this incarnation: queued input is lost, and so is everything that arrives before the next start."""
        self.crashed = True
        self.incarnation += 1
        self._holds = 1
        self._room = 0
        self._executing_ns = 0
        self._queue.clear()
        self._outbox.clear()
        self._wakeups.clear()
        self._at_burst_end.clear()

    @property
    def found(self) -> int | None:
        """See `written`."""
        return None

    def recall(self) -> Sequence[Message]:
        """The records that earlier incarnations persisted: none."""
        return ()

    def forget(self) -> None:
        """Lose these records."""

    def set_clock_rate(self, rate: float) -> None:
        """Let the node's clock run at `rate` times the speed of virtual time from now on. Timers that are set already keep their time."""
        self._clock_set_ns = self._world.now_ns, self.now_ns
        self._clock_rate = rate

    def arrive(self, source: Address, messages: list[Message]) -> None:
        """A datagram arrives."""
        if not self._holds:
            self._perform(self._receive, source, messages)
        elif len(self._queue) < self._room:
            self._queue.append((self._receive, source, messages))
        else:
            self._drop(source, messages)

    def _drop(self, source: Address, messages: list[Message]) -> None:
        self.datagrams_dropped += 1
        tracer = self._world.tracer
        if tracer is not None:
            reason = "crashed" if self.crashed else "queue full"
            for message in messages:
                tracer(Dropped(self._world.now_ns, self.address, source, reason, described(message)))

    # The port

    @property
    def now_ns(self) -> int:
        """The time on this machine's clock."""
        since_ns, clock_ns = self._clock_set_ns
        return clock_ns + int((self._world.now_ns - since_ns) * self._clock_rate)

    @property
    def wall_ns(self) -> int:
        """The wall clock of this machine: it runs as the other one does, and may be set wrong."""
        return EPOCH_NS + self.now_ns + self.wall_offset_ns

    def send(self, destination: Address, message: Message) -> None:
        """See `stretto.core.node.Port`."""
        messages = self._outbox.get(destination)
        if messages is None:
            self._outbox[destination] = [message]
        else:
            messages.append(message)

    def multicast(self, message: Message) -> None:
        """See `stretto.core.node.Port`. The sender, if it is a replica, does not get its own."""
        self.send(GROUP, message)

    def set_timer(self, name: str, delay_ns: int) -> None:
        """See `stretto.core.node.Port`."""
        if not delay_ns:
            self._deadlines[name] = self._world.now_ns
            self._at_burst_end.append((name, self._world.now_ns))
            return
        if self._clock_rate != 1.0:
            delay_ns = ceil(delay_ns / self._clock_rate)
        deadline = self._world.now_ns + delay_ns
        self._deadlines[name] = deadline
        wakeup = self._wakeups.get(name)
        if wakeup is None or wakeup > deadline:
            self._wakeups[name] = deadline
            self._world.at(deadline, self._wake, name, deadline)

    def cancel_timer(self, name: str) -> None:
        """See `stretto.core.node.Port`."""
        self._deadlines.pop(name, None)

    @property
    def written(self) -> int | None:
        """None: this machine has no disk."""
        return None

    def persist(self, record: Message) -> None:
        """Do nothing: this machine has no disk."""

    def identify(self, first: Sequence[int]) -> None:
        """Do nothing: a machine keeps nothing without a disk."""

    def compact(self, records: Sequence[Message]) -> None:
        """Do nothing."""

    def stop(self, reason: str, *, distrust: bool = False) -> None:
        """See `stretto.core.node.Port`. The incarnation ends with a report."""
        self.report("stopped", reason=reason)
        self.crash()
        if distrust:
            self.forget()

    def report(self, event: str, **details: Any) -> None:
        """See `stretto.core.node.Port`. Reports go to the trace."""
        world = self._world
        if world.on_report is not None:
            world.on_report(self.address, event, details)
        if world.tracer is not None:
            world.tracer(Reported(world.now_ns, self.address, event, details))

    # Working

    def executes(self) -> None:
        """The node executes an operation, which is charged to the present burst."""
        self._executing_ns += self._costs.execute_ns

    def _enqueue(self, action: Step, first: Any, second: Any) -> None:
        if self._holds:
            self._queue.append((action, first, second))
        else:
            self._perform(action, first, second)

    def _perform(self, action: Step, first: Any, second: Any) -> None:
        """Start a burst at a machine that is free. If bursts have no fixed cost, complete it at once."""
        if self._costs.burst_ns:
            self._queue.append((action, first, second))
            self._wake_up()
        else:
            self._end_burst(self.slowdown_ns + action(first, second))

    def _go_on(self) -> None:
        """Take input from the queue, if the machine is free."""
        while self._queue and not self._holds:
            if self._costs.burst_ns:
                self._wake_up()
            else:
                self._work()

    def _wake_up(self) -> None:
        """Spend the fixed cost of a burst, before it takes input from the queue."""
        self.busy_ns += self._costs.burst_ns
        self._world.at(self._world.now_ns + self._costs.burst_ns, self._awake, self.hold())

    def _awake(self, incarnation: int, _: Any) -> None:
        if incarnation != self.incarnation:
            return
        self._holds -= 1
        if not self._holds:
            self._work()
            self._go_on()

    def _work(self) -> None:
        """Handle one burst of the queued input."""
        queue = self._queue
        spent = self.slowdown_ns
        for _ in range(self._costs.burst):
            if not queue:
                break
            action, first, second = queue.popleft()
            spent += action(first, second)
        self._end_burst(spent)

    def _end_burst(self, spent: int) -> None:
        self.bursts += 1
        while self._at_burst_end and not self.crashed:
            self._fire(*self._at_burst_end.pop(0))
        spent += self._executing_ns
        self._executing_ns = 0
        self.busy_ns += spent
        self._finish(spent)

    def _finish(self, spent: int) -> None:
        """The end of a burst: send its messages, and stay busy for the time that the whole burst takes."""
        if self.crashed:
            self._outbox.clear()  # the node has stopped itself, and may have sent more before it returned
            return
        if self._outbox:
            spent = self._flush(spent)
        if spent:
            self._world.at(self._world.now_ns + spent, self.release, self.hold())

    def _flush(self, spent: int) -> int:
        """Send the messages of the burst, beginning `spent` nanoseconds from now. Returns when the last one has been sent."""
        outbox, self._outbox = self._outbox, {}
        costs = self._costs
        limit = costs.datagram_messages
        transmit = self._world.transmit
        now = self._world.now_ns
        done = spent
        for destination, messages in outbox.items():
            for datagram in [messages] if len(messages) <= limit else _split(messages, limit):
                count = len(datagram)
                done += costs.send_datagram_ns + costs.send_message_ns * count
                self.datagrams_sent += 1
                self.messages_sent += count
                transmit(self.address, destination, datagram, now + done)
        self.busy_ns += done - spent
        return done

    # Steps of the node, each with what it costs

    def _receive(self, source: Address, messages: list[Message]) -> int:
        world = self._world
        tracer = world.tracer
        watch = world.watch
        on_message = self.node.on_message
        for message in messages:
            if self.crashed:
                break
            if tracer is not None:
                tracer(Delivered(world.now_ns, self.address, source, described(message)))
            on_message(source, message)
            if watch is not None:
                watch(self)
        count = len(messages)
        self.messages_received += count
        self.datagrams_received += 1
        return self._costs.receive_datagram_ns + self._costs.receive_message_ns * count

    def _run(self, action: Action, arguments: tuple[Any, Any]) -> int:
        action(*arguments)
        if (watch := self._world.watch) is not None:
            watch(self)
        return 0

    def _wake(self, name: str, due_ns: int) -> None:
        if self._wakeups.get(name) != due_ns:
            return
        del self._wakeups[name]
        deadline = self._deadlines.get(name)
        if deadline is None or self.crashed:
            return
        if deadline > due_ns:
            self._wakeups[name] = deadline
            self._world.at(deadline, self._wake, name, deadline)
        else:
            self._enqueue(self._fire, name, deadline)

    def _fire(self, name: str, deadline: int) -> int:
        world = self._world
        if self._deadlines.get(name) != deadline:  # cancelled or set again while it waited
            return 0
        del self._deadlines[name]
        if world.tracer is not None:
            world.tracer(TimerFired(world.now_ns, self.address, name))
        self.late_ns = world.now_ns - deadline
        self.node.on_timer(name)
        if (watch := self._world.watch) is not None:
            watch(self)
        return 0


def _split(messages: list[Message], limit: int) -> list[list[Message]]:
    return [messages[first : first + limit] for first in range(0, len(messages), limit)]
