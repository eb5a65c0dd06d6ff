"""A testbed on this machine: make it, inspect it, kill and revive its parts, repair it and remove it.

`Plan` names its namespaces, cables and switches, and its `Record` lists what was made. Nothing else is changed.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.runtime import namespaces
from stretto.runtime.namespaces import NoNetwork
from stretto.runtime.pid_file import PidFile
from stretto.testbed import plan as planning
from stretto.testbed import probe, record, wiring
from stretto.testbed.plan import HOST_INTERFACE, Cable, Plan
from stretto.testbed.process import Process
from stretto.testbed.record import Record, TestbedFailure
from stretto.testbed.switch import Switch, start_all

SCALE = 0.02
"""The default factor on link rates: a link of 1 Gbit/s has 20 Mbit/s, so that the switches of one machine can fill several links."""
_END_SECONDS = 2.0

Progress: TypeAlias = Callable[[str], None]
"""Called with the current step, as text."""


State: TypeAlias = Literal["up", "killed", "down"]
"""The state of a switch or cable: it works, it was killed by `kill`, or it does not work for another reason."""


class SwitchStatus(msgspec.Struct, frozen=True):
    """A switch, and the id of the process that forwards its packets; None if that does not run."""

    name: str
    state: State
    pid: int | None


class CableStatus(msgspec.Struct, frozen=True):
    """A link between two nodes, named by its upper end, and its rate in bits per second."""

    name: str
    state: State
    nodes: tuple[str, str]
    rate_bps: int


class Status(msgspec.Struct, frozen=True):
    """The state of a testbed. `scale`: the factor on link rates; `complete`: whether all of it was made; `hosts`: their addresses."""

    name: str
    directory: str
    scale: float
    complete: bool
    controller_pid: int | None
    switches: list[SwitchStatus]
    cables: list[CableStatus]
    hosts: dict[str, str]

    @property
    def healthy(self) -> bool:
        """Whether everything exists and works."""
        states = [switch.state for switch in self.switches] + [cable.state for cable in self.cables]
        return self.complete and self.controller_pid is not None and all(state == "up" for state in states)


class Fabric:
    """The testbed of this plan, whether or not it exists. `scale`: the factor on the rates of all links."""

    def __init__(self, plan: Plan, scale: float = SCALE) -> None:
        if not 0.0001 <= scale <= 1:
            raise ConfigurationError(f"{scale} is not a factor for the links' rates; 0.0001 to 1", key="scale")
        self.plan = plan.validate()
        self.scale = scale
        self._switches = {name: Switch(plan, name) for name in plan.switches}
        self._controller = Process(plan.directory, "controller")

    @classmethod
    def existing(cls, name: str = "testbed") -> Fabric:
        """The existing testbed of that name. Raises TestbedFailure if there is none, NoNetwork without root."""
        directory = planning.directory(name)
        _require_root()
        made = record.load(directory)
        if made is None:
            raise _absent(name)
        return cls(Plan(made.topology, name), made.scale)

    def command(self, node: str) -> tuple[str, ...]:
        """The prefix that makes a command run on a host or switch. The process id stays that of the started process."""
        return namespaces.command(self.plan.namespace(node))

    def entered(self, node: str) -> AbstractContextManager[None]:
        """Move this thread, and the threads and processes that it starts, to a host or switch. Raises NoNetwork if it does not exist."""
        return namespaces.entered(self.plan.namespace(node))

    def up(self, progress: Progress = lambda what: None) -> Literal["made", "mended", "unchanged"]:
        """Make the testbed, or bring back what is missing of it. Returns what was done.

        Raises NoNetwork or ConfigurationError if this machine does not allow it, TestbedFailure if its names are taken or if it exists with
        another topology or scale. If this is interrupted, nothing new is left behind.
        """
        probe.require(self.plan)
        with record.locked(self.plan.directory):
            made = record.load(self.plan.directory)
            if made is not None and made.complete:
                self._refuse_if_different(made)
                if self.status().healthy:
                    return "unchanged"
                if self._mend(made, progress):
                    return "mended"
            if made is not None:
                progress("removing what is left of it")
                _remove(self.plan.directory, made)
            self._make(progress)
            return "made"

    def status(self) -> Status:
        """The parts of the testbed and their states. Raises TestbedFailure if it does not exist."""
        made = self._load()
        working = {switch: self._working_ports(switch) for switch in self.plan.switches}
        pids = {name: switch.pid for name, switch in self._switches.items()}
        switches = [SwitchStatus(name, _state(name, pid is not None, made), pid) for name, pid in pids.items()]
        cables = []
        for cable in self.plan.cables:
            state = _state(cable.name, cable.upper_port in working[cable.upper], made)
            rate_bps = wiring.rate_bps(self.plan, cable.upper, cable.upper_port, self.scale)
            cables.append(CableStatus(cable.name, state, (cable.upper, cable.lower), rate_bps))
        addresses = {host: self.plan.address(host) for host in self.plan.topology.hosts}
        place, controller = str(self.plan.directory), self._controller.pid
        return Status(self.plan.name, place, self.scale, made.complete, controller, switches, cables, addresses)

    def kill(self, what: str) -> bool:
        """Cut the power of a switch, or cut a link. The neighbours' ports lose their carrier. Returns False if it was killed already.

        Raises ConfigurationError if there is no such part.
        """
        return self._change(self.plan.part(what), kill=True)

    def revive(self, what: str) -> bool:
        """Bring back a killed link, or a killed switch, which then has no rules. Returns False if it was not killed."""
        return self._change(self.plan.part(what), kill=False)

    def _load(self) -> Record:
        made = record.load(self.plan.directory)
        if made is None:
            raise _absent(self.plan.name)
        return made

    def _refuse_if_different(self, made: Record) -> None:
        different = "topology" if made.topology != self.plan.topology else "scale" if made.scale != self.scale else None
        if different:
            down = f"stretto testbed down --name {self.plan.name}"
            raise TestbedFailure(f"testbed {self.plan.name} is up with another {different}; take it down first: {down}")

    def _make(self, progress: Progress) -> None:
        """Make the whole testbed, or nothing."""
        made = Record(self.plan.topology, self.scale, [self.plan.namespace(node) for node in self.plan.nodes])
        self._refuse_if_taken(made)
        made.save(self.plan.directory)
        try:
            progress("namespaces")
            self._make_namespaces(made.namespaces)
            progress("cables")
            self._lay_cables()
            progress("switches")
            start_all(list(self._switches.values()))
            progress("controller")
            self._start_controller()
            made.complete = True
            made.save(self.plan.directory)
        except BaseException:
            _remove(self.plan.directory, made)
            raise

    def _refuse_if_taken(self, made: Record) -> None:
        taken = [str(namespaces.WHERE / name) for name in made.namespaces if namespaces.exists(name)]
        taken += map(str, self.plan.directory.iterdir())
        if taken:
            more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
            raise TestbedFailure(f"{taken[0]}{more} exists, but no testbed made it; remove it, or choose another name with --name")

    def _make_namespaces(self, names: list[str]) -> None:
        namespaces.make(names)
        for name in names:
            with namespaces.entered(name):
                for key, value in wiring.SYSCTLS.items():
                    if (file := Path("/proc/sys", key)).exists():  # a kernel may lack IPv6
                        file.write_text(value, encoding="ascii")

    def _lay_cables(self) -> None:
        plan = self.plan
        for switch in plan.switches:
            namespaces.configure(plan.namespace(switch), wiring.cables(plan, switch))
        for node in plan.nodes:
            namespaces.configure(plan.namespace(node), wiring.queue_lengths(plan, node))
            queues = "\n".join(wiring.queues(plan, node, self.scale))
            namespaces.run("tc", "-n", plan.namespace(node), "-batch", "-", text=queues)
        for switch in plan.switches:
            namespaces.run(*self.command(switch), "nft", "-f", "-", text=wiring.priorities(plan, switch))
            namespaces.configure(plan.namespace(switch), wiring.ports(plan, switch))
        for host in plan.topology.hosts:
            # Switches forward packets unchanged, and no hardware adds checksums, so the host must compute them.
            namespaces.run(*self.command(host), "ethtool", "-K", HOST_INTERFACE, "tx", "off")
            namespaces.configure(plan.namespace(host), wiring.host(plan, host))

    def _start_controller(self) -> None:
        """Start the controller unless it runs, and wait until it answers.

        It has the same real-time priority as the switches, because a real controller has its own machine.
        """
        if self._controller.pid is None:
            priority = probe.REAL_TIME if probe.real_time() else ()
            self._controller.start([*priority, sys.executable, "-m", "stretto", "testbed", "controller", "--name", self.plan.name])
        self._controller.wait_for_socket()

    def _mend(self, made: Record, progress: Progress) -> bool:
        """Bring back killed parts and dead processes. Returns False if that does not suffice."""
        progress("restarting what is down")
        made.killed = []
        made.save(self.plan.directory)
        try:
            self._bring_up(self.plan.switches, made)
            self._start_controller()
        except (NoNetwork, TestbedFailure):
            return False
        return self.status().healthy

    def _change(self, part: str | Cable, kill: bool) -> bool:
        with record.locked(self.plan.directory):
            made = self._load()
            name = part.name if isinstance(part, Cable) else part
            if (name in made.killed) == kill:
                return False
            made.killed = [*made.killed, name] if kill else [other for other in made.killed if other != name]
            made.save(self.plan.directory)
            if isinstance(part, Cable):
                self._set_ports([node for node in (part.upper, part.lower) if node in self._switches], made.killed)
            elif kill:
                self._switches[part].kill()
                self._set_ports([part], made.killed)
                self._switches[part].wait()
            else:
                self._bring_up([part], made)
            return True

    def _bring_up(self, switches: Collection[str], made: Record) -> None:
        self._set_ports(switches, made.killed)
        start_all([self._switches[name] for name in switches])

    def _set_ports(self, switches: Collection[str], killed: Collection[str]) -> None:
        for switch in switches:
            namespaces.configure(self.plan.namespace(switch), wiring.ports(self.plan, switch, killed))

    def _working_ports(self, switch: str) -> set[int]:
        """The ports of a switch that have a carrier."""
        if not namespaces.exists(self.plan.namespace(switch)):
            return set()
        links = msgspec.json.decode(namespaces.run("ip", "-n", self.plan.namespace(switch), "-json", "link", "show"))
        working = {link["ifname"] for link in links if {"UP", "LOWER_UP"} <= set(link["flags"])}
        return {port for port, name in self.plan.interfaces(switch).items() if name in working}


def down(name: str) -> bool:
    """Remove the testbed of that name, or what is left of it. Returns whether there was anything. Raises NoNetwork without root."""
    directory = planning.directory(name)
    _require_root()
    with record.locked(directory):
        made = record.load(directory)
        if made is not None:
            _remove(directory, made)
        return made is not None


def _require_root() -> None:
    namespaces.require({"ip": probe.TOOLS["ip"]})


def _remove(directory: Path, made: Record) -> None:
    """Remove everything that the record and the pid files name."""
    processes = [PidFile(path) for path in directory.rglob("*.pid")]
    for process in processes:
        process.signal(signal.SIGTERM)
    for process in processes:
        if not process.wait(_END_SECONDS):
            process.signal(signal.SIGKILL)
            process.wait(_END_SECONDS)
    namespaces.delete(made.namespaces)
    record.remove(directory)


def _state(name: str, works: bool, made: Record) -> State:
    return "killed" if name in made.killed else "up" if works else "down"


def _absent(name: str) -> TestbedFailure:
    return TestbedFailure(f"there is no testbed {name}; bring it up with: stretto testbed up --name {name}")
