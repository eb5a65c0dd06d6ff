from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from stretto.core.errors import ConfigurationError
from stretto.network import groups, rules
from stretto.network.controller import Controller
from stretto.network.designs import DESIGNS, MERGES, Design, rules_for
from stretto.network.groups import Group, place
from stretto.network.routes import Failed, Routes
from stretto.network.rules import Rule
from stretto.network.topologies import datacentre, fat_tree, leaf_spine, three_level, twelve_switches
from stretto.network.topology import Topology
from stretto.network.verification import verify, walk

ALL = [Design(name, merge) for name in DESIGNS for merge in (MERGES if name in ("topology_aware", "prioritised") else MERGES[:1])]
SMALL = [twelve_switches(), fat_tree(4), leaf_spine(4, 3, 3), three_level(2, 3, 3, 3, 2), leaf_spine(1, 1, 5)]


def everyone(topology: Topology, seed: int, receivers: int = 4) -> Group:
    """A group to which all hosts send, including its members."""
    return msgspec.structs.replace(place(topology, 1, receivers, seed), senders=())


@pytest.mark.parametrize("design", ALL, ids=lambda d: f"{d.name}-{d.merge}")
def test_every_sender_reaches_every_member_once(design: Design) -> None:
    for topology in SMALL:
        for seed in range(5):
            group = everyone(topology, seed)
            compiled = rules_for(topology, group, design)
            assert compiled.cut == {}
            verdict = verify(topology, compiled.rules, [group], design)
            assert (verdict.checked, verdict.violations) == (len(topology.hosts), [])


@pytest.mark.parametrize("design", ALL, ids=lambda d: f"{d.name}-{d.merge}")
def test_data_centre(design: Design) -> None:
    topology = datacentre()
    group = everyone(topology, 7, receivers=5)
    verdict = verify(topology, rules_for(topology, group, design).rules, [group], design)
    assert (verdict.checked, verdict.violations) == (2560, [])


@pytest.mark.parametrize("design", ALL, ids=lambda d: f"{d.name}-{d.merge}")
def test_rules_are_correct_after_random_failures_and_unreachable_members_are_reported(design: Design) -> None:
    dice = random.Random(3)
    lost = 0
    for _ in range(60):
        topology = dice.choice(SMALL[:4])
        ends = [end for link in topology.links for end in link.ends]
        switches = [switch.name for switch in topology.switches]
        failed = Failed(topology, dice.sample(ends, dice.randrange(1, 6)) + dice.sample(switches, dice.randrange(2)))
        group = everyone(topology, dice.randrange(100))
        routes = Routes(topology, failed)
        compiled = rules_for(topology, group, design, routes)
        cut = {group.address: compiled.cut}
        verdict = verify(topology, compiled.rules, [group], design, failed, cut)
        assert verdict.violations == []
        lost += bool(compiled.cut)
        if design.name == "plain":
            for sender, members in compiled.cut.items():
                for member in members:
                    assert not path_exists(topology, failed, sender, member)
    assert 0 < lost < 60


def path_exists(topology: Topology, failed: Failed, sender: str, member: str) -> bool:
    """Whether there is a path up and then down, found without the code under test."""
    places, found = [(sender, False)], set()
    while places:
        node, fell = places.pop()
        for port, wire in topology.wires[node].items():
            falls = topology.level[wire.peer] < topology.level[node]
            if (node, port) not in failed.ports and (falls or not fell) and (wire.peer, falls) not in found:
                found.add((wire.peer, falls))
                places.append((wire.peer, falls))
    return (member, True) in found


def test_plain_paths_are_shortest() -> None:
    topology = twelve_switches()
    group = Group("239.0.0.1", ("p0t0h1", "p0t1h0", "p1t0h0"), ("p0t0h0",))
    walked = walk(topology, rules_for(topology, group, Design("plain")).rules, group.address, "p0t0h0")
    assert sorted((host, len(path)) for host, path in walked.arrivals) == [("p0t0h1", 1), ("p0t1h0", 3), ("p1t0h0", 5)]


def test_serialised_paths_share_one_root_and_topology_aware_ones_use_several() -> None:
    topology = datacentre()
    group = place(topology, 40, 5, 1)
    assert len(rules_for(topology, group, Design("serialised")).roots) == 1
    assert len(rules_for(topology, group, Design("topology_aware")).roots) == 7
    routes = Routes(topology)
    anchors = {rules_for(topology, place(topology, 1, 3, 1, index), Design("serialised"), routes).roots for index in range(60)}
    assert len(anchors) == 7


