"""The packet-level model of a data centre as the network of a simulation, instead of plain links.

Replicas and clients are hosts of a topology. Requests are multicasts that follow the rules of a design; all other messages go from host to
host. Both share the queues with the other traffic of the network, and lose packets if queues are full. If the design gives priority to
multicasts, all traffic of the cluster has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.core.node import Address
from stretto.network.designs import Design, rules_for
from stretto.network.groups import Group, place
from stretto.network.model.traffic import Background, Stacks
from stretto.network.rules import PRIORITY, union
from stretto.network.topologies import named
from stretto.network.topology import NEVER
from stretto.simulation.network import GROUP, Deliver

PACKET_BYTES = 1_400
"""How much of a datagram one packet carries; a larger datagram arrives with its last packet."""

OVERHEAD_BYTES = 66
"""The headers of Ethernet, IP and UDP for one packet."""

_PS_PER_NS = 1_000
_FORGET_NS = 1_000_000_000


class Fabric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the network: `topology` as in `stretto network` ("" means plain links instead), the multicast `design` and its
    `merge` rule, the share of each link that other traffic takes (`load`), its bursts (`bursts`), and the mean jitter of hosts."""

    topology: str = ""
    design: str = "serialised"
    merge: str = "per_root"
    load: float = 0.0
    bursts: str = "onoff"
    jitter_us: float = 0.0

    def validate(self) -> Fabric:
        """Check these settings and return them. Raises ConfigurationError with the key and what would be right."""
        if self.topology:
            named(self.topology)
        Design(self.design, self.merge)
        Background(self.load, self.bursts)  # type: ignore[arg-type]
        if not 0 <= self.jitter_us <= 1e6:
            raise ConfigurationError(f"{self.jitter_us} is not a jitter; 0 or more microseconds", key="fabric.jitter_us")
        return self


class _Datagram:
    """A datagram in flight: how many of its packets each receiver still lacks, and the call when the last one arrives."""

    def __init__(self, leaves_ns: int, source: Address, packets: int, deliver: Deliver) -> None:
        self.leaves_ns = leaves_ns
        self.source = source
        self.packets = packets
        self.deliver = deliver
        self.lacking: dict[Address, int] = {}


class FabricNetwork:
    """Carries datagrams through the fabric. `at` asks the world to call something at a time; `hosts`: where each node has been placed."""

    at_once = False

    def __init__(self, fabric: Fabric, replicas: Sequence[Address], clients: Sequence[Address], seed: int) -> None:
        # The model needs numpy. A simulation over plain links must work without it.
        from stretto.network.model.live import LiveNetwork
        from stretto.network.model.run import Conditions

        topology = named(fabric.topology)
        design = Design(fabric.design, fabric.merge, salt=seed)
        group = place(topology, len(clients), len(replicas), seed)
        self.hosts = dict(zip((*replicas, *clients), (*group.members, *group.senders), strict=True))
        self.at: Callable[[int, Callable[[Any, Any], Any]], None] | None = None
        self._nodes = {host: node for node, host in self.hosts.items()}
        self._group = group.address
        self._private = {node: f"239.84.0.{number}" for number, node in enumerate(self.hosts, 1)}
        everyone = tuple(self.hosts.values())
        unicast = Design("prioritised" if design.queue == PRIORITY else "plain", salt=seed)
        tables = [rules_for(topology, Group(group.address, group.members, everyone), design).rules]
        for node, host in self.hosts.items():
            others = tuple(other for other in everyone if other != host)
            tables.append(rules_for(topology, Group(self._private[node], (host,), others), unicast).rules)
        background = Background(fabric.load, fabric.bursts, seed=seed)  # type: ignore[arg-type]
        self._live = LiveNetwork(topology, union(tables), Conditions(background, Stacks(round(fabric.jitter_us * 1_000_000), seed)))
        self._under_way: dict[int, _Datagram] = {}
        self._wakes_ns = NEVER

    def carry(self, leaves_ns: int, source: Address, destination: Address, size: int, deliver: Deliver) -> None:
        """See `stretto.simulation.network.Network`."""
        group = self._group if destination == GROUP else self._private[destination]
        packets = max(1, -(-size // PACKET_BYTES))
        datagram = _Datagram(leaves_ns, source, packets, deliver)
        for packet in range(packets):
            content = min(PACKET_BYTES, size - packet * PACKET_BYTES)
            number = self._live.multicast(group, self.hosts[source], leaves_ns * _PS_PER_NS, content + OVERHEAD_BYTES)
            self._under_way[number] = datagram
        self._sleep()

    def _sleep(self) -> None:
        """Ask to be woken when the next packet moves."""
        next_ns = -(-self._live.next_ps // _PS_PER_NS)
        if self._live.next_ps != NEVER and next_ns < self._wakes_ns:
            assert self.at is not None
            self._wakes_ns = next_ns
            self.at(next_ns, lambda _first, _second: self._advance(next_ns))

    def _advance(self, now_ns: int) -> None:
        if now_ns == self._wakes_ns:
            self._wakes_ns = NEVER
        for _, host, number in self._live.advance(now_ns * _PS_PER_NS):
            datagram, receiver = self._under_way[number], self._nodes[host]
            lacking = datagram.lacking[receiver] = datagram.lacking.get(receiver, datagram.packets) - 1
            if not lacking and receiver != datagram.source:
                datagram.deliver(receiver, now_ns)
        self._forget(now_ns - _FORGET_NS)
        self._sleep()

    def _forget(self, before_ns: int) -> None:
        """Forget datagrams that left before that time: no packet travels so long, so the packets that have not arrived were dropped."""
        while self._under_way and self._under_way[oldest := next(iter(self._under_way))].leaves_ns < before_ns:
            del self._under_way[oldest]
