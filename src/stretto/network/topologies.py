"""The built-in topologies, and their names on the command line.

Names: `root3`, `p0a2` (pod 0, aggregation switch 2), `p0t5` (top-of-rack 5), `p0t5h7` (its host 7); `spine1`, `leaf4`, `leaf4h7`.
On a switch with hosts, the ports to hosts come first, then the ports upwards. On other switches the ports downwards come first. Links to
hosts have the rate `host_gbps`, and links between switches `fabric_gbps` (below the aggregation switches `pod_gbps`, if given).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from stretto.core.errors import ConfigurationError
from stretto.network.topology import Link, Switch, Topology, load


def twelve_switches(
    *,
    host_gbps: float = 1,
    fabric_gbps: float = 10,
    pod_gbps: float | None = None,
    switch_delay_ns: int = 1_000,
    buffer_bytes: int = 262_144,
) -> Topology:
    """The twelve switches of Speculative Paxos (Ports et al., NSDI 2015, section 5): a fat tree of two pods, each with two racks and two
    aggregation switches, and four roots, with four hosts per rack. The paper does not specify the wiring; here it is that of a fat tree."""
    return _pods(2, 2, 2, 4, 4, lambda agg: range(2 * agg, 2 * agg + 2), (host_gbps, pod_gbps, fabric_gbps), switch_delay_ns, buffer_bytes)


def datacentre(
    *,
    host_gbps: float = 1,
    fabric_gbps: float = 10,
    pod_gbps: float | None = None,
    switch_delay_ns: int = 1_000,
    buffer_bytes: int = 262_144,
) -> Topology:
    """2,560 hosts and 119 switches in three levels, the size simulated by Ports et al. (NSDI 2015) and Li et al. (OSDI 2016).

    Its structure is not published. Here it has 8 pods with 8 racks and 6 aggregation switches each, 7 roots that every aggregation switch
    is linked to, and 40 hosts per rack.
    """
    return three_level(
        8,
        8,
        6,
        7,
        40,
        host_gbps=host_gbps,
        fabric_gbps=fabric_gbps,
        pod_gbps=pod_gbps,
        switch_delay_ns=switch_delay_ns,
        buffer_bytes=buffer_bytes,
    )


def three_level(
    pods: int,
    racks: int,
    aggregations: int,
    roots: int,
    hosts: int,
    *,
    host_gbps: float = 1,
    fabric_gbps: float = 10,
    pod_gbps: float | None = None,
    switch_delay_ns: int = 1_000,
    buffer_bytes: int = 262_144,
) -> Topology:
    """`pods` pods with `racks` racks and `aggregations` aggregation switches each. In a pod every rack is linked to every aggregation
    switch, and every aggregation switch is linked to every root. Each rack has `hosts` hosts."""
    for key, value in (("pods", pods), ("racks", racks), ("aggregations", aggregations), ("roots", roots), ("hosts", hosts)):
        if value < 1:
            raise ConfigurationError(f"{value} is too few; 1 or more", key=f"three_level.{key}")
    rates = (host_gbps, pod_gbps, fabric_gbps)
    return _pods(pods, racks, aggregations, roots, hosts, lambda agg: range(roots), rates, switch_delay_ns, buffer_bytes)


def fat_tree(
    k: int, *, host_gbps: float = 10, fabric_gbps: float = 10, switch_delay_ns: int = 1_000, buffer_bytes: int = 262_144
) -> Topology:
    """The fat tree of switches with `k` ports (Al-Fares et al., SIGCOMM 2008): k pods, k³/4 hosts. `k` is even."""
    if k < 2 or k % 2:
        raise ConfigurationError(f"{k} is not an even number of ports, 2 or more", key="fat_tree.k")
    half = k // 2
    wiring = lambda agg: range(agg * half, (agg + 1) * half)  # noqa: E731
    return _pods(k, half, half, half * half, half, wiring, (host_gbps, None, fabric_gbps), switch_delay_ns, buffer_bytes)


def leaf_spine(
    leaves: int,
    spines: int,
    hosts: int,
    *,
    host_gbps: float = 10,
    fabric_gbps: float = 40,
    switch_delay_ns: int = 1_000,
    buffer_bytes: int = 262_144,
) -> Topology:
    """Two levels: each of `leaves` leaf switches is linked to each of `spines` spine switches, and has `hosts` hosts."""
    for key, value in (("leaves", leaves), ("spines", spines), ("hosts", hosts)):
        if value < 1:
            raise ConfigurationError(f"{value} is too few; 1 or more", key=f"leaf_spine.{key}")
    cabling = _Cabling(buffer_bytes)
    leaf_names = [f"leaf{i}" for i in range(leaves)]
    spine_names = [f"spine{i}" for i in range(spines)]
    host_names = [f"{leaf}h{i}" for leaf in leaf_names for i in range(hosts)]
    cabling.join(((host, host.partition("h")[0]) for host in host_names), host_gbps)
    cabling.join(((leaf, spine) for spine in spine_names for leaf in leaf_names), fabric_gbps)
    switches = [Switch(name, 1, switch_delay_ns) for name in leaf_names] + [Switch(name, 2, switch_delay_ns) for name in spine_names]
    return Topology(tuple(switches), tuple(host_names), tuple(cabling.links))


BUILDERS: dict[str, Callable[..., Topology]] = {
    "testbed": twelve_switches,
    "datacentre": datacentre,
    "three_level": three_level,
    "fat_tree": fat_tree,
    "leaf_spine": leaf_spine,
}


def named(text: str) -> Topology:
    """The topology named on a command line: `datacentre`, `fat_tree(8)`, `leaf_spine(4,2,hosts=8,fabric_gbps=100)`, or a TOML file.

    Raises ConfigurationError with the reason if the name is invalid.
    """
    if text.endswith(".toml"):
        return load(text)
    match = re.fullmatch(r"(\w+)(?:[(:](.*?)\)?)?", text)
    if match is None or match[1] not in BUILDERS:
        where = " (there is such a file: its name must end in .toml)" if Path(text).exists() else ""
        raise ConfigurationError(f"{text!r} is neither a .toml file nor one of {', '.join(BUILDERS)}{where}", key="topology")
    builder = BUILDERS[match[1]]
    arguments: list[float] = []
    keywords: dict[str, float] = {}
    for part in filter(None, re.split(r"\s*,\s*", match[2] or "")):
        key, equals, value = part.rpartition("=")
        try:
            number = float(value) if "." in value else int(value)
        except ValueError:
            raise ConfigurationError(f"{value!r} is not a number", key=f"{match[1]}.{key or len(arguments)}") from None
        if equals:
            keywords[key.strip()] = number
        else:
            arguments.append(number)
    try:
        inspect.signature(builder).bind(*arguments, **keywords)
    except TypeError as error:
        raise ConfigurationError(f"{error}; it is {match[1]}{inspect.signature(builder)}".replace(" -> Topology", ""), key=text) from None
    return builder(*arguments, **keywords).validate()


class _Cabling:
    """Assigns each node's ports in the order in which its links are added."""

    def __init__(self, buffer_bytes: int) -> None:
        self.links: list[Link] = []
        self._buffer_bytes = buffer_bytes
        self._ports: dict[str, int] = {}

    def join(self, pairs: Iterable[tuple[str, str]], rate_gbps: float) -> None:
        for pair in pairs:
            for name in pair:
                self._ports[name] = self._ports.get(name, 0) + 1
            a, b = (f"{name}:{self._ports[name]}" for name in pair)
            self.links.append(Link((a, b), rate_gbps, buffer_bytes=self._buffer_bytes))


