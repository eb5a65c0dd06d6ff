"""Which ways a network has, given what has failed, and how one of several equal ways is chosen.

Ways go up and then down, never up again: such ways are shortest in a tree of switches, and queues on them cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from stretto.core.errors import ConfigurationError
from stretto.network.topology import Topology, split_end


class Way(NamedTuple):
    """One step from a node: out at `port`, into `peer` at `peer_port`."""

    port: int
    peer: str
    peer_port: int


def weight(*parts: object) -> int:
    """A hash that is the same everywhere and always: 64 bits of what `parts` read as."""
    return int.from_bytes(blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


def choose(key: str, ways: Sequence[Way]) -> Way:
    """One of equal ways, by the highest hash of key and peer (rendezvous hashing; the port decides between links to one peer).

    Whoever chooses among the same peers under the same key chooses the same one, so ways join where they can; and as ways die and
    return, only those who used them move.
    """
    return ways[0] if len(ways) == 1 else max(ways, key=lambda way: (weight(key, way.peer), way.peer_port))


class Failed:
    """Switches and links that do not work. A link is named by either of its ends, `node:port`; a host by its link."""

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
    """The ways of a topology without what has failed."""

    def __init__(self, topology: Topology, failed: Failed | None = None) -> None:
        self.topology = topology
        self.failed = failed or Failed(topology)
        self.up: dict[str, list[Way]] = {}
        self.down: dict[str, list[Way]] = {}
        for node, wires in topology.wires.items():
            alive = [Way(port, wire.peer, wire.port) for port, wire in wires.items() if (node, port) not in self.failed.ports]
            self.up[node] = [way for way in alive if topology.level[way.peer] > topology.level[node]]
            self.down[node] = [way for way in alive if topology.level[way.peer] < topology.level[node]]
        self.roots = [root for root in topology.roots if root not in self.failed.switches]
        self._cones = {root: self._cone(root) for root in self.roots}
        self._shortest: dict[str, dict[tuple[str, bool], list[tuple[tuple[str, bool], Way]]]] = {}

    def _cone(self, root: str) -> set[str]:
        cone = {root}
        frontier = [root]
        while frontier:
            frontier = [way.peer for node in frontier for way in self.down[node] if way.peer not in cone]
            cone.update(frontier)
        return cone

    def reaches(self, root: str, node: str) -> bool:
        """Whether there is a way down from `root` to `node`, which is also one up."""
        return node in self._cones[root]

    def towards(self, root: str, node: str) -> list[Way]:
        """The steps up from `node` that come nearer to `root`."""
        cone = self._cones[root]
        return [way for way in self.up[node] if way.peer in cone]

    def rack(self, host: str) -> tuple[str, int] | None:
        """The switch that a host hangs at and the port there, or None if that link has failed."""
        return next(((way.peer, way.peer_port) for way in self.up[host]), None)

    def shortest(self, start: str) -> dict[tuple[str, bool], list[tuple[tuple[str, bool], Way]]]:
        """All shortest ways from a switch: for each place, the places before it and the steps from those.

        A place is a switch and whether the way there has gone down already.
        """
        if start not in self._shortest:
            before: dict[tuple[str, bool], list[tuple[tuple[str, bool], Way]]] = {(start, False): []}
            frontier = [(start, False)]
            while frontier:
                found: dict[tuple[str, bool], list[tuple[tuple[str, bool], Way]]] = {}
                for place in frontier:
                    for nowdown, ways in ((False, () if place[1] else self.up[place[0]]), (True, self.down[place[0]])):
                        for way in ways:
                            if (way.peer, nowdown) not in before and self.topology.level[way.peer]:
                                found.setdefault((way.peer, nowdown), []).append((place, way))
                before |= found
                frontier = list(found)
            self._shortest[start] = before
        return self._shortest[start]
