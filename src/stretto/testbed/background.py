"""Background traffic on a testbed: datagrams between otherwise idle hosts, which congest links that multicasts use.

For each rack with members of the group, one downward link to the rack's switch carries the requested load. It is a link on which the
group's multicasts come down from the roots, if such a link also leads to a host of that rack. Reordering needs messages that pass different
queues, so links between switches are loaded. On a host's own link all messages share one queue.

The idle hosts of other racks whose packets use that link share its load. Each sends the bursts that the model draws
(`network.model.traffic`), at the rate of its own link, so that bursts of several hosts meet in the link's queue. A few seconds of traffic
are drawn and repeated. Packets that overflow earlier queues do not reach the link, so it carries a little less than requested.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import msgspec
import numpy as np

from stretto.core.errors import ConfigurationError
from stretto.network.designs import Design, rules_for
from stretto.network.groups import Group
from stretto.network.model.traffic import Background
from stretto.network.routes import Failed, Routes
from stretto.network.topology import PS_PER_S, Topology
from stretto.network.verification import walk
from stretto.runtime import namespaces
from stretto.testbed.datagrams import HEADERS_BYTES
from stretto.testbed.fabric import Fabric
from stretto.testbed.sending import Sends, open_socket, sender
from stretto.testbed.unicast import ports_towards
from stretto.testbed.wiring import rate_bps

PORT = 8384
PERIOD_S = 20
_SETTLING_S = 0.3
_PS_PER_NS = 1_000
_BITS = 8
_UNSEEN_BYTES = 24
"""Bytes per packet that the kernel does not count: checksum, preamble and gap."""


class Target(NamedTuple):
    """A link to congest: the switch above a rack and its port, the destination host in that rack, and the source hosts."""

    switch: str
    port: int
    destination: str
    sources: tuple[str, ...]


def targets(topology: Topology, group: Group, design: Design) -> tuple[Target, ...]:
    """The link to congest for each rack with members. `design` decides which paths multicasts take.

    Raises ConfigurationError if no idle host is left, or if there is no switch above the racks.
    """
    routes = Routes(topology, Failed(topology))
    ports = ports_towards(routes)
    rooted = msgspec.structs.replace(design, name="topology_aware")
    compiled = rules_for(topology, group, rooted)
    walks = [walk(topology, compiled.rules, group.address, sender) for sender in group.senders]
    passed = Counter((node, port) for walked in walks for node, port, _ in walked.hops)
    idle = [host for host in topology.hosts if host not in group.senders and host not in group.members]
    found = []
    for rack in dict.fromkeys(topology.rack(member)[0] for member in group.members):
        sources = [host for host in idle if topology.rack(host)[0] != rack]
        if not sources:
            raise ConfigurationError("every host is a sender or a receiver; background traffic needs other hosts", key="background")
        choices = []
        for host in topology.hosts:
            if topology.rack(host)[0] == rack:
                links = {source: _last_link(topology, ports, source, host) for source in sources}
                for link in dict.fromkeys(links.values()):
                    choices.append(Target(*link, host, tuple(source for source in sources if links[source] == link)))
        # Prefer an idle host of the rack to a member, because a member's own link would be loaded too.
        found.append(max(choices, key=lambda to: (passed[to[:2]] > 0, to.destination in idle, len(to.sources), passed[to[:2]])))
    return tuple(found)


def _last_link(topology: Topology, ports: dict[str, dict[str, int]], source: str, destination: str) -> tuple[str, int]:
    """The port by which packets leave the switch above the destination's rack."""
    rack = topology.rack(destination)[0]
    node = topology.rack(source)[0]
    while (wire := topology.wires[node][port := ports[node][destination]]).peer != rack:
        node = wire.peer
    return node, port


@contextmanager
def background(fabric: Fabric, chosen: Sequence[Target], traffic: Background) -> Iterator[None]:
    """Send background traffic to these targets. It has begun when the context is entered, and ends with it."""
    plan = fabric.plan
    if not traffic.load:
        yield
        return
    with ExitStack() as opened:
        hosts = sorted({source for target in chosen for source in target.sources})
        sockets = {host: opened.enter_context(open_socket(plan, host)) for host in hosts}
        for target in chosen:
            # A socket must have the port, although nothing reads it; otherwise the host would answer with ICMP port unreachable.
            opened.enter_context(open_socket(plan, target.destination)).bind((plan.address(target.destination), PORT))
        sending = opened.enter_context(sender(_sends(fabric, chosen, traffic, sockets), PERIOD_S * 10**9))
        sending.start(time.monotonic_ns())
        time.sleep(_SETTLING_S)
        yield


def busy_s(fabric: Fabric, target: Target) -> float:
    """The total time in seconds for which a target's link has been sending since it was made."""
    interface = fabric.plan.interface(target.switch, target.port)
    shown = namespaces.run(*fabric.command(target.switch), "ip", "-json", "-statistics", "link", "show", "dev", interface)
    sent = msgspec.json.decode(shown)[0]["stats64"]["tx"]
    wire_bytes = sent["bytes"] + sent["packets"] * _UNSEEN_BYTES
    return float(wire_bytes * _BITS / rate_bps(fabric.plan, target.switch, target.port, fabric.scale))


def _sends(fabric: Fabric, chosen: Sequence[Target], traffic: Background, sockets: dict[str, socket.socket]) -> Sends:
    """One period of every source's share of every target's load, in the order of time."""
    streams = [(source, target) for target in chosen for source in target.sources]
    by, at, sizes = [], [], []
    for index, (source, target) in enumerate(streams):
        wire = fabric.plan.topology.wires[target.switch][target.port]
        wire = msgspec.structs.replace(wire, rate_bps=rate_bps(fabric.plan, target.switch, target.port, fabric.scale))
        share = msgspec.structs.replace(traffic, load=traffic.load / len(target.sources), ports=None)
        times, transmissions = share.packets(source, index, wire, 0, PERIOD_S * PS_PER_S)
        by.append(np.full(len(times), index))
        at.append(times // _PS_PER_NS)
        sizes.append(np.rint(transmissions * (wire.rate_bps / _BITS / PS_PER_S)).astype(np.int64) - HEADERS_BYTES)
    order = np.argsort(np.concatenate(at), kind="stable")
    return Sends(
        tuple(sockets[source] for source, _ in streams),
        tuple((fabric.plan.address(target.destination), PORT) for _, target in streams),
        (b"",) * len(streams),
        np.concatenate(by)[order],
        np.concatenate(at)[order],
        np.concatenate(sizes)[order],
    )