def test_racks_of_a_pod_share_a_path_from_one_root() -> None:
    topology = datacentre()
    group = Group("239.0.0.1", tuple(f"p2t{rack}h0" for rack in range(8)), ("p5t0h0", "p5t0h1"))
    for design in ALL:
        compiled = rules_for(topology, group, design)
        for sender in group.senders:
            hops = walk(topology, compiled.rules, group.address, sender).hops
            assert len({node for node, _, _ in hops if node.startswith("p2a")}) == 1


def test_early_paths_join_below_the_roots() -> None:
    topology = datacentre()
    group = place(topology, 40, 5, 1)
    for merge, together in (("early", True), ("per_root", False)):
        compiled = rules_for(topology, group, Design("topology_aware", merge))
        last: dict[str, set[str]] = {}
        for sender in group.senders:
            for member, path in walk(topology, compiled.rules, group.address, sender).arrivals:
                last.setdefault(member, set()).add(path[3])
        assert all(len(above) == 1 for above in last.values()) == together


def test_only_host_ports_have_rules_for_senders() -> None:
    topology = datacentre()
    group, routes = everyone(topology, 2), Routes(topology)
    for design in ALL:
        for switch, entries in rules_for(topology, group, design, routes).rules.items():
            for rule in entries:
                assert rule.match.sender is None
                if design.name != "plain" and rule.match.in_port is not None:
                    assert topology.level[topology.wires[switch][rule.match.in_port].peer] == 0


MUTATIONS: dict[str, Callable[[Rule], Rule | None]] = {
    "wrong number of copies": lambda rule: msgspec.structs.replace(rule, out_ports=rule.out_ports[:-1]),
    "no rule": lambda rule: None,
    "no such port": lambda rule: msgspec.structs.replace(rule, out_ports=(*rule.out_ports, 999)),
    "copy to a non-member": lambda rule: msgspec.structs.replace(rule, out_ports=(*rule.out_ports, 2)),
    "not the first queue": lambda rule: msgspec.structs.replace(rule, queue=rules.SHARED),
}


@pytest.mark.parametrize("kind", MUTATIONS)
def test_the_check_detects_broken_rules(kind: str) -> None:
    topology = twelve_switches()
    design = Design("serialised")
    group = Group("239.0.0.1", ("p0t0h0", "p0t1h0", "p1t0h0"), ("p1t1h3",))
    table = dict(rules_for(topology, group, design).rules)
    rule = MUTATIONS[kind](table["p1t0"][0])
    table["p1t0"] = () if rule is None else (rule,)
    assert kind in {violation.kind for violation in verify(topology, table, [group], design).violations}


def test_the_check_detects_loops_unequal_paths_and_two_roots() -> None:
    topology = twelve_switches()
    group = Group("239.0.0.1", ("p0t0h0", "p0t1h0", "p1t0h0"), ("p0t0h1", "p1t1h3", "p0t0h2", "p1t1h2"))
    plain = rules_for(topology, group, Design("plain")).rules
    assert {v.kind for v in verify(topology, plain, [group], Design("topology_aware")).violations} == {"unequal hop counts"}
    spread = rules_for(topology, group, Design("prioritised")).rules
    assert [v.kind for v in verify(topology, spread, [group], Design("serialised")).violations] == ["no common switch"]
    up, down = topology.wires["p0t0"][5], 5
    again = {
        "p0t0": (Rule(rules.Match(group.address), (down,)),),
        up.peer: (Rule(rules.Match(group.address), (up.port,)),),
    }
    assert "loop" in {v.kind for v in verify(topology, again, [group], Design("plain")).violations}


def test_rules_can_be_written_as_rows_and_read_back() -> None:
    compiled = rules_for(twelve_switches(), everyone(twelve_switches(), 1), Design("plain"))
    assert rules.from_rows(rules.rows(compiled.rules)) == compiled.rules


def applied(table: dict[str, tuple[Rule, ...]], change: rules.Difference) -> dict[str, set[Rule]]:
    result = {switch: set(entries) for switch, entries in table.items()}
    for switch, entries in change.remove.items():
        assert set(entries) <= result[switch]
        result[switch] -= set(entries)
    for switch, entries in change.install.items():
        result.setdefault(switch, set()).update(entries)
    return {switch: entries for switch, entries in result.items() if entries}


def as_sets(table: dict[str, tuple[Rule, ...]]) -> dict[str, set[Rule]]:
    return {switch: set(entries) for switch, entries in table.items()}


