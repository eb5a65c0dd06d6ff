"""One switch: Open vSwitch's userspace datapath in a namespace and in processes of its own, which know no other switch.

    ovsdb-server     holds the switch's configuration: one bridge, with the namespace's interfaces as ports
    ovs-vswitchd     is the bridge. It forwards by its OpenFlow rules alone, and drops everything before it has any (fail_mode secure)

The bridge has no controller configured. One that is to rule it connects to its management socket, so it also forgets no rules when the
controller ends. Switches run at real-time priority if the machine allows it: they are to be as prompt as hardware beside busy hosts.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time

from stretto.runtime import namespaces
from stretto.runtime.pid_file import PidFile
from stretto.testbed.plan import BRIDGE, Plan
from stretto.testbed.probe import REAL_TIME, real_time
from stretto.testbed.record import TestbedFailure

_START_SECONDS = 20.0
_END_SECONDS = 5.0
_PAUSE_SECONDS = 0.005


class Switch:
    """The switch called `name` of a testbed. Its namespace with its interfaces is there before it starts."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.name = name
        self._plan = plan
        self._directory = plan.switch_directory(name)
        self._database = PidFile(self._directory / "ovsdb-server.pid")
        self._daemon = PidFile(self._directory / "ovs-vswitchd.pid")

    @property
    def pid(self) -> int | None:
        """The process that forwards packets, if it and its database run."""
        return self._daemon.pid() if self._database.pid() is not None else None

    def start_database(self) -> None:
        """The first of three steps, each of which does nothing if it was taken already. Does not wait for the process."""
        if self._database.pid() is None:
            self._directory.mkdir(exist_ok=True)
            file = self._directory / "database"
            if not file.exists():
                namespaces.run("ovsdb-tool", "create", str(file))
            self._run(self._database, "ovsdb-server", str(file), f"--remote=punix:{self._plan.database_socket(self.name)}")

    def start_forwarding(self) -> None:
        """The second step: wait for the database, and start the daemon. Raises TestbedFailure if the database did not start."""
        self._wait_for_database()
        if self._daemon.pid() is None:
            priority = REAL_TIME if real_time() else ()
            self._run(self._daemon, *priority, "ovs-vswitchd", f"unix:{self._plan.database_socket(self.name)}", "--disable-system")

    def configure(self) -> subprocess.Popen[bytes]:
        """The third step: give it its bridge and ports; the command that ends, with status 0, when it has them."""
        settings = ("datapath_type=netdev", "fail_mode=secure", "protocols=OpenFlow13", "other_config:disable-in-band=true")
        command = ["ovs-vsctl", f"--db=unix:{self._plan.database_socket(self.name)}", f"--timeout={_START_SECONDS:.0f}"]
        command += ["--may-exist", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, *settings]
        command += ["--", "--id=@qos", "create", "qos", "type=linux-noop"]  # keep your hands off the queues that are there
        for port in self._plan.topology.wires[self.name]:
            interface = self._plan.interface(self.name, port)
            command += ["--", "--may-exist", "add-port", BRIDGE, interface, "--", "set", "port", interface, "qos=@qos"]
            command += ["--", "set", "interface", interface, f"ofport_request={port}"]
        with (self._directory / "ovs-vsctl.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """End what forwards packets at once, and with it all rules."""
        self._daemon.signal(signal.SIGKILL)
        self._daemon.wait(_END_SECONDS)

    def _run(self, pid_file: PidFile, *command: str) -> None:
        name = pid_file.path.stem
        options = (f"--unixctl={self._directory / name}.ctl", "--no-chdir")
        environment = ("env", f"OVS_RUNDIR={self._directory}")
        where = namespaces.command(self._plan.namespace(self.name))
        pid_file.start([*where, *environment, *command, *options], self._directory / f"{name}.log")

    def _wait_for_database(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    return client.connect(str(self._plan.database_socket(self.name)))
                except (FileNotFoundError, ConnectionRefusedError):
                    pass
            if self._database.pid() is None or time.monotonic() > deadline:
                raise TestbedFailure(f"the database of switch {self.name} did not start: {self.last_line('ovsdb-server')}")
            time.sleep(_PAUSE_SECONDS)

    def last_line(self, process: str) -> str:
        """The last line of the log of `ovsdb-server`, `ovs-vswitchd` or `ovs-vsctl`, and where it is."""
        log = self._directory / f"{process}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
        return f"{lines[-1] if lines else 'nothing was logged'} ({log})"


def start_all(switches: list[Switch]) -> None:
    """Start switches side by side, and wait until all have their ports. Raises TestbedFailure if one does not start."""
    for switch in switches:
        switch.start_database()
    for switch in switches:
        switch.start_forwarding()
    configuring = [(switch, switch.configure()) for switch in switches]
    failed = [switch for switch, command in configuring if command.wait() != 0]
    if failed:
        raise TestbedFailure(f"switch {failed[0].name} did not start: {failed[0].last_line('ovs-vswitchd')}")
