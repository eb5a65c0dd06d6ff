"""A plain event-by-event simulation, with a heap and without arrays. The model must equal it.

At one moment, links die or come back first, then packets enter switches, then output queues, then wires take the next packet.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, TypeAlias

from stretto.network.model.queues import NEVER
from stretto.network.model.run import WARM_UP_PS, Conditions, Messages
from stretto.network.rules import PRIORITY, Rules
from stretto.network.topology import Topology

Action: TypeAlias = Callable[[int], object]
"""What happens at a moment, which it is given."""
Cross: TypeAlias = tuple[int, int, Sequence[tuple[str, int]]]

FAILURE, ENTRY, QUEUEING, SENDING = range(4)


@dataclass
class Packet:
    """A multicast copy (with its message), or background traffic. `route` has the remaining ports of a packet with a fixed path."""

    message: int | None
    size: int
    label: int = 0
    high: bool = False
    route: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Port:
    waiting: dict[bool, deque[tuple[Packet, int]]] = field(default_factory=lambda: {True: deque(), False: deque()})
    free: int = -(1 << 62)
    high_in_service: bool = False
    epoch: int = 0
    alive: bool = True


class Oracle:
    """Runs the whole simulation in its constructor. `at` and the counters correspond to those of the model. `cross` is background traffic
    with fixed routes: (time, size, ports)."""

    def __init__(
        self, topology: Topology, rules: Rules, messages: Messages, conditions: Conditions, end_ps: int, cross: Iterable[Cross] = ()
    ) -> None:
        self.topology, self.messages, self.conditions = topology, messages, conditions
        self.tables = [(0, rules), *conditions.changes]
        self.ports: dict[tuple[str, int], Port] = {(node, port): Port() for node, wires in topology.wires.items() for port in wires}
        self.at: dict[str, list[int]] = {host: [NEVER] * len(messages) for host in topology.hosts}
        self.made, self.dropped, self.failed, self.unmatched, self.delivered, self.background_dropped = len(messages), 0, 0, 0, 0, 0
        self.hops = 0
        self.events: list[tuple[int, int, tuple[Any, ...], int, Action]] = []
        self.number = count()
        self.fill(end_ps, cross)
        while self.events:
            now, *_, action = heapq.heappop(self.events)
            action(now)
        for host, times in self.at.items():
            jitter = conditions.stacks.receiving(host, len(messages))
            self.at[host] = [time if time == NEVER else int(time + jitter[i]) for i, time in enumerate(times)]

    def schedule(self, time: int, kind: int, order: tuple[Any, ...], action: Action) -> None:
        heapq.heappush(self.events, (time, kind, order, next(self.number), action))

    def fill(self, end_ps: int, cross: Iterable[Cross]) -> None:
        leave = self.messages.time_ps + self.conditions.stacks.sending(len(self.messages))
        for i, time in enumerate(leave.tolist()):
            _, sender = self.messages.flows[self.messages.flow[i]]
            self.enqueue(time, (sender, 1), Packet(i, self.messages.size_bytes))
        for (node, port), state in self.ports.items():
            if self.topology.level[node]:
                wire = self.topology.wires[node][port]
                times, services = self.conditions.background.packets(node, port, wire, -WARM_UP_PS, end_ps)
                for i, (time, service) in enumerate(zip(times.tolist(), services.tolist(), strict=True)):
                    self.enqueue(time, (node, port), Packet(None, 0), service, i)
            for down, up in self.conditions.outages.get((node, port), ()):
                self.schedule(down, FAILURE, (), partial(self.die, state))
                self.schedule(up, FAILURE, (), partial(self.revive, state))
        for i, (time, size, ports) in enumerate(cross):
            self.enqueue(time, ports[0], Packet(None, size, route=list(ports[1:])), order=i)

    def enqueue(self, time: int, where: tuple[str, int], packet: Packet, service: int | None = None, order: int = 0) -> None:
        first = (0, packet.message) if packet.message is not None else (1, order)
        self.schedule(time, QUEUEING, (where, first), lambda now: self.join(now, where, packet, service))

    def die(self, port: Port, now: int) -> None:
        for queue in port.waiting.values():
            self.failed += sum(packet.message is not None for packet, _ in queue)
            queue.clear()
        port.epoch += 1
        port.alive = False
        port.free = -(1 << 62)

    def revive(self, port: Port, now: int) -> None:
        port.alive = True

    def join(self, now: int, where: tuple[str, int], packet: Packet, service: int | None) -> None:
        port, wire = self.ports[where], self.topology.wires[where[0]][where[1]]
        own = packet.message is not None
        if not port.alive:
            self.failed += own
            return
        self.hops += 1
        service = wire.transmission_ps(packet.size) if service is None else service
        unsent = sum(time for _, time in port.waiting[packet.high])
        unsent += max(0, port.free - now) if port.high_in_service == packet.high else 0
        if unsent + service > wire.transmission_ps(wire.buffer_bytes):
            self.dropped += own
            self.background_dropped += not own
            return
        port.waiting[packet.high].append((packet, service))
        self.schedule(max(now, port.free), SENDING, (), lambda later: self.send(later, where))

    def send(self, now: int, where: tuple[str, int]) -> None:
        port, wire = self.ports[where], self.topology.wires[where[0]][where[1]]
        high = bool(port.waiting[True])
        if port.free > now or not port.waiting[high]:
            return
        packet, service = port.waiting[high].popleft()
        port.high_in_service, port.free = high, now + service
        if packet.message is not None or packet.route:
            epoch = port.epoch
            self.schedule(port.free + wire.delay_ps, ENTRY, (), lambda later: self.enter(later, where, packet, epoch))
        self.schedule(port.free, SENDING, (), lambda later: self.send(later, where))

    def enter(self, now: int, where: tuple[str, int], packet: Packet, epoch: int) -> None:
        wire = self.topology.wires[where[0]][where[1]]
        own = packet.message is not None
        if self.ports[where].epoch != epoch:
            self.failed += own
        elif packet.route:
            ready = now + self.topology.switching_delay_ps[wire.peer]
            self.enqueue(ready, packet.route[0], Packet(None, packet.size, route=packet.route[1:]), order=next(self.number))
        elif not self.topology.level[wire.peer]:
            assert packet.message is not None
            self.delivered += 1
            self.at[wire.peer][packet.message] = min(now, self.at[wire.peer][packet.message])
        else:
            self.forward(now, wire.peer, wire.port, packet)

    def forward(self, now: int, switch: str, in_port: int, packet: Packet) -> None:
        table = [table for moment, table in self.tables if moment <= now][-1]
        group, sender = self.messages.flows[self.messages.flow[packet.message]]
        for rule in table.get(switch, ()):
            wanted = rule.match
            if wanted.group != group or wanted.sender not in (None, sender):
                continue
            if wanted.in_port in (None, in_port) and wanted.label in (None, packet.label):
                break
        else:
            self.unmatched += 1
            return
        label = packet.label if rule.set_label is None else rule.set_label
        self.made += len(rule.out_ports) - 1
        for out in rule.out_ports:
            copy = Packet(packet.message, packet.size, label, rule.queue == PRIORITY)
            self.enqueue(now + self.topology.switching_delay_ps[switch], (switch, out), copy)
