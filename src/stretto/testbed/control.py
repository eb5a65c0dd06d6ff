"""The controller of a testbed: keeps the tables of all switches up to date with the groups, the design and the failures.

If a port goes down at either end of a link, the link has failed; if the connection to a switch is lost, the switch has failed.
`network.controller`, which the model uses too, computes the rules. They are installed in the order that `changes` gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from stretto.core.errors import ConfigurationError
from stretto.network import rules
from stretto.network.controller import Controller
from stretto.network.designs import Design
from stretto.network.groups import Group
from stretto.network.routes import Routes
from stretto.network.topology import split_end
from stretto.network.verification import verify
from stretto.testbed.changes import steps
from stretto.testbed.channel import Channel, Lost, Refused
from stretto.testbed.commands import Change, State, Verification
from stretto.testbed.deviations import deviations
from stretto.testbed.flows import Table, cookie_of, group_number, rules_of, table_of
from stretto.testbed.openflow import Message
from stretto.testbed.plan import Plan
from stretto.testbed.unicast import ports_towards

_FIRST_DESIGN = Design("serialised")
_PATIENCE_S = 5.0
_GLANCE_S = 0.005
_REMEMBERED = 1_000


class TestbedController:
    """Controls the switches of a testbed while `run` is active. Raises ConfigurationError if a switch has too many ports."""

    def __init__(self, plan: Plan) -> None:
        self.topology = plan.topology
        for wires in self.topology.wires.values():
            group_number(wires)
        self.model = Controller(self.topology, _FIRST_DESIGN)
        self._channels = {s.name: Channel(plan.management_socket(s.name), self._on_change) for s in self.topology.switches}
        self._host_ports: dict[str, list[int]] = {}
        for node, port in map(self.topology.rack, self.topology.hosts):
            self._host_ports.setdefault(node, []).append(port)
        self._addresses = {host: plan.address(host) for host in self.topology.hosts}
        self._hosts = {address: host for host, address in self._addresses.items()}
        self._changes: deque[Change] = deque(maxlen=_REMEMBERED)
        self._changing = asyncio.Lock()
        self._noticed_ns = 0
        self._news = asyncio.Event()

    async def run(self, ready: asyncio.Event) -> None:
        """Control the switches until cancelled. `ready` is set when all switches that were found have their tables."""
        async with asyncio.TaskGroup() as tasks:
            for channel in self._channels.values():
                tasks.create_task(channel.run())
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline and not all(channel.connected for channel in self._channels.values()):
                await asyncio.sleep(_GLANCE_S)
            self._on_change()
            while True:
                await self._news.wait()
                self._news.clear()
                await self._follow_failures()
                ready.set()

    async def set_design(self, design: Design) -> Change:
        """Compile all groups under another design. The old rules are deleted first, so no messages are delivered for a moment."""
        noticed_ns = time.monotonic_ns()
        async with self._changing:
            await self._look()
            if design != self.model.design:
                await self._install(self._tables(self._model(design, (), self.model.failed.elements)))
            model = self._model(design, self.model.groups.values(), self.model.failed.elements)
            return await self._become(model, [f"design {design.name}"], noticed_ns)

    async def set_groups(self, groups: Iterable[Group]) -> Change:
        """Use these groups and no others. Raises ConfigurationError, and changes nothing, if they are invalid."""
        noticed_ns = time.monotonic_ns()
        async with self._changing:
            named = tuple(groups)
            if len({group.address for group in named}) < len(named):
                raise ConfigurationError("two groups have the same address", key="groups")
            await self._look()
            model = self._model(self.model.design, named, self.model.failed.elements)
            return await self._become(model, ["groups"], noticed_ns)

    def status(self) -> State:
        """The design, the groups and the failures that the controller sees."""
        model = self.model
        roots = {address: model.roots(address) for address in model.groups}
        failed = tuple(sorted(model.failed.elements))
        last = self._changes[-1].number if self._changes else 0
        return State(model.design, tuple(model.groups.values()), roots, failed, model.cut, last)

    def events(self, since: int) -> list[Change]:
        """The remembered changes with a number above `since`."""
        return [change for change in self._changes if change.number > since]

    async def verify(self) -> Verification:
        """Compare the tables of all switches with the compiled ones, and check what the installed rules do to packets."""
        async with self._changing:
            held = await self._held()
            wanted = self._tables(self.model)
            obeyed = {name: rules_of(table, self._hosts) for name, table in held.items()}
        model = self.model
        verdict = verify(self.topology, obeyed, model.groups.values(), model.design, model.failed, model.cut)
        found = [deviation for name, table in held.items() for deviation in deviations(name, wanted[name], table)]
        flows, groups = sum(len(table.flows) for table in held.values()), sum(len(table.groups) for table in held.values())
        unreachable = tuple(name for name in self._channels if name not in held)
        return Verification(len(held), flows, groups, verdict.checked, unreachable, tuple(found), tuple(verdict.violations))

    async def installed(self) -> list[dict[str, Any]]:
        """The rules that the switches obey, as rows of `rules.rows`, with the packets that each has matched."""
        rows: list[dict[str, Any]] = []
        async with self._changing:
            for name, table in (await self._held()).items():
                packets = await self._channels[name].packets()
                obeyed = rules_of(table, self._hosts)
                counts = [{"packets": packets[cookie_of(rule)]} for rule in obeyed]
                rows += [row | count for row, count in zip(rules.rows({name: obeyed}), counts, strict=True)]
        return rows

    def _on_change(self) -> None:
        """Note that a connection or a port has changed."""
        if not self._news.is_set():
            self._noticed_ns = time.monotonic_ns()
            self._news.set()

    def _failed(self) -> set[str]:
        """The switches that are not connected, and the links that are down at either end (by their first ends)."""
        channels = self._channels
        failed = {name for name, channel in channels.items() if not channel.connected}
        for link in self.topology.links:
            for node, port in map(split_end, link.ends):
                if node in channels and node not in failed and port not in channels[node].up:
                    failed.add(link.ends[0])
        return failed

    async def _follow_failures(self) -> None:
        noticed_ns = self._noticed_ns
        async with self._changing:
            before, now = self.model.failed.elements, self._failed()
            causes = [f"{element} failed" for element in sorted(now - before)]
            causes += [f"{element} repaired" for element in sorted(before - now)]
            await self._become(self._model(self.model.design, self.model.groups.values(), now), causes, noticed_ns)

    def _model(self, design: Design, groups: Iterable[Group], failed: Iterable[str]) -> Controller:
        model = Controller(self.topology, design)
        model.fail(*failed)
        model.set_groups(groups)
        return model

    async def _become(self, model: Controller, causes: list[str], noticed_ns: int) -> Change:
        """Install the rules of a model on the switches."""
        tables = self._tables(model)
        computed_ns = time.monotonic_ns()
        old, self.model = self.model, model
        flows, refused = await self._install(tables)
        roots = {address: (old.roots(address), model.roots(address)) for address in model.groups if address in old.groups}
        moved = {address: pair for address, pair in roots.items() if pair[0] != pair[1]}
        number = self._changes[-1].number + 1 if self._changes else 1
        change = Change(number, tuple(causes), noticed_ns, computed_ns, time.monotonic_ns(), flows, moved, tuple(refused))
        if causes or flows:  # each port that loses its carrier reports the same failure again
            self._changes.append(change)
        return change

    def _tables(self, model: Controller) -> dict[str, Table]:
        """The tables that the connected switches must have."""
        own, unicast = model.rules, ports_towards(Routes(self.topology, model.failed))
        connected = [name for name, channel in self._channels.items() if channel.connected]
        return {name: table_of(own.get(name, ()), self._addresses, unicast[name]) for name in connected}

    async def _install(self, tables: Mapping[str, Table]) -> tuple[int, list[str]]:
        """Install these tables. Returns how many flows were changed, and what was refused."""
        refused: list[str] = []

        async def carry_out(name: str, messages: list[Message]) -> None:
            with contextlib.suppress(Lost, Refused):  # the channel reports the loss of the switch
                refused.extend(f"{name}: {reason}" for reason in await self._channels[name].carry_out(messages))

        todo = {name: steps(self._channels[name].table, table, self._host_ports.get(name, ())) for name, table in tables.items()}
        for step in zip(*todo.values(), strict=True):
            await asyncio.gather(*(carry_out(name, messages) for name, messages in zip(todo, step, strict=True) if messages))
        return sum(len(messages) for step in todo.values() for messages in step), refused

    async def _look(self) -> None:
        """Read the tables of all switches again. If something else has changed them, the next installation corrects that."""
        for name, table in (await self._held()).items():
            self._channels[name].table = table

    async def _held(self) -> dict[str, Table]:
        held: dict[str, Table] = {}
        for name, channel in self._channels.items():
            if channel.connected:
                with contextlib.suppress(Lost, Refused):
                    held[name] = await channel.read()
        return held
