"""The designs of Mostly-Ordered Multicast (Ports et al., NSDI 2015, section 3), compiled to per-switch rules.

    plain            each sender's shortest-path tree; the flow's hash chooses between equal paths
    topology_aware   up to a root that the flow's hash chooses, and down to every receiver: all paths have equal length
    prioritised      the same, with priority over all other traffic
    serialised       the same, through one root for the whole group: each port is first in, first out, so this switch orders all messages

In topology_aware and prioritised, `merge` determines where the downward paths from different roots join:

    per_root         each root has its own tree, so paths from different roots join only in the last queues
    early            all roots share one tree below them, so the paths join directly below the roots

How the rules work: with roots, the sender's switch, which identifies the sender by the port, puts the label of the root on the packet. This
label leads the packet up. The root replaces it by the label of a tree, which leads the packet down. So packets cannot loop, and only the
senders' own switches have rules for senders. Under plain the label is the flow's hash, and each switch also matches the port of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.network.groups import Group
from stretto.network.routes import Failed, Hop, Routes, choose, weight
from stretto.network.rules import PRIORITY, SHARED, Match, Rule
from stretto.network.topology import Topology

DESIGNS = ("plain", "topology_aware", "prioritised", "serialised")
MERGES = ("per_root", "early")
FIRST_TREE = 1
FIRST_ROOT = 256
"""Lower labels are those of downward trees (under plain, of flow hashes). Labels from this one on are those of the roots."""
FLOW_HASHES = 16


class Design(msgspec.Struct, frozen=True):
    """A design: its name, its merge rule, and the `salt` of its hashes. Different salts give different, equally good choices."""

    name: str
    merge: str = "per_root"
    salt: int = 0

    def __post_init__(self) -> None:
        if self.name not in DESIGNS:
            raise ConfigurationError(f"{self.name!r} is not a design; one of {', '.join(DESIGNS)}", key="design")
        if self.merge not in MERGES:
            raise ConfigurationError(f"{self.merge!r} is not a merge rule; one of {', '.join(MERGES)}", key="merge")

    @property
    def queue(self) -> str:
        """The queue that the design's packets use."""
        return PRIORITY if self.name in ("prioritised", "serialised") else SHARED

    @property
    def merges(self) -> str | None:
        """The merge rule; None if the design has no choice of where paths join."""
        return self.merge if self.name in ("topology_aware", "prioritised") else None

    @property
    def equal_hops(self) -> bool:
        """Whether the design guarantees that all paths from all senders to all members have equal length."""
        return self.name != "plain"

    @property
    def one_switch(self) -> bool:
        """Whether the design guarantees that one switch is on all paths."""
        return self.name == "serialised"


class GroupRules(msgspec.Struct, frozen=True):
    """The compiled rules of a group.

    `roots` are the roots in use, the serialising one first; `cut` has the unreachable members for each sender.
    """

    group: Group
    rules: dict[str, tuple[Rule, ...]]
    roots: tuple[str, ...]
    cut: dict[str, tuple[str, ...]]


def rules_for(topology: Topology, group: Group, design: Design, routes: Routes | None = None) -> GroupRules:
    """Compile the rules of one group under a design. `routes` are the available paths; by default nothing has failed."""
    routes = routes or Routes(topology, Failed(topology))
    if design.name == "plain":
        return _Plain(routes, group, design).compile()
    return _Rooted(routes, group, design).compile()


class _Tree:
    """A downward tree from a root: the next hops of each switch in it, and the members that it does not reach."""

    def __init__(self, routes: Routes, root: str, members: Sequence[str], key: str) -> None:
        self.root = root
        self.missed: list[str] = []
        self.steps: dict[str, list[Hop]] = {}
        for member in members:
            rack = routes.rack(member)
            if rack is None or not routes.reaches(root, rack[0]):
                self.missed.append(member)
                continue
            node, step = rack[0], Hop(rack[1], member, 1)
            while node not in self.steps and node != root:
                self.steps[node] = [step]
                up = choose(key, routes.towards(root, node))
                node, step = up.peer, Hop(up.peer_port, node, up.port)
            self.steps.setdefault(node, []).append(step)

    def under(self, root: str, routes: Routes) -> _Tree | None:
        """The same tree with its root replaced by another; None if that root lacks a link."""
        steps = {hop.peer: hop for hop in routes.down[root]}
        tops = [hop.peer for hop in self.steps.get(self.root, ())]
        if not all(top in steps for top in tops):
            return None
        tree = object.__new__(_Tree)
        tree.root, tree.missed = root, self.missed
        tree.steps = {node: step for node, step in self.steps.items() if node != self.root} | {root: [steps[top] for top in tops]}
        return tree


