"""A network topology: switches in levels, hosts below them, and links with a rate and a delay.

A topology file is TOML:

    switches = [{ name = "leaf0", level = 1 }, { name = "spine0", level = 2, delay_ns = 800 }, ...]
    hosts = ["a", "b", ...]
    links = [{ ends = ["a:1", "leaf0:1"], rate_gbps = 10 }, { ends = ["leaf0:9", "spine0:1"], rate_gbps = 40, delay_ns = 500 }, ...]

Switches of level 1 connect to hosts; those of the highest level are the roots. A link joins a host and a switch of level 1, or two switches
of neighbouring levels, so every path between two hosts goes up and then down. Ports are numbered as on the switch itself, from 1.
"""

from __future__ import annotations

import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from stretto.core.errors import ConfigurationError

PS_PER_NS = 1_000
PS_PER_S = 10**12
NEVER = 2**63 - 1
"""The moment of what does not happen, such as the arrival of a packet that was dropped."""
LARGEST_PACKET_BYTES = 1_538
"""A full Ethernet frame on the wire: 1,500 bytes, header, checksum, preamble and gap."""


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A switch. `level` counts from 1 at the hosts; `delay_ns` is the time from a packet's last bit until it is in an output queue."""

    name: str
    level: int
    delay_ns: int = 1_000


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cable, with equal properties in both directions.

    `ends` are two ports, as `node:port`; `rate_gbps` is in 10^9 bits per second; `delay_ns` is the propagation delay; `buffer_bytes` is the
    capacity of each class of each of its two output queues.
    """

    ends: tuple[str, str]
    rate_gbps: float
    delay_ns: int = 200
    buffer_bytes: int = 262_144


class Wire(msgspec.Struct, frozen=True):
    """One direction of a link: a packet sent from this end arrives at `port` of `peer`. `rate_bps` is in bits per second."""

    peer: str
    port: int
    rate_bps: int
    delay_ps: int
    buffer_bytes: int

    def transmission_ps(self, size_bytes: int) -> int:
        """How long a packet occupies the wire, in picoseconds, rounded up."""
        return -(-size_bytes * 8 * PS_PER_S // self.rate_bps)


class Topology(msgspec.Struct, forbid_unknown_fields=True, dict=True):
    """A network. The constructor does not check it; `load`, `parse` and `validate` do."""

    switches: tuple[Switch, ...]
    hosts: tuple[str, ...]
    links: tuple[Link, ...]

    @cached_property
    def level(self) -> dict[str, int]:
        """The level of every node; hosts have 0."""
        return dict.fromkeys(self.hosts, 0) | {switch.name: switch.level for switch in self.switches}

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The switches of the highest level."""
        top = max(switch.level for switch in self.switches)
        return tuple(switch.name for switch in self.switches if switch.level == top)

    @cached_property
    def wires(self) -> dict[str, dict[int, Wire]]:
        """For each node, the wire at each of its ports."""
        wires: dict[str, dict[int, Wire]] = {name: {} for name in self.level}
        for link in self.links:
            (a, a_port), (b, b_port) = (split_end(end) for end in link.ends)
            rate_bps, delay_ps = round(link.rate_gbps * 1e9), link.delay_ns * PS_PER_NS
            wires[a][a_port] = Wire(b, b_port, rate_bps, delay_ps, link.buffer_bytes)
            wires[b][b_port] = Wire(a, a_port, rate_bps, delay_ps, link.buffer_bytes)
        return wires

    @cached_property
    def switching_delay_ps(self) -> dict[str, int]:
        """For each switch, the time from a packet's last bit until it is in an output queue, in picoseconds."""
        return {switch.name: switch.delay_ns * PS_PER_NS for switch in self.switches}

    def rack(self, host: str) -> tuple[str, int]:
        """The switch of a host, and the port of the switch to the host."""
        (wire,) = self.wires[host].values()
        return wire.peer, wire.port

    def validate(self) -> Topology:
        """Return this topology if it is valid. Otherwise raises ConfigurationError with the key and the valid values."""
        _check_nodes(self)
        _check_links(self)
        _check_connections(self)
        return self

    def to_toml(self) -> str:
        """The topology as the text of a file that `load` reads."""
        lines = ["switches = ["]
        lines += [f"  {{ name = {_toml(s.name)}, level = {s.level}, delay_ns = {s.delay_ns} }}," for s in self.switches]
        lines += ["]", "hosts = ["]
        lines += [f"  {_toml(host)}," for host in self.hosts]
        lines += ["]", "links = ["]
        for link in self.links:
            ends = ", ".join(_toml(end) for end in link.ends)
            numbers = f"rate_gbps = {link.rate_gbps}, delay_ns = {link.delay_ns}, buffer_bytes = {link.buffer_bytes}"
            lines.append(f"  {{ ends = [{ends}], {numbers} }},")
        return "\n".join([*lines, "]", ""])


def load(file: str | Path) -> Topology:
    """Read and check a topology file. Raises ConfigurationError with the file, the key and the reason."""
    topology: Topology = read_toml(file, parse)
    return topology


