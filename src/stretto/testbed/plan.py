"""The names, addresses and files of all parts of a testbed, computed from its topology before anything is made.

namespaces     stretto-NAME-p0t1 ...      one for each switch and host
interfaces     port1, port2, ...          of a switch, numbered as in the topology, and so are its OpenFlow ports; eth0 of a host
addresses      10.83.0.1/16 ...           of the hosts, in the order of the topology
files          /run/stretto-testbed/NAME  the record of what was made, and a directory for each switch
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from stretto.core.errors import ConfigurationError
from stretto.network.topology import Topology

DIRECTORY = Path("/run/stretto-testbed")
BRIDGE = "bridge"
"""The name of the one bridge of each switch."""
HOST_INTERFACE = "eth0"
PREFIX_LENGTH = 16
SWITCHES_AT_MOST = 20
HOSTS_AT_MOST = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,29}")
"""Valid names of namespaces, directories and sockets. A socket's path has at most 107 bytes."""


class Cable(NamedTuple):
    """A link between a port of an upper node, which is always a switch, and a port of a lower node."""

    upper: str
    upper_port: int
    lower: str
    lower_port: int

    @property
    def name(self) -> str:
        """The upper end. It is unique even if there are several links between the same nodes."""
        return f"{self.upper}:{self.upper_port}"

    @property
    def names(self) -> tuple[str, ...]:
        """All valid names of the link: either end, or both nodes."""
        return (self.name, f"{self.lower}:{self.lower_port}", f"{self.upper}-{self.lower}", f"{self.lower}-{self.upper}")


class Plan:
    """The names of a testbed called `name` of this topology."""

    def __init__(self, topology: Topology, name: str = "testbed") -> None:
        self.topology = topology
        self.name = name
        self.directory = directory(name)
        self.switches = tuple(switch.name for switch in topology.switches)
        self.nodes = (*self.switches, *topology.hosts)
        self.cables = tuple(
            Cable(node, port, wire.peer, wire.port)
            for node, wires in topology.wires.items()
            for port, wire in wires.items()
            if topology.level[wire.peer] < topology.level[node]
        )
        self._numbers = {host: number for number, host in enumerate(topology.hosts, 1)}

    def validate(self) -> Plan:
        """Return this plan if one machine can hold it. Otherwise raises ConfigurationError with the problem and the limit."""
        for kind, names, most in (("switches", self.switches, SWITCHES_AT_MOST), ("hosts", self.topology.hosts, HOSTS_AT_MOST)):
            if len(names) > most:
                raise ConfigurationError(f"{len(names)} {kind} are too many for a testbed on one machine; {most} at most", key="topology")
        for node in self.nodes:
            if not _NAME.fullmatch(node):
                raise ConfigurationError(f"{node!r} cannot name a namespace; up to 30 letters, digits and _.- are needed", key="topology")
        return self

    def namespace(self, node: str) -> str:
        """The network namespace of a switch or host."""
        return f"stretto-{self.name}-{node}"

    def interface(self, node: str, port: int) -> str:
        """The interface name of a port of a switch or host."""
        return f"port{port}" if self.topology.level[node] else HOST_INTERFACE

    def interfaces(self, node: str) -> dict[int, str]:
        """The interface names of a switch or host, by port."""
        return {port: self.interface(node, port) for port in self.topology.wires[node]}

    def part(self, text: str) -> str | Cable:
        """The switch or cable that a user names. A cable is named by its nodes, as in `root0-p0a1`, or by an end, as in `root0:1`.

        Raises ConfigurationError if there is none, or more than one.
        """
        if text in self.switches:
            return text
        meant = [cable for cable in self.cables if text in cable.names]
        if not meant:
            example = self.cables[0]
            reason = f"is neither a switch nor a link of this testbed; links are named like {example.names[2]} or {example.name}"
            raise ConfigurationError(reason, key=text)
        if len(meant) > 1:
            raise ConfigurationError(f"is more than one link; name one of {', '.join(cable.name for cable in meant)}", key=text)
        return meant[0]

    def address(self, host: str) -> str:
        """The IPv4 address of a host."""
        return "10.83.{}.{}".format(*divmod(self._numbers[host], 256))

    def hardware_address(self, host: str) -> str:
        """The Ethernet address of a host."""
        return "02:53:54:00:{:02x}:{:02x}".format(*divmod(self._numbers[host], 256))

    def switch_directory(self, switch: str) -> Path:
        """The directory of a switch's processes."""
        return self.directory / switch

    def management_socket(self, switch: str) -> Path:
        """The socket at which a switch's bridge listens for OpenFlow controllers."""
        return self.switch_directory(switch) / f"{BRIDGE}.mgmt"

    def database_socket(self, switch: str) -> Path:
        """The socket at which a switch's ovsdb-server listens."""
        return self.switch_directory(switch) / "ovsdb-server.sock"

    @property
    def controller_socket(self) -> Path:
        """The socket at which the controller listens for commands."""
        return self.directory / "controller.sock"


def directory(name: str) -> Path:
    """The directory of the testbed of that name. Raises ConfigurationError if the name is not valid."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot name a testbed; up to 30 letters, digits and _.- are needed", key="name")
    return DIRECTORY / name