class _Rooted:
    """The three designs in which a multicast goes up to a root."""

    def __init__(self, routes: Routes, group: Group, design: Design) -> None:
        self.routes = routes
        self.group = group
        self.design = design
        self.senders = group.sending(routes.topology)
        self.key = f"{design.salt}|{group.address}"
        self.rules: dict[str, set[Rule]] = {}

    def compile(self) -> GroupRules:
        trees, anchor = self._trees()
        labels = _label_trees([tree for _, tree in sorted(trees.items())])
        cut: dict[str, tuple[str, ...]] = {}
        used: list[str] = []
        for sender in self.senders:
            root = self._root_of(sender, trees)
            if root is None:
                cut[sender] = self.group.members
                continue
            self._send_up(sender, root, trees[root], labels[root])
            used.append(root)
            if trees[root].missed:
                cut[sender] = tuple(trees[root].missed)
        for root in sorted(set(used)):
            self._send_down(trees[root], labels[root])
        roots = tuple(sorted(set(used), key=lambda root: (root != anchor, root)))
        return GroupRules(self.group, {switch: tuple(sorted(rules, key=_order)) for switch, rules in self.rules.items()}, roots, cut)

    def _trees(self) -> tuple[dict[str, _Tree], str | None]:
        """The tree of each usable root, and the root for serialising."""
        if not self.routes.roots:
            return {}, None
        per_root = self.design.merges == "per_root"
        trees = {root: _Tree(self.routes, root, self.group.members, f"{self.key}|{root if per_root else ''}") for root in self.routes.roots}
        racks = [rack[0] for sender in self.senders if (rack := self.routes.rack(sender))]
        served = {root: sum(self.routes.reaches(root, rack) for rack in racks) for root in trees}
        anchor = max(trees, key=lambda root: (-len(trees[root].missed), served[root], weight(self.key, root)))
        if self.design.one_switch:
            return {anchor: trees[anchor]}, anchor
        if per_root:
            return trees, anchor
        shared = {root: trees[anchor].under(root, self.routes) for root in trees}
        return {root: tree for root, tree in shared.items() if tree is not None}, anchor

    def _root_of(self, sender: str, trees: dict[str, _Tree]) -> str | None:
        """The root for a sender: of the roots that it reaches and that reach the most members, the one with the highest hash."""
        rack = self.routes.rack(sender)
        useful = [root for root, tree in trees.items() if len(tree.missed) < len(self.group.members)]
        within = [root for root in useful if rack and self.routes.reaches(root, rack[0])]
        return max(within, key=lambda root: (-len(trees[root].missed), weight(self.key, sender, root)), default=None)

    def _send_up(self, sender: str, root: str, tree: _Tree, tree_label: int) -> None:
        rack = self.routes.rack(sender)
        assert rack is not None
        node, in_port = rack
        from_sender = Match(self.group.address, in_port=in_port)
        if node == root:
            self._add(node, from_sender, tree.steps[root], tree_label)
            return
        label = FIRST_ROOT + self.routes.topology.roots.index(root)
        step = choose(f"{self.key}|{sender}", self.routes.towards(root, node))
        self._add(node, from_sender, [step], label)
        while step.peer != root:
            node, step = step.peer, choose(f"{self.key}|{root}", self.routes.towards(root, step.peer))
            self._add(node, Match(self.group.address, label=label), [step])

    def _send_down(self, tree: _Tree, tree_label: int) -> None:
        for node, steps in tree.steps.items():
            if node != tree.root:
                self._add(node, Match(self.group.address, label=tree_label), steps)
            elif self.routes.topology.level[node] > 1:
                label = FIRST_ROOT + self.routes.topology.roots.index(node)
                self._add(node, Match(self.group.address, label=label), steps, tree_label)

    def _add(self, switch: str, match: Match, steps: list[Hop], set_label: int | None = None) -> None:
        rule = Rule(match, tuple(sorted(hop.port for hop in steps)), set_label, self.design.queue)
        self.rules.setdefault(switch, set()).add(rule)