def parse(table: dict[str, Any]) -> Topology:
    """A topology from plain data. Raises ConfigurationError with the key and the reason."""
    topology: Topology = convert(table, Topology)
    return topology.validate()


def read_toml(file: str | Path, parser: Any) -> Any:
    """Read a TOML file and apply `parser` to its table. Raises ConfigurationError that names the file."""
    try:
        return parser(tomllib.loads(Path(file).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise ConfigurationError("is not UTF-8 text", file=file) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not TOML: {error}", file=file) from None
    except ConfigurationError as error:
        raise error.in_file(file) from None


def convert(table: dict[str, Any], kind: Any) -> Any:
    """Convert plain data to the msgspec type `kind`. Raises ConfigurationError that names the key."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise ConfigurationError(reason, key=where.rstrip("`").lstrip(".") or None) from None


def split_end(end: str) -> tuple[str, int]:
    """The node and the port number of `node:port`. Raises ValueError for any other text."""
    node, _, port = end.rpartition(":")
    if not node or not port.isdecimal() or int(port) < 1:
        raise ValueError(end)
    return node, int(port)


def _check_nodes(topology: Topology) -> None:
    seen: dict[str, str] = {}
    names = [(f"switches[{i}].name", switch.name) for i, switch in enumerate(topology.switches)]
    names += [(f"hosts[{i}]", host) for i, host in enumerate(topology.hosts)]
    for key, name in names:
        if not name or ":" in name or name != name.strip():
            raise ConfigurationError(f"{name!r} is not a name; some text without ':' is needed", key=key)
        if (other := seen.setdefault(name, key)) != key:
            raise ConfigurationError(f"{name!r} is the name of {other} already", key=key)
    if not topology.switches:
        raise ConfigurationError("is empty; a network has at least one switch", key="switches")
    if not topology.hosts:
        raise ConfigurationError("is empty; a network has at least one host", key="hosts")
    for i, switch in enumerate(topology.switches):
        if switch.level < 1:
            reason = f"{switch.level} is not a level; 1 faces the hosts, roots have the highest"
            raise ConfigurationError(reason, key=f"switches[{i}].level")
        if switch.delay_ns < 0:
            raise ConfigurationError(f"{switch.delay_ns} is negative; 0 or more nanoseconds", key=f"switches[{i}].delay_ns")


def _check_links(topology: Topology) -> None:
    used: dict[str, str] = {}
    for i, link in enumerate(topology.links):
        key = f"links[{i}]"
        levels = []
        for end in link.ends:
            try:
                node, _ = split_end(end)
            except ValueError:
                raise ConfigurationError(f"{end!r} is not of the form 'node:port', ports from 1", key=f"{key}.ends") from None
            if node not in topology.level:
                raise ConfigurationError(f"{node!r} is neither a switch nor a host", key=f"{key}.ends")
            if (other := used.setdefault(end, key)) != key or link.ends[0] == link.ends[1]:
                raise ConfigurationError(f"port {end!r} is used by {other} already", key=f"{key}.ends")
            levels.append(topology.level[node])
        if abs(levels[0] - levels[1]) != 1:
            reason = f"joins {link.ends[0]} (level {levels[0]}) with {link.ends[1]} (level {levels[1]}); neighbouring levels are needed"
            raise ConfigurationError(f"{reason}, hosts being level 0", key=f"{key}.ends")
        if not 0.001 <= link.rate_gbps <= 10_000:
            raise ConfigurationError(f"{link.rate_gbps} is not a rate; 0.001 to 10000 Gbit/s", key=f"{key}.rate_gbps")
        if link.delay_ns < 0:
            raise ConfigurationError(f"{link.delay_ns} is negative; 0 or more nanoseconds", key=f"{key}.delay_ns")
        if link.buffer_bytes < LARGEST_PACKET_BYTES:
            reason = f"{link.buffer_bytes} bytes do not hold one packet; {LARGEST_PACKET_BYTES} or more"
            raise ConfigurationError(reason, key=f"{key}.buffer_bytes")


def _check_connections(topology: Topology) -> None:
    for i, host in enumerate(topology.hosts):
        if (links := len(topology.wires[host])) != 1:
            raise ConfigurationError(f"host {host!r} has {links} links; one to a switch of level 1 is needed", key=f"hosts[{i}]")
    reached = {topology.hosts[0]}
    frontier = [topology.hosts[0]]
    while frontier:
        frontier = [wire.peer for node in frontier for wire in topology.wires[node].values() if wire.peer not in reached]
        reached.update(frontier)
    for i, switch in enumerate(topology.switches):
        if switch.name not in reached:
            raise ConfigurationError(f"{switch.name!r} has no path to {topology.hosts[0]!r}", key=f"switches[{i}]")
    for i, host in enumerate(topology.hosts):
        if host not in reached:
            raise ConfigurationError(f"{host!r} has no path to {topology.hosts[0]!r}", key=f"hosts[{i}]")


def _toml(value: str) -> str:
    return msgspec.json.encode(value).decode()