@pytest.mark.parametrize("design", ALL, ids=lambda d: f"{d.name}-{d.merge}")
def test_a_difference_turns_the_old_table_into_the_new_one(design: Design) -> None:
    topology = fat_tree(4)
    controller = Controller(topology, design)
    controller.set_groups([place(topology, 4, 3, seed, seed) for seed in range(10)])
    dice = random.Random(1)
    for _ in range(30):
        before = controller.rules
        switches = [s.name for s in topology.switches if s.name not in controller.failed.switches]
        address = dice.choice(list(controller.groups))
        host = dice.choice(topology.hosts)
        step = dice.randrange(4)
        if step == 0:
            update = controller.fail(dice.choice(switches))
        elif step == 1 and controller.failed.elements:
            update = controller.repair(min(controller.failed.elements))
        elif host not in controller.groups[address].members:
            update = controller.join(address, host)
        else:
            update = controller.leave(address, host) if len(controller.groups[address].members) > 1 else controller.remove_group(address)
        # A dead switch loses its rules.
        before = {switch: entries for switch, entries in before.items() if switch not in controller.failed.switches}
        assert applied(before, update.change) == as_sets(controller.rules)
        assert verify(topology, controller.rules, controller.groups.values(), design, controller.failed, controller.cut).violations == []


def test_a_dead_root_moves_its_groups_and_no_others() -> None:
    topology = datacentre()
    controller = Controller(topology, Design("serialised"))
    controller.set_groups([place(topology, 2, 3, 5, index) for index in range(30)])
    before = {address: controller.roots(address) for address in controller.groups}
    update = controller.fail("root3")
    assert set(update.moved) == {address for address, roots in before.items() if roots == ("root3",)} != set()
    assert update.cut == {}
    controller.repair("root3")
    assert {address: controller.roots(address) for address in controller.groups} == before


def test_an_unreachable_member_is_reported() -> None:
    topology = twelve_switches()
    controller = Controller(topology, Design("serialised"))
    controller.set_groups([Group("239.0.0.1", ("p0t0h0", "p1t0h0"), ("p0t1h0", "p1t1h0"))])
    update = controller.fail("p1t0")
    assert update.cut == {"239.0.0.1": {"p0t1h0": ("p1t0h0",), "p1t1h0": ("p1t0h0",)}}
    assert controller.fail("p0t1").cut["239.0.0.1"]["p0t1h0"] == ("p0t0h0", "p1t0h0")
    assert controller.repair("p1t0", "p0t1").cut == {}


def test_bad_groups_are_refused(tmp_path: Path) -> None:
    topology = twelve_switches()
    file = tmp_path / "groups.toml"
    member = 'members = ["p0t0h0"]'
    for text, key in [
        ('[[groups]]\naddress = "239.0.0.1"\nmembers = []', "groups[0].members"),
        ('[[groups]]\naddress = "239.0.0.1"\nmembers = ["nobody"]', "groups[0].members[0]"),
        ('[[groups]]\naddress = "239.0.0.1"\nmembers = ["root0"]', "groups[0].members[0]"),
        ('[[groups]]\naddress = "239.0.0.1"\nmembers = ["p0t0h0", "p0t0h0"]', "groups[0].members[1]"),
        (f'[[groups]]\naddress = "239.0.0.1"\n{member}\nsenders = ["nobody"]', "groups[0].senders[0]"),
        (f'[[groups]]\naddress = "10.0.0.1"\n{member}', "groups[0].address"),
        (f'[[groups]]\naddress = "x"\n{member}', "groups[0].address"),
        (f'[[groups]]\naddress = "239.0.0.1"\n{member}\n[[groups]]\naddress = "239.0.0.1"\n{member}', "groups[1].address"),
        ("groups = []", "groups"),
    ]:
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            groups.load(file, topology)
        assert (caught.value.file, caught.value.key) == (str(file), key)
    for senders, receivers in ((0, 3), (3, 0), (10, 7)):
        with pytest.raises(ConfigurationError):
            place(topology, senders, receivers, 1)
    with pytest.raises(ConfigurationError, match="neither a node nor"):
        Controller(topology, Design("plain")).fail("root9")
    for wrong in ({"name": "fast"}, {"name": "plain", "merge": "late"}):
        with pytest.raises(ConfigurationError):
            msgspec.structs.replace(Design("plain"), **wrong)


def test_placement_spreads_receivers_over_racks() -> None:
    topology = datacentre()
    group = place(topology, 3, 64, 4)
    assert len({topology.rack(host)[0] for host in group.members}) == 64
    assert not set(group.members) & set(group.senders)
    assert place(topology, 3, 64, 4) == group != place(topology, 3, 64, 5)
