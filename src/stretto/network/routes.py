"""The paths of a network with failures, and the choice between equal paths.

Paths go up and then down, never up again. Such paths are the shortest in a tree of switches, and their queues cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from stretto.core.errors import ConfigurationError
from stretto.network.topology import Topology, split_end


class Hop(NamedTuple):
    """A next hop from a node: out through `port`, into `peer` at `peer_port`."""

    port: int
    peer: str
    peer_port: int


def weight(*parts: object) -> int:
    """A deterministic hash: 64 bits of the text of `parts`, equal on every machine and in every run."""
    return int.from_bytes(blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


def choose(key: str, hops: Sequence[Hop]) -> Hop:
    """Choose between equal next hops by rendezvous hashing: the highest hash of key and peer. The port decides between links to one peer.

    Equal keys and peers give equal choices, so paths join where they can. When a hop fails or returns, only choices of this hop change.
    """
    return hops[0] if len(hops) == 1 else max(hops, key=lambda hop: (weight(key, hop.peer), hop.peer_port))


class Failed:
    """The switches and links that have failed. A link is named by either of its ends, `node:port`, and the link of a host by the host."""

    def __init__(self, topology: Topology, elements: Iterable[str] = ()) -> None:
        self.elements = frozenset(elements)
        self.switches: set[str] = set()
        self.ports: set[tuple[str, int]] = set()
        for element in sorted(self.elements):
            if topology.level.get(element):
                self.switches.add(element)
                ends = [(element, port) for port in topology.wires[element]]
            elif topology.level.get(element) == 0:
                ends = [(element, port) for port in topology.wires[element]]
            else:
                ends = [_port(topology, element)]
            for node, port in ends:
                wire = topology.wires[node][port]
                self.ports |= {(node, port), (wire.peer, wire.port)}


def _port(topology: Topology, element: str) -> tuple[str, int]:
    try:
        node, port = split_end(element)
        topology.wires[node][port]
    except (ValueError, KeyError):
        raise ConfigurationError(f"{element!r} is neither a node nor a link's end 'node:port'", key="failed") from None
    return node, port


class Routes:
    """The paths of a topology without its failed switches and links."""

    def __init__(self, topology: Topology, failed: Failed | None = None) -> None:
        self.topology = topology
        self.failed = failed or Failed(topology)
        self.up: dict[str, list[Hop]] = {}
        self.down: dict[str, list[Hop]] = {}
        for node, wires in topology.wires.items():
            alive = [Hop(port, wire.peer, wire.port) for port, wire in wires.items() if (node, port) not in self.failed.ports]
            self.up[node] = [hop for hop in alive if topology.level[hop.peer] > topology.level[node]]
            self.down[node] = [hop for hop in alive if topology.level[hop.peer] < topology.level[node]]
        self.roots = [root for root in topology.roots if root not in self.failed.switches]
        self._cones = {root: self._cone(root) for root in self.roots}
        self._shortest: dict[str, dict[tuple[str, bool], list[tuple[tuple[str, bool], Hop]]]] = {}

    def _cone(self, root: str) -> set[str]:
        cone = {root}
        frontier = [root]
        while frontier:
            frontier = [hop.peer for node in frontier for hop in self.down[node] if hop.peer not in cone]
            cone.update(frontier)
        return cone

    def reaches(self, root: str, node: str) -> bool:
        """Whether there is a path down from `root` to `node`. The reverse is a path up."""
        return node in self._cones[root]

    def towards(self, root: str, node: str) -> list[Hop]:
        """The next hops from `node` up towards `root`."""
        cone = self._cones[root]
        return [hop for hop in self.up[node] if hop.peer in cone]

    def rack(self, host: str) -> tuple[str, int] | None:
        """The switch of a host, and the port of the switch to the host; None if that link has failed."""
        return next(((hop.peer, hop.peer_port) for hop in self.up[host]), None)

    def shortest(self, start: str) -> dict[tuple[str, bool], list[tuple[tuple[str, bool], Hop]]]:
        """All shortest paths from a switch: for each place, the places before it and the hops from those.

        A place is a switch, and whether the path to it has already gone down.
        """
        if start not in self._shortest:
            before: dict[tuple[str, bool], list[tuple[tuple[str, bool], Hop]]] = {(start, False): []}
            frontier = [(start, False)]
            while frontier:
                found: dict[tuple[str, bool], list[tuple[tuple[str, bool], Hop]]] = {}
                for place in frontier:
                    for goes_down, hops in ((False, () if place[1] else self.up[place[0]]), (True, self.down[place[0]])):
                        for hop in hops:
                            if (hop.peer, goes_down) not in before and self.topology.level[hop.peer]:
                                found.setdefault((hop.peer, goes_down), []).append((place, hop))
                before |= found
                frontier = list(found)
            self._shortest[start] = before
        return self._shortest[start]
