"""The network model one multicast at a time, for simulations in which later messages depend on earlier deliveries.

    network = LiveNetwork(topology, rules, conditions)
    network.multicast(group, sender, time_ps, size_bytes)   send a message; returns its number
    network.next_ps                                         the time of the next event, NEVER if there is none
    network.advance(until_ps)                               the deliveries up to that time, in order

The caller calls `advance` at `next_ps` or before the next multicast, and never goes back in time. Each packet passes each queue at its
exact time, so deliveries equal those of `run` to the picosecond. It is slower, because it handles one packet after the other in plain
Python. Rules and links do not change while it runs.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import NamedTuple

from stretto.network.model.draws import generator
from stretto.network.model.queues import NEVER
from stretto.network.model.run import WARM_UP_PS, Conditions
from stretto.network.model.traffic import Background
from stretto.network.rules import PRIORITY, UNLABELLED, Rules, lookup
from stretto.network.topology import PS_PER_S, Topology, Wire

_LOOKAHEAD_PS = PS_PER_S // 50


class Delivery(NamedTuple):
    """A message that has left a receiver's stack."""

    time_ps: int
    receiver: str
    message: int


class _Packet(NamedTuple):
    message: int
    group: str
    sender: str
    size_bytes: int
    label: int


_ENTRY, _QUEUEING, _DELIVERY = range(3)


class LiveNetwork:
    """Carries multicasts through a network by rules. A dropped copy is never delivered."""

    def __init__(self, topology: Topology, rules: Rules, conditions: Conditions | None = None) -> None:
        conditions = conditions or Conditions()
        assert not conditions.changes, "rules do not change in a live network"
        assert not conditions.outages, "links do not fail in a live network"
        self._topology = topology
        self._rules = rules
        self._conditions = conditions
        self._ports: dict[tuple[str, int], _Port] = {}
        self._jitter = generator("live stacks", conditions.stacks.seed)
        self._events: list[tuple[int, int, int, int, str, int, bool, _Packet]] = []
        self._sent = 0
        self._scheduled = 0

    @property
    def next_ps(self) -> int:
        """The time of the next event, or NEVER."""
        return self._events[0][0] if self._events else NEVER

    def multicast(self, group: str, sender: str, time_ps: int, size_bytes: int) -> int:
        """Send a message at `time_ps`. Returns its number, which counts from 0."""
        number = self._sent
        self._sent += 1
        port = next(iter(self._topology.wires[sender]))
        packet = _Packet(number, group, sender, size_bytes, UNLABELLED)
        self._schedule(time_ps + self._stack_delay(), _QUEUEING, sender, port, False, packet)
        return number

    def advance(self, until_ps: int) -> list[Delivery]:
        """Process all events up to and including `until_ps`. Returns the deliveries."""
        deliveries: list[Delivery] = []
        while self._events and self._events[0][0] <= until_ps:
            now, kind, _, _, node, port, high, packet = heapq.heappop(self._events)
            if kind == _QUEUEING:
                self._queue(now, node, port, high, packet)
            elif kind == _ENTRY:
                self._enter(now, node, port, packet)
            else:
                deliveries.append(Delivery(now, node, packet.message))
        return deliveries

    def _schedule(self, time: int, kind: int, node: str, port: int, high: bool, packet: _Packet) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (time, kind, packet.message, self._scheduled, node, port, high, packet))

    def _stack_delay(self) -> int:
        mean = self._conditions.stacks.mean_ps
        return int(self._jitter.standard_exponential() * mean) if mean else 0

    def _queue(self, now: int, node: str, port: int, high: bool, packet: _Packet) -> None:
        wire = self._topology.wires[node][port]
        if (node, port) not in self._ports:
            background = self._conditions.background if self._topology.level[node] else Background(0)
            self._ports[node, port] = _Port(node, port, wire, background)
        departure = self._ports[node, port].send(now, wire.transmission_ps(packet.size_bytes), high)
        if departure == NEVER:
            return
        if self._topology.level[wire.peer]:
            self._schedule(departure + wire.delay_ps, _ENTRY, wire.peer, wire.port, False, packet)
        else:
            self._schedule(departure + wire.delay_ps + self._stack_delay(), _DELIVERY, wire.peer, 0, False, packet)

    def _enter(self, now: int, switch: str, in_port: int, packet: _Packet) -> None:
        rule = lookup(self._rules, switch, packet.group, in_port, packet.label, packet.sender)
        if rule is None:
            return
        label = packet.label if rule.set_label is None else rule.set_label
        ready = now + self._topology.switching_delay_ps[switch]
        for out in rule.out_ports:
            self._schedule(ready, _QUEUEING, switch, out, rule.queue == PRIORITY, packet._replace(label=label))


class _Port:
    """An output port that computes the departure of our packets when they arrive. Only high-priority packets overtake waiting ones."""

    def __init__(self, node: str, port: int, wire: Wire, background: Background) -> None:
        self._where = (node, port, wire)
        self._background = background
        self._capacity = wire.transmission_ps(wire.buffer_bytes)
        self._others: deque[tuple[int, int]] = deque()
        self._horizon = -WARM_UP_PS
        self._free = -WARM_UP_PS
        """When the wire is free of packets that have begun, and of all high packets."""
        self._low_end = -WARM_UP_PS
        self._low: deque[tuple[int, int]] = deque()
        """Arrival and transmission time of low packets that wait behind high ones. Empty in a port without high packets."""
        self._low_waiting = 0
        self._high: deque[tuple[int, int]] = deque()
        """Departure and transmission time of high packets."""

    def send(self, now: int, transmission: int, high: bool) -> int:
        """Enqueue a packet of ours. Returns when its last bit leaves, or NEVER if it is dropped."""
        self._catch_up(now, high)
        if not high:
            assert not self._high, "multicasts with and without priority meet"
            return self._take(now, transmission)
        self._start_low(now)
        while self._high and self._high[0][0] <= now:
            self._high.popleft()
        unsent = sum(time for _, time in self._high)
        if self._high:
            unsent -= max(0, now - (self._high[0][0] - self._high[0][1]))
        if unsent + transmission > self._capacity:
            return NEVER
        self._free = max(self._free, now) + transmission
        self._high.append((self._free, transmission))
        return self._free

    def _take(self, arrival: int, transmission: int) -> int:
        departure = max(self._free, arrival) + transmission
        if departure - arrival > self._capacity:
            return NEVER
        self._free = departure
        return departure

    def _catch_up(self, now: int, high: bool) -> None:
        """Enqueue the background traffic that arrives before `now`."""
        while self._horizon < now:
            node, port, wire = self._where
            span = max(_LOOKAHEAD_PS, self._horizon + WARM_UP_PS)
            times, transmissions = self._background.packets(node, port, wire, -WARM_UP_PS, self._horizon + span)
            new = times.searchsorted(self._horizon)
            self._others.extend(zip(times[new:].tolist(), transmissions[new:].tolist(), strict=True))
            self._horizon += span
        while self._others and self._others[0][0] < now:
            arrival, transmission = self._others.popleft()
            if not high:
                self._take(arrival, transmission)
                continue
            self._start_low(arrival)
            if self._low_waiting + max(0, self._low_end - arrival) + transmission <= self._capacity:
                self._low.append((arrival, transmission))
                self._low_waiting += transmission

    def _start_low(self, now: int) -> None:
        """Begin to send the low packets that can begin before `now`."""
        while self._low:
            start = max(self._free, self._low[0][0])
            if start >= now:
                break
            _, transmission = self._low.popleft()
            self._low_waiting -= transmission
            self._free = self._low_end = start + transmission
