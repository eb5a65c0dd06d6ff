from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stretto.core.errors import ConfigurationError
from stretto.network.topologies import datacentre, fat_tree, leaf_spine, named, twelve_switches
from stretto.network.topology import LARGEST_PACKET_BYTES, Link, Switch, Topology, load, parse


def small() -> Topology:
    links = (Link(("a:1", "leaf:1"), 1.0), Link(("b:1", "leaf:2"), 1.0), Link(("leaf:3", "spine:1"), 10.0))
    return Topology((Switch("leaf", 1), Switch("spine", 2)), ("a", "b"), links)


def test_sizes() -> None:
    assert (len(twelve_switches().switches), len(twelve_switches().hosts), len(twelve_switches().roots)) == (12, 16, 4)
    assert (len(datacentre().switches), len(datacentre().hosts), len(datacentre().roots)) == (119, 2560, 7)
    assert (len(fat_tree(8).switches), len(fat_tree(8).hosts)) == (80, 128)
    assert (len(leaf_spine(4, 2, 3).switches), len(leaf_spine(4, 2, 3).hosts)) == (6, 12)


def test_a_fat_tree_uses_every_port_once() -> None:
    tree = fat_tree(6)
    for switch in tree.switches:
        assert sorted(tree.wires[switch.name]) == list(range(1, 7))


def test_wires_lead_in_both_directions() -> None:
    topology = twelve_switches()
    for node, wires in topology.wires.items():
        for port, wire in wires.items():
            back = topology.wires[wire.peer][wire.port]
            assert (back.peer, back.port) == (node, port)


def test_a_topology_can_be_written_to_a_file_and_read_back(tmp_path: Path) -> None:
    for topology in (small(), twelve_switches(host_gbps=2.5), leaf_spine(2, 2, 2, buffer_bytes=9_000)):
        file = tmp_path / "topology.toml"
        file.write_text(topology.to_toml())
        assert load(file) == topology
        assert named(str(file)) == topology


def test_transmission_time_is_rounded_up() -> None:
    topology = small()
    assert topology.wires["a"][1].transmission_ps(125) == 1_000_000
    thirds = parse(tomllib.loads(small().to_toml().replace("rate_gbps = 10.0", "rate_gbps = 3.0")))
    assert thirds.wires["leaf"][3].transmission_ps(1) == 2_667


def broken(**changes: Any) -> Topology:
    return msgspec.structs.replace(small(), **changes)


def link(index: int, **changes: Any) -> Topology:
    links = list(small().links)
    links[index] = msgspec.structs.replace(links[index], **changes)
    return broken(links=tuple(links))


@pytest.mark.parametrize(
    ("topology", "where", "what"),
    [
        (broken(switches=(Switch("leaf", 1), Switch("leaf", 2))), "switches[1].name", "already"),
        (broken(switches=()), "switches", "at least one switch"),
        (broken(hosts=()), "hosts", "at least one host"),
        (broken(hosts=("a", "b:c")), "hosts[1]", "not a name"),
        (broken(switches=(Switch("leaf", 1), Switch("spine", 0))), "switches[1].level", "not a level"),
        (broken(switches=(Switch("leaf", 1, -1), Switch("spine", 2))), "switches[0].delay_ns", "negative"),
        (broken(hosts=("a", "b", "c")), "hosts[2]", "0 links"),
        (broken(switches=(Switch("leaf", 1), Switch("spine", 2), Switch("alone", 2))), "switches[2]", "no path"),
        (broken(switches=(Switch("leaf", 1), Switch("spine", 3))), "links[2].ends", "neighbouring levels"),
        (link(1, ends=("b:1", "leaf:1")), "links[1].ends", "used by links[0] already"),
        (link(1, ends=("leaf:2", "leaf:2")), "links[1].ends", "already"),
        (link(1, ends=("b", "leaf:2")), "links[1].ends", "node:port"),
        (link(1, ends=("b:0", "leaf:2")), "links[1].ends", "node:port"),
        (link(1, ends=("x:1", "leaf:2")), "links[1].ends", "neither a switch nor a host"),
        (link(0, rate_gbps=0), "links[0].rate_gbps", "not a rate"),
        (link(0, rate_gbps=-1), "links[0].rate_gbps", "not a rate"),
        (link(0, rate_gbps=float("nan")), "links[0].rate_gbps", "not a rate"),
        (link(2, delay_ns=-5), "links[2].delay_ns", "negative"),
        (link(2, buffer_bytes=LARGEST_PACKET_BYTES - 1), "links[2].buffer_bytes", "do not hold one packet"),
    ],
)
def test_faults_are_named(topology: Topology, where: str, what: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        topology.validate()
    assert caught.value.key == where
    assert what in caught.value.reason


def test_faults_in_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    for text, key, what in [
        (small().to_toml().replace("level = 2", "height = 2"), "switches[1]", "unknown field"),
        ("switches = 3", "switches", "Expected `array`"),
        ("switches = []\nhosts = []", None, "missing required field `links`"),
        ("switches = [", None, "not TOML"),
    ]:
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            load(file)
        assert (caught.value.file, caught.value.key) == (str(file), key)
        assert what in caught.value.reason
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "missing.toml")


def test_unknown_names_are_refused() -> None:
    for text in ("nonsense", "fat_tree(3)", "fat_tree", "fat_tree(x)", "testbed(9)", "leaf_spine(0,1,1)", "testbed(host_gbps=-1)"):
        with pytest.raises(ConfigurationError):
            named(text)


def test_names_with_arguments() -> None:
    assert named("fat_tree(4)") == named("fat_tree:k=4") == fat_tree(4)
    assert named("leaf_spine(2,1,hosts=3,fabric_gbps=2.5)") == leaf_spine(2, 1, 3, fabric_gbps=2.5)
