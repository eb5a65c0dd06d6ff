"""Multicasts through a network by its rules, from each sender's network card to each receiver, computed port by port.

A message waits in its sender's stack and then in the queue of its network card. It arrives at a switch with its last bit. The switch looks
its rule up at that time, and after the switch's delay puts the copies into its output queues. Each queue sends at the link's rate, and the
link adds its delay. Paths go up and then down, so each port is computed once, with all its packets, after all ports that feed it. Only
ports that multicasts use are simulated, each with its own background traffic.

Rules may change and links may fail while messages are in transit. A packet obeys the rules that its switch has when it arrives. A link that
fails loses the packets on it and in its queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stretto.network.controller import Controller
from stretto.network.model.queues import NEVER, Served, Times, serve_fifo, serve_priority
from stretto.network.model.traffic import Background, Stacks
from stretto.network.routes import Failed
from stretto.network.rules import PRIORITY, UNLABELLED, Rule, Rules, lookup
from stretto.network.topology import Topology, Wire

WARM_UP_PS = 20_000_000_000
"""The background traffic begins 20 ms before the first message, so that the queues are in a steady state."""


@dataclass(frozen=True)
class Messages:
    """The multicast messages: message i of flow `flow[i]` at `time_ps[i]`, in ascending order. A flow is a group's address and a sender."""

    flows: tuple[tuple[str, str], ...]
    flow: NDArray[np.int64]
    time_ps: Times
    size_bytes: int = 128

    def __len__(self) -> int:
        return len(self.time_ps)


@dataclass(frozen=True)
class Conditions:
    """The conditions of a run besides topology, rules and messages.

    `changes` are later rules, with the time from which they hold. `outages` has, for a port (both ends of a link have one), the half-open
    time spans in which it is down.
    """

    background: Background = field(default_factory=lambda: Background(0))
    stacks: Stacks = field(default_factory=Stacks)
    changes: tuple[tuple[int, Rules], ...] = ()
    outages: Mapping[tuple[str, int], tuple[tuple[int, int], ...]] = field(default_factory=dict)
    until_ps: int = NEVER


@dataclass
class Census:
    """The fates of all copies: made = delivered + dropped + failed + unmatched + in_flight.

    A message is one copy until a switch makes several of it. `dropped`: by full buffers; `failed`: with a link; `unmatched`: by a switch
    without a rule; `in_flight`: not delivered before the end of the run. `packet_hops` counts packets that reached a queue, including
    background traffic.
    """

    made: int = 0
    delivered: int = 0
    dropped: int = 0
    failed: int = 0
    unmatched: int = 0
    in_flight: int = 0
    background_dropped: int = 0
    packet_hops: int = 0


@dataclass
class Deliveries:
    """The times at which messages left the receivers' stacks: `at[host][i]`, in picoseconds; NEVER if it did not. The first copy counts."""

    at: dict[str, Times]
    census: Census


@dataclass
class _Copies:
    """The packets for one output queue."""

    message: list[NDArray[np.int64]] = field(default_factory=list)
    time: list[Times] = field(default_factory=list)
    label: list[NDArray[np.int64]] = field(default_factory=list)
    priority: bool = False

    def add(self, message: NDArray[np.int64], time: Times, label: NDArray[np.int64]) -> None:
        self.message.append(message)
        self.time.append(time)
        self.label.append(label)

    def in_order(self) -> tuple[NDArray[np.int64], Times, NDArray[np.int64]]:
        message, time, label = (np.concatenate(parts) for parts in (self.message, self.time, self.label))
        order = np.lexsort((message, time))
        return message[order], time[order], label[order]


def run(topology: Topology, rules: Rules, messages: Messages, conditions: Conditions | None = None) -> Deliveries:
    """Send the messages and compute their arrivals. All copies that meet in a port must use the same queue."""
    return _Run(topology, rules, messages, conditions or Conditions()).run()


