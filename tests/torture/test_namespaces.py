"""Hosts in namespaces: which host receives from which, and that a cut drops exactly the packets that it names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest

from stretto.runtime.namespaces import WHERE, NoNetwork
from stretto.torture import namespaces
from stretto.torture.faults import cut_rules
from stretto.torture.namespaces import CLIENTS, Network, host_address, replica_port
from stretto.torture.schedule import Strike

pytestmark = pytest.mark.xdist_group("namespaces")

GROUP = "239.83.84.1"
EVERYONE = {(one, other) for one in range(3) for other in range(3) if one != other}


class Hosts:
    """A socket on each replica's host, which has joined the multicast group too."""

    def __init__(self, network: Network) -> None:
        self.sockets = []
        for index in range(3):
            with network.entered(replica_port(index)):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("", 7000))
            own = socket.inet_aton(host_address(index))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + own)
            sock.settimeout(0.05)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self.sockets.append(sock)

    def heard(self, *, multicast: bool = False, copies: int = 1) -> dict[tuple[int, int], int]:
        """Each host sends `copies` packets to each other host. Returns how many arrived, by (source, destination)."""
        for source, sock in enumerate(self.sockets):
            for _ in range(copies):
                for destination in [GROUP] if multicast else [host_address(other) for other in range(3) if other != source]:
                    sock.sendto(b"%d" % source, (destination, 7000))
        arrived: dict[tuple[int, int], int] = {}
        for receiver, sock in enumerate(self.sockets):
            try:
                while True:
                    source = int(sock.recv(10))
                    arrived[source, receiver] = arrived.get((source, receiver), 0) + 1
            except TimeoutError:
                continue
        return arrived

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def hosts(network: Network) -> Hosts:
    return Hosts(network)


def strike(kind: str) -> Strike:
    return Strike(0, kind, (1,), 1, False, 2, 0.5)


@pytest.mark.parametrize("multicast", [False, True])
@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        ("isolate", {(0, 1), (1, 0), (1, 2), (2, 1)}),
        ("deafen", {(0, 1), (2, 1)}),
        ("mute", {(1, 0), (1, 2)}),
        ("cut_link", {(0, 1)}),
    ],
)
def test_a_cut_drops_exactly_its_packets_until_it_is_mended(
    network: Network, hosts: Hosts, kind: str, cut: set[tuple[int, int]], multicast: bool
) -> None:
    assert set(hosts.heard(multicast=multicast)) == EVERYONE
    network.cut(1, cut_rules(strike(kind), 1, 3))
    assert set(hosts.heard(multicast=multicast)) == EVERYONE - cut
    network.mend(1)
    assert set(hosts.heard(multicast=multicast)) == EVERYONE
    hosts.close()


def test_loss_drops_some_packets_from_and_to_one_replica_and_no_others(network: Network, hosts: Hosts) -> None:
    network.cut(1, cut_rules(strike("lose"), 1, 3))
    arrived = hosts.heard(copies=50)
    for pair in EVERYONE:
        assert arrived[pair] == 50 if 1 not in pair else 0 < arrived[pair] < 50
    hosts.close()


def test_mending_one_cut_leaves_another_in_place(network: Network, hosts: Hosts) -> None:
    network.cut(0, cut_rules(strike("mute"), 0, 3))
    network.cut(1, cut_rules(strike("mute"), 1, 3))
    network.mend(0)
    assert set(hosts.heard()) == {(0, 1), (0, 2), (2, 0), (2, 1)}
    hosts.close()


def test_a_command_runs_on_its_host_and_this_thread_returns_to_its_own_namespace(network: Network) -> None:
    program = "import os, sys; print(os.getpid(), os.readlink('/proc/self/ns/net'))"
    home = os.readlink("/proc/thread-self/ns/net")
    with network.entered(CLIENTS):
        clients = os.readlink("/proc/thread-self/ns/net")
        with subprocess.Popen([*network.command(0), sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pid, there = process.stdout.read().split()
    assert int(pid) == process.pid
    assert len({home, clients, there}) == 3
    assert os.readlink("/proc/thread-self/ns/net") == home


def test_the_error_names_the_missing_tool_or_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoNetwork, match="need root"):
        Network("stretto-test-nothing", 3).up()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "nft" else tool)
    with pytest.raises(NoNetwork, match=r"nft is not installed .*nftables"):
        Network("stretto-test-nothing", 3).up()


@pytest.mark.usefixtures("network")
def test_a_network_that_cannot_be_made_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_address", lambda number: "no address")
    with pytest.raises(NoNetwork, match="valid prefix"):
        Network(f"stretto-test-half-{os.getpid()}", 3).up()
    assert list(WHERE.glob(f"stretto-test-half-{os.getpid()}*")) == []
