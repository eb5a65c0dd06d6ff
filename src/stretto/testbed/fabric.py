"""A testbed on this machine: made, looked at, damaged, mended and removed.

Its namespaces, cables and switches are what `Plan` says; what was made is in its `Record`. Only these are ever touched.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from stretto.runtime import namespaces
from stretto.runtime.pid_file import PidFile
from stretto.testbed import record, wiring
from stretto.testbed.plan import DIRECTORY, HOST_INTERFACE, Plan
from stretto.testbed.record import Record, TestbedFailure
from stretto.testbed.switch import Switch, start_all

SCALE = 0.1
"""Links of 1 Gbit/s have 100 Mbit/s: this machine can make enough traffic to fill one."""
_END_SECONDS = 2.0


class Fabric:
    """The testbed of this plan, whether it is there or not. `scale`: the factor on the rates of all links."""

    def __init__(self, plan: Plan, scale: float = SCALE) -> None:
        self.plan = plan
        self.scale = scale
        self._switches = {name: Switch(plan, name) for name in plan.switches}

    @classmethod
    def existing(cls, name: str = "testbed") -> Fabric:
        """The testbed of that name, as it was made. Raises TestbedFailure if there is none."""
        made = record.load(DIRECTORY / name)
        if made is None:
            raise TestbedFailure(f"there is no testbed {name}; bring it up with: stretto testbed up --name {name}")
        return cls(Plan(made.topology, name), made.scale)

    def command(self, node: str) -> tuple[str, ...]:
        """What to put before a command so that it runs on that host or switch; its process id stays the one that was started."""
        return namespaces.command(self.plan.namespace(node))

    def entered(self, node: str) -> AbstractContextManager[None]:
        """This thread, and threads and processes that it starts, are on that host or switch."""
        return namespaces.entered(self.plan.namespace(node))

    def up(self, progress: Callable[[str], None] = lambda what: None) -> None:
        """Make it."""
        with record.alone(self.plan.directory):
            made = record.load(self.plan.directory)
            if made is not None:
                self._remove(made)
            made = Record(self.plan.topology, self.scale, [self.plan.namespace(node) for node in self.plan.nodes])
            for name in made.namespaces:
                if namespaces.exists(name):
                    raise TestbedFailure(f"there is a network namespace {name} already, and it is not this testbed's; choose another --name")
            made.save(self.plan.directory)
            try:
                self._make(progress)
                made.complete = True
                made.save(self.plan.directory)
            except BaseException:
                self._remove(made)
                raise

    def down(self) -> bool:
        """Remove it, or what there is of it. Whether there was anything."""
        with record.alone(self.plan.directory):
            made = record.load(self.plan.directory)
            if made is not None:
                self._remove(made)
            return made is not None

    def _make(self, progress: Callable[[str], None]) -> None:
        plan = self.plan
        progress("namespaces")
        namespaces.make(map(plan.namespace, plan.nodes))
        for node in plan.nodes:
            with self.entered(node):
                for key, value in wiring.SYSCTLS.items():
                    Path("/proc/sys", key).write_text(value)
        progress("cables")
        for switch in plan.switches:
            namespaces.configure(plan.namespace(switch), wiring.cables(plan, switch))
        for node in plan.nodes:
            namespaces.configure(plan.namespace(node), wiring.interfaces(plan, node))
            queues = "\n".join(wiring.queues(plan, node, self.scale))
            namespaces.run("tc", "-n", plan.namespace(node), "-batch", "-", text=queues)
        for switch in plan.switches:
            namespaces.run(*self.command(switch), "nft", "-f", "-", text=wiring.priorities(plan, switch))
        for host in plan.topology.hosts:
            # A switch passes packets on as they are, so checksums have to be in them.
            namespaces.run(*self.command(host), "ethtool", "-K", HOST_INTERFACE, "tx", "off")
        for node in plan.nodes:
            namespaces.configure(plan.namespace(node), wiring.activation(plan, node))
        progress("switches")
        start_all(list(self._switches.values()))

    def _remove(self, made: Record) -> None:
        """Remove what the record names."""
        processes = [PidFile(path) for path in self.plan.directory.rglob("*.pid")]
        for process in processes:
            process.signal(signal.SIGTERM)
        for process in processes:
            if not process.wait(_END_SECONDS):
                process.signal(signal.SIGKILL)
                process.wait(_END_SECONDS)
        namespaces.delete(made.namespaces)
        record.remove(self.plan.directory)