class _Run:
    def __init__(self, topology: Topology, rules: Rules, messages: Messages, conditions: Conditions) -> None:
        self.topology = topology
        self.messages = messages
        self.conditions = conditions
        self.starts = [0, *(moment for moment, _ in conditions.changes)]
        self.tables = [rules, *(later for _, later in conditions.changes)]
        self.known: dict[tuple[int, str, int, int, int], Rule | None] = {}
        top = max(topology.level.values())
        self.queues: list[dict[tuple[str, int], _Copies]] = [{} for _ in range(2 * top + 1)]
        self.arrived: dict[str, list[tuple[NDArray[np.int64], Times]]] = {}
        self.census = Census()
        self.begin = -WARM_UP_PS

    def run(self) -> Deliveries:
        self._send()
        for rank in self.queues:
            for node, port in sorted(rank):
                self._serve(node, port, rank.pop((node, port)))
        return Deliveries({host: self._received(host) for host in sorted(self.arrived)}, self.census)

    def _send(self) -> None:
        messages = self.messages
        leave = messages.time_ps + self.conditions.stacks.sending(len(messages))
        number = np.arange(len(messages))
        senders = [sender for _, sender in messages.flows]
        self.census.made = len(messages)
        for sender in sorted(set(senders)):
            mine = np.isin(messages.flow, [i for i, name in enumerate(senders) if name == sender])
            port = next(iter(self.topology.wires[sender]))
            self._enqueue(sender, port, number[mine], leave[mine], np.full(mine.sum(), UNLABELLED), False)

    def _enqueue(self, node: str, port: int, message: NDArray[np.int64], time: Times, label: NDArray[np.int64], priority: bool) -> None:
        level, above = self.topology.level[node], self.topology.level[self.topology.wires[node][port].peer]
        rank = level if above > level else len(self.queues) - 1 - level
        copies = self.queues[rank].setdefault((node, port), _Copies(priority=priority))
        assert copies.priority == priority, f"multicasts with and without priority meet in {node}:{port}"
        copies.add(message, time, label)

    def _serve(self, node: str, port: int, copies: _Copies) -> None:
        wire = self.topology.wires[node][port]
        message, time, label = copies.in_order()
        out = np.full(len(time), NEVER)
        spans = _alive(self.conditions.outages.get((node, port), ()), self.begin)
        for up, down in spans:
            part = slice(*np.searchsorted(time, (up, down)))
            if part.start < part.stop:
                served = self._queue(node, port, wire, time[part], copies.priority, up, down)
                arrival = np.where(served.departures == NEVER, NEVER, served.departures + wire.delay_ps)
                self.census.dropped += int((arrival == NEVER).sum())
                self.census.failed += int(((arrival >= down) & (arrival != NEVER)).sum())
                out[part] = np.where(arrival < down, arrival, NEVER)
        alive = sum(int(np.diff(np.searchsorted(time, span))[0]) for span in spans)
        self.census.failed += len(time) - alive
        late = (out != NEVER) & (out > self.conditions.until_ps)
        self.census.in_flight += int(late.sum())
        through = (out != NEVER) & ~late
        self._arrive(wire, message[through], out[through], label[through])

    def _queue(self, node: str, port: int, wire: Wire, time: Times, priority: bool, up: int, down: int) -> Served:
        own_time = wire.transmission_ps(self.messages.size_bytes)
        capacity = wire.transmission_ps(wire.buffer_bytes)
        empty = np.zeros(0, np.int64)
        other, other_times = empty, empty
        if self.topology.level[node]:
            other, other_times = self.conditions.background.packets(node, port, wire, self.begin, int(time[-1]) + 1)
            part = slice(*np.searchsorted(other, (up, down)))
            other, other_times = other[part], other_times[part]
        serve = serve_priority if priority else serve_fifo
        served = serve(time, own_time, other, other_times, capacity)
        self.census.packet_hops += len(time) + len(other)
        self.census.background_dropped += served.others_dropped
        return served

    def _arrive(self, wire: Wire, message: NDArray[np.int64], time: Times, label: NDArray[np.int64]) -> None:
        if not len(message):
            return
        switch = wire.peer
        if not self.topology.level[switch]:
            self.arrived.setdefault(switch, []).append((message, time))
            self.census.delivered += len(message)
            return
        version = np.searchsorted(self.starts, time, "right") - 1 if len(self.starts) > 1 else np.zeros(len(time), np.int64)
        flows = len(self.messages.flows)
        kinds, kind = np.unique((version * (1 << 20) + label) * flows + self.messages.flow[message], return_inverse=True)
        ready = time + self.topology.switching_delay_ps[switch]
        for rule, members in self._by_rule(switch, wire.port, kinds.tolist()).items():
            chosen = kind == members[0] if len(members) == 1 else np.isin(kind, members)
            count = int(chosen.sum())
            if rule is None:
                self.census.unmatched += count
                continue
            self.census.made += count * (len(rule.out_ports) - 1)
            new_label = label[chosen] if rule.set_label is None else np.full(count, rule.set_label)
            for out in rule.out_ports:
                self._enqueue(switch, out, message[chosen], ready[chosen], new_label, rule.queue == PRIORITY)

    def _by_rule(self, switch: str, in_port: int, kinds: Sequence[int]) -> dict[Rule | None, list[int]]:
        """The kinds of packets (rules in force, label, flow), grouped by the rule that they obey."""
        found: dict[Rule | None, list[int]] = {}
        flows = self.messages.flows
        for number, kind in enumerate(kinds):
            rest, flow = divmod(kind, len(flows))
            version, label = divmod(rest, 1 << 20)
            rule = lookup(self.tables[version], switch, flows[flow][0], in_port, label, flows[flow][1])
            found.setdefault(rule, []).append(number)
        return found

    def _received(self, host: str) -> Times:
        first = np.full(len(self.messages), NEVER)
        for message, time in self.arrived[host]:
            np.minimum.at(first, message, time)
        came = first != NEVER
        first[came] += self.conditions.stacks.receiving(host, len(first))[came]
        return first


def _alive(outages: Sequence[tuple[int, int]], begin: int) -> list[tuple[int, int]]:
    """The time spans between outages."""
    moments = [begin, *(moment for span in sorted(outages) for moment in span), NEVER]
    return [(up, down) for up, down in zip(moments[::2], moments[1::2], strict=True) if up < down]


def failing(
    controller: Controller, elements: Sequence[str], at_ps: int, notice_ps: int, back_ps: int | None = None
) -> tuple[Rules, Conditions]:
    """A failure during a run: `elements` fail at `at_ps` and, if `back_ps` is given, work again from then on.

    `notice_ps` after each of these times, the controller's new rules are on all switches. Returns the initial rules, and conditions with
    the changes and outages, which can be completed by `dataclasses.replace`. The controller keeps its state after the last change.
    """
    before = controller.rules
    spans = ((at_ps, NEVER if back_ps is None else back_ps),)
    outages = dict.fromkeys(sorted(Failed(controller.topology, elements).ports), spans)
    controller.fail(*elements)
    changes = [(at_ps + notice_ps, controller.rules)]
    if back_ps is not None:
        controller.repair(*elements)
        changes.append((back_ps + notice_ps, controller.rules))
    return before, Conditions(changes=tuple(changes), outages=outages)
