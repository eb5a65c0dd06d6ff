"""What a testbed is called: the names, addresses and files of everything that it consists of, before any of it is there.

    namespaces     stretto-NAME-p0t1 ...      one for each switch and host
    interfaces     port1, port2, ...          of a switch, numbered as in the topology, and so are its OpenFlow ports; eth0 of a host
    addresses      10.83.0.1/16 ...           of the hosts, in the order of the topology
    files          /run/stretto-testbed/NAME  the record of what was made, and a directory for each switch
"""

from __future__ import annotations

from pathlib import Path

from stretto.network.topology import Topology

DIRECTORY = Path("/run/stretto-testbed")
BRIDGE = "bridge"
"""What each switch calls its one bridge."""
HOST_INTERFACE = "eth0"
PREFIX_LENGTH = 16


class Plan:
    """The names of a testbed called `name` of this topology."""

    def __init__(self, topology: Topology, name: str = "testbed") -> None:
        self.topology = topology
        self.name = name
        self.directory = DIRECTORY / name
        self._numbers = {host: number for number, host in enumerate(topology.hosts, 1)}

    def namespace(self, node: str) -> str:
        """The network namespace of a switch or host."""
        return f"stretto-{self.name}-{node}"

    def interface(self, node: str, port: int) -> str:
        """The interface of a switch or host that is its port of that number."""
        return f"port{port}" if self.topology.level[node] else HOST_INTERFACE

    def interfaces(self, node: str) -> list[str]:
        """All interfaces of a switch or host that cables hang at."""
        return [self.interface(node, port) for port in self.topology.wires[node]]

    @property
    def nodes(self) -> tuple[str, ...]:
        """All switches and hosts."""
        return tuple(self.topology.level)

    @property
    def switches(self) -> tuple[str, ...]:
        """All switches."""
        return tuple(switch.name for switch in self.topology.switches)

    def address(self, host: str) -> str:
        """The IPv4 address of a host."""
        return "10.83.{}.{}".format(*divmod(self._numbers[host], 256))

    def hardware_address(self, host: str) -> str:
        """The Ethernet address of a host."""
        return "02:53:54:00:{:02x}:{:02x}".format(*divmod(self._numbers[host], 256))

    def switch_directory(self, switch: str) -> Path:
        """Where a switch's processes have their files."""
        return self.directory / switch

    def management_socket(self, switch: str) -> Path:
        """Where a switch's bridge listens for OpenFlow controllers."""
        return self.switch_directory(switch) / f"{BRIDGE}.mgmt"

    def database_socket(self, switch: str) -> Path:
        """Where a switch's ovsdb-server listens."""
        return self.switch_directory(switch) / "database.sock"

    def control_socket(self, switch: str) -> Path:
        """Where a switch's ovs-vswitchd listens to ovs-appctl(8)."""
        return self.switch_directory(switch) / "ovs-vswitchd.ctl"

    @property
    def controller_socket(self) -> Path:
        """Where the controller listens for commands."""
        return self.directory / "controller.sock"
