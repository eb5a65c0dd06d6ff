"""Multicast groups: their receivers and senders, files of groups, and random placement.

[[groups]]
address = "239.83.84.1"
members = ["p0t0h0", "p1t3h2", "p2t1h7"]
senders = ["p0t4h4"]            # optional; without it every host may send
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from stretto.core.config import is_ipv4
from stretto.core.errors import ConfigurationError
from stretto.network.topology import Topology, convert, read_toml


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group: its IPv4 multicast address, the hosts that receive, and the hosts that send (empty: all hosts may)."""

    address: str
    members: tuple[str, ...]
    senders: tuple[str, ...] = ()

    def sending(self, topology: Topology) -> tuple[str, ...]:
        """The hosts that may send."""
        return self.senders or topology.hosts

    def validate(self, topology: Topology, key: str = "group") -> Group:
        """Return this group if it is valid in `topology`. Otherwise raises ConfigurationError under `key`."""
        if not (is_ipv4(self.address) and ipaddress.IPv4Address(self.address).is_multicast):
            reason = f"{self.address!r} is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)"
            raise ConfigurationError(reason, key=f"{key}.address")
        if not self.members:
            raise ConfigurationError("is empty; a group has at least one member", key=f"{key}.members")
        for field, names in (("members", self.members), ("senders", self.senders)):
            for i, name in enumerate(names):
                if topology.level.get(name) != 0:
                    raise ConfigurationError(f"{name!r} is not a host of the topology", key=f"{key}.{field}[{i}]")
                if name in names[:i]:
                    raise ConfigurationError(f"{name!r} is listed twice", key=f"{key}.{field}[{i}]")
        return self


class _File(msgspec.Struct, forbid_unknown_fields=True):
    groups: tuple[Group, ...]


def load(file: str | Path, topology: Topology) -> tuple[Group, ...]:
    """Read and check a file of groups. Raises ConfigurationError with the file, the key and the reason."""

    def parse(table: dict[str, Any]) -> tuple[Group, ...]:
        groups: tuple[Group, ...] = convert(table, _File).groups
        if not groups:
            raise ConfigurationError("is empty; one group or more is needed", key="groups")
        seen: dict[str, int] = {}
        for i, group in enumerate(groups):
            group.validate(topology, f"groups[{i}]")
            if (other := seen.setdefault(group.address, i)) != i:
                raise ConfigurationError(f"{group.address!r} is the address of groups[{other}] already", key=f"groups[{i}].address")
        return groups

    groups: tuple[Group, ...] = read_toml(file, parse)
    return groups


def place(topology: Topology, senders: int, receivers: int, seed: int, index: int = 0) -> Group:
    """A group placed at random over the whole network: receivers in different racks if there are enough, senders anywhere else.

    `index` distinguishes groups of the same seed. Raises ConfigurationError if the network has too few hosts, or if a number is below 1.
    """
    for key, number in (("senders", senders), ("receivers", receivers)):
        if number < 1:
            raise ConfigurationError(f"{number} is too few; 1 or more", key=key)
    if senders + receivers > len(topology.hosts):
        reason = f"{senders} senders and {receivers} receivers are more than the {len(topology.hosts)} hosts of the topology"
        raise ConfigurationError(reason, key="senders")
    random = Random(f"placement {seed} {index}")
    racks: dict[str, list[str]] = {}
    for host in random.sample(topology.hosts, len(topology.hosts)):
        racks.setdefault(topology.rack(host)[0], []).append(host)
    order = list(racks)
    random.shuffle(order)
    members: list[str] = []
    while len(members) < receivers:
        members += [racks[rack].pop() for rack in order if racks[rack]][: receivers - len(members)]
    rest = sorted(set(topology.hosts) - set(members))
    address = ipaddress.IPv4Address("239.83.0.1") + index
    return Group(str(address), tuple(members), tuple(random.sample(rest, senders)))
