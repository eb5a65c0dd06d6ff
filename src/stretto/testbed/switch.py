"""One switch: Open vSwitch's userspace datapath in its own namespace and processes, independent of the other switches.

    ovsdb-server     stores the switch's configuration: one bridge, with the namespace's interfaces as ports
    ovs-vswitchd     is the bridge. It forwards only by its OpenFlow rules, and drops everything as long as it has none (fail_mode secure)

The bridge has no controller configured; the controller connects to its management socket. Switches run at real-time priority if the machine
allows it, so that busy hosts do not delay them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack

from stretto.runtime import namespaces
from stretto.testbed.plan import BRIDGE, Plan
from stretto.testbed.probe import REAL_TIME, real_time
from stretto.testbed.process import Process
from stretto.testbed.record import TestbedFailure

_CONFIGURE_SECONDS = 20
_SETTINGS = ("datapath_type=netdev", "fail_mode=secure", "protocols=OpenFlow13", "other_config:disable-in-band=true")


class Switch:
    """The switch `name` of a testbed. Its namespace and interfaces must exist before it starts."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.name = name
        self._plan = plan
        self._directory = plan.switch_directory(name)
        self._database = Process(self._directory, "ovsdb-server")
        self._daemon = Process(self._directory, "ovs-vswitchd")
        self._configuration = Process(self._directory, "ovs-vsctl")

    @property
    def pid(self) -> int | None:
        """The id of the process that forwards packets; None unless it and its database run."""
        return self._daemon.pid if self._database.pid is not None else None

    def start_database(self) -> None:
        """The first of three steps of starting: start the database, without waiting for it. A step that was done already does nothing."""
        if self._database.pid is None:
            self._directory.mkdir(exist_ok=True)
            file = self._directory / "database"
            if not file.exists():
                namespaces.run("ovsdb-tool", "create", str(file))
            self._run(self._database, ["ovsdb-server", str(file), f"--remote=punix:{self._plan.database_socket(self.name)}"])

    def start_forwarding(self) -> None:
        """The second step: wait for the database, and start the daemon. Raises TestbedFailure if the database did not start."""
        self._database.wait_for_socket()
        if self._daemon.pid is None:
            priority = REAL_TIME if real_time() else ()
            database = f"unix:{self._plan.database_socket(self.name)}"
            self._run(self._daemon, [*priority, "ovs-vswitchd", database, "--disable-system"])

    def configure(self) -> subprocess.Popen[bytes]:
        """The third step: configure the bridge and its ports. Returns the command, which ends with status 0 when the switch has them."""
        command = ["ovs-vsctl", f"--db=unix:{self._plan.database_socket(self.name)}", f"--timeout={_CONFIGURE_SECONDS}"]
        command += ["--may-exist", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, *_SETTINGS]
        command += ["--", "--id=@none", "create", "qos", "type=linux-noop"]  # keep the existing queues
        for port, interface in self._plan.interfaces(self.name).items():
            command += ["--", "--may-exist", "add-port", BRIDGE, interface, "--", "set", "port", interface, "qos=@none"]
            command += ["--", "set", "interface", interface, f"ofport_request={port}"]
        return self._configuration.start(command)

    def kill(self) -> None:
        """Kill the forwarding process, and with it all rules. Does not wait for its end."""
        self._daemon.kill()

    def wait(self) -> None:
        """Wait until the forwarding process has ended."""
        self._daemon.wait()

    def complaint(self) -> str:
        """The last log line of the process that did not start."""
        return (self._daemon if self.pid is None else self._configuration).last_line()

    def _run(self, process: Process, command: Sequence[str]) -> None:
        where = namespaces.command(self._plan.namespace(self.name))
        options = (f"--unixctl={process.log.with_suffix('.ctl')}", "--no-chdir")
        process.start([*where, "env", f"OVS_RUNDIR={self._directory}", *command, *options])


def start_all(switches: Sequence[Switch]) -> None:
    """Start switches in parallel, and wait until all have their ports. Raises TestbedFailure if one does not start."""
    for switch in switches:
        switch.start_database()
    for switch in switches:
        switch.start_forwarding()
    with ExitStack() as undo:
        commands = []
        for switch in switches:
            commands.append(undo.enter_context(switch.configure()))
            undo.callback(commands[-1].kill)
        for switch, command in zip(switches, commands, strict=True):
            if command.wait() != 0:
                raise TestbedFailure(f"switch {switch.name} did not start: {switch.complaint()}")
