"""A network of hosts on one machine: a network namespace for each replica and sequencer, one for the clients, and a switch between them
that can drop packets.

    NAME-switch:  bridge, with the ports replica-0, replica-1, ..., clients
    NAME-replica-0:  eth0, 10.83.84.1/24     NAME-replica-1:  eth0, 10.83.84.2/24     ...     NAME-clients:  eth0, 10.83.84.254/24

Nothing outside these namespaces is changed. Multicast snooping is off, because it needs a querier, so the bridge floods multicasts. Packets
are dropped in the bridge, so both ends see their link as up. Hosts have static neighbour entries, because a host whose traffic is dropped
in one direction could not resolve hardware addresses by ARP.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager

from stretto.runtime import namespaces

CLIENTS = "clients"
_TOOLS = {"ip": "iproute2", "nft": "nftables"}
_LAST_HOST = 254


def replica_port(index: int) -> str:
    """The name of a host's port on the switch, and the last part of its namespace's name. Sequencers are numbered after the replicas."""
    return f"replica-{index}"


def host_address(index: int) -> str:
    """The address of a replica or sequencer in its namespace."""
    return _address(index + 1)


class Network:
    """The namespaces of the `members` of a cluster and of its clients. Their names begin with `name`, and `up` makes them."""

    def __init__(self, name: str, members: int) -> None:
        self.members = members
        self._name = name
        self._cuts: dict[Hashable, list[str]] = {}

    def up(self) -> None:
        """Make the namespaces. Raises NoNetwork if this machine does not allow it; then nothing is left behind."""
        namespaces.require(_TOOLS)
        try:
            self._make()
            self._apply()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Remove the namespaces, or those that exist."""
        remove_namespaces(self._name)

    def command(self, index: int) -> tuple[str, ...]:
        """The prefix that makes a command run on the replica's host. The process id stays that of the started process."""
        return namespaces.command(self._namespace(replica_port(index)))

    def entered(self, host: str) -> AbstractContextManager[None]:
        """Move this thread, and the threads and processes that it starts, to a host: `CLIENTS`, or a name from `replica_port`."""
        return namespaces.entered(self._namespace(host))

    def cut(self, name: Hashable, rules: Sequence[str]) -> None:
        """Drop the packets that match the rules (nft expressions in the bridge's forward chain), until `mend(name)`."""
        self._cuts[name] = [f"{rule} drop" for rule in rules]
        self._apply()

    def mend(self, name: Hashable) -> None:
        """Remove the rules of `cut(name)`."""
        del self._cuts[name]
        self._apply()

    def _namespace(self, host: str) -> str:
        return f"{self._name}-{host}"

    def _make(self) -> None:
        hosts = {replica_port(index): index + 1 for index in range(self.members)} | {CLIENTS: _LAST_HOST}
        namespaces.make([self._namespace(host) for host in ("switch", *hosts)])
        wires = ["link add bridge type bridge mcast_snooping 0", "link set bridge up"]
        for host, number in hosts.items():
            peer = f"eth0 address {_hardware(number)} netns {self._namespace(host)}"
            wires += [f"link add {host} type veth peer name {peer}", f"link set {host} master bridge up"]
        namespaces.configure(self._namespace("switch"), wires)
        for host, number in hosts.items():
            up = [f"address add {_address(number)}/24 dev eth0", "link set lo up", "link set eth0 up"]
            up += [f"neighbour add {_address(other)} lladdr {_hardware(other)} dev eth0" for other in hosts.values() if other != number]
            namespaces.configure(self._namespace(host), up)

    def _apply(self) -> None:
        """Install all rules in one transaction, in place of the former ones."""
        rules = "\n".join(rule for cut in self._cuts.values() for rule in cut)
        chain = f"chain forward {{\ntype filter hook forward priority 0\n{rules}\n}}"
        table = f"table bridge stretto\ndelete table bridge stretto\ntable bridge stretto {{\n{chain}\n}}\n"
        namespaces.run(*namespaces.command(self._namespace("switch")), "nft", "-f", "-", text=table)


def remove_namespaces(name: str) -> None:
    """Remove every namespace whose name begins with `name` and a dash, with the links in it."""
    namespaces.delete(path.name for path in namespaces.WHERE.glob(f"{name}-*"))


def _address(number: int) -> str:
    return f"10.83.84.{number}"


def _hardware(number: int) -> str:
    return f"02:53:54:00:00:{number:02x}"