def _pods(
    pods: int,
    racks: int,
    aggregations: int,
    roots: int,
    hosts: int,
    wiring: Callable[[int], range],
    rates_gbps: tuple[float, float | None, float],
    switch_delay_ns: int,
    buffer_bytes: int,
) -> Topology:
    """Three levels. Aggregation switch `a` of every pod is linked to the roots `wiring(a)`. `rates_gbps`: from the hosts upwards."""
    host_gbps, pod_gbps, fabric_gbps = rates_gbps
    pod_gbps = fabric_gbps if pod_gbps is None else pod_gbps
    cabling = _Cabling(buffer_bytes)
    root_names = [f"root{i}" for i in range(roots)]
    agg_names = [[f"p{pod}a{i}" for i in range(aggregations)] for pod in range(pods)]
    tor_names = [[f"p{pod}t{i}" for i in range(racks)] for pod in range(pods)]
    host_names = [f"{tor}h{i}" for pod in tor_names for tor in pod for i in range(hosts)]
    cabling.join(((host, host.partition("h")[0]) for host in host_names), host_gbps)
    for aggs, tors in zip(agg_names, tor_names, strict=True):
        cabling.join(((tor, agg) for agg in aggs for tor in tors), pod_gbps)
    cabling.join(((agg, root_names[root]) for aggs in agg_names for i, agg in enumerate(aggs) for root in wiring(i)), fabric_gbps)
    switches = [Switch(tor, 1, switch_delay_ns) for pod in tor_names for tor in pod]
    switches += [Switch(agg, 2, switch_delay_ns) for pod in agg_names for agg in pod]
    switches += [Switch(root, 3, switch_delay_ns) for root in root_names]
    return Topology(tuple(switches), tuple(host_names), tuple(cabling.links))