def _label_trees(trees: list[_Tree]) -> dict[str, int]:
    """A label for each tree, by root. Trees with equal next hops in all shared switches below the roots share a label; usually all do."""
    labels: dict[str, int] = {}
    classes: list[dict[str, list[Hop]]] = []
    for tree in trees:
        below = {node: sorted(steps) for node, steps in tree.steps.items() if node != tree.root}
        agreeing = (n for n, known in enumerate(classes) if all(known.get(node, steps) == steps for node, steps in below.items()))
        number = next(agreeing, len(classes))
        if number == len(classes):
            classes.append({})
        classes[number] |= below
        labels[tree.root] = FIRST_TREE + number
    assert len(classes) <= FIRST_ROOT - FIRST_TREE
    return labels


class _Plain:
    """A shortest-path tree for each sender. Senders with the same rack and flow hash share one."""

    def __init__(self, routes: Routes, group: Group, design: Design) -> None:
        self.routes = routes
        self.group = group
        self.key = f"{design.salt}|{group.address}"
        self.rules: dict[str, list[Rule]] = {}
        self.ports: dict[tuple[str, int], dict[str, set[int]]] = {}
        self.actions: dict[str, dict[tuple[int, int], dict[tuple[int, ...], list[str]]]] = {}
        """For each switch: port of arrival and label -> ports of departure -> senders."""

    def compile(self) -> GroupRules:
        cut: dict[str, tuple[str, ...]] = {}
        for sender in self.group.sending(self.routes.topology):
            rack = self.routes.rack(sender)
            missed = list(self.group.members) if rack is None else self._add_sender(sender, *rack)
            if missed:
                cut[sender] = tuple(missed)
        for switch, entries in self.actions.items():
            self.rules.setdefault(switch, []).extend(_shortened(self.group.address, entries))
        return GroupRules(self.group, {switch: tuple(sorted(rules, key=_order)) for switch, rules in self.rules.items()}, (), cut)

    def _add_sender(self, sender: str, switch: str, in_port: int) -> list[str]:
        """Add one sender's rules. Returns the members that it cannot reach."""
        label = FIRST_TREE + weight(self.key, sender) % FLOW_HASHES
        before = self.routes.shortest(switch)
        ports: dict[str, set[int]] = {}
        arrival: dict[str, int] = {}
        missed: list[str] = []
        for member in self.group.members:
            rack = self.routes.rack(member)
            place = None if rack is None else next((p for p in ((rack[0], False), (rack[0], True)) if p in before), None)
            if rack is None or place is None:
                missed.append(member)
                continue
            port = rack[1]
            while port not in ports.setdefault(place[0], set()):
                ports[place[0]].add(port)
                if not before[place]:
                    break
                back = {hop: previous for previous, hop in ((p, Hop(w.peer_port, p[0], w.port)) for p, w in before[place])}
                hop = choose(f"{self.key}|{label}", list(back))
                arrival[place[0]] = hop.port
                place, port = back[hop], hop.peer_port
        for node, out in ports.items():
            if node == switch:
                self.rules.setdefault(node, []).append(Rule(Match(self.group.address, in_port=in_port), tuple(sorted(out)), label))
            else:
                entries = self.actions.setdefault(node, {}).setdefault((arrival[node], label), {})
                entries.setdefault(tuple(sorted(out)), []).append(sender)
        return missed


def _shortened(group: str, entries: dict[tuple[int, int], dict[tuple[int, ...], list[str]]]) -> list[Rule]:
    """Minimal rules: they match the label only if the port of arrival does not decide, and the sender only if the label does not either."""
    rules: list[Rule] = []
    for in_port in sorted({port for port, _ in entries}):
        mine = {label: actions for (port, label), actions in entries.items() if port == in_port}
        outs = {out for actions in mine.values() for out in actions}
        if len(outs) == 1:
            rules.append(Rule(Match(group, in_port=in_port), outs.pop()))
            continue
        for label, actions in mine.items():
            for out, senders in actions.items():
                matches = [Match(group, in_port, label)] if len(actions) == 1 else [Match(group, in_port, label, s) for s in senders]
                rules += [Rule(match, out) for match in matches]
    return rules


def _order(rule: Rule) -> tuple[int, int, str]:
    """The sort key of rules. Rules for senders' ports come first, so that labels written by hosts are ignored."""
    match = rule.match
    return (match.in_port or 1 << 30, match.label or 0, match.sender or "")
