"""A small testbed: it forwards packets, its parts can be killed and revived, and it is repaired or made again."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from stretto.network.designs import Design
from stretto.network.groups import Group
from stretto.network.topologies import named
from stretto.testbed import record
from stretto.testbed.commands import ControllerClient
from stretto.testbed.fabric import Fabric
from stretto.testbed.plan import Plan

pytestmark = pytest.mark.xdist_group("testbed")

GROUP, PORT, OTHER_PORT = "239.83.84.1", 7000, 7001
PATIENCE_S = 60


def endpoint(testbed: Fabric, host: str, port: int = 0) -> socket.socket:
    """A socket on that host which is a member of the group."""
    with testbed.entered(host):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("", port))
    made.settimeout(0.5)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(testbed.plan.address(host)))
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 16)
    return made


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def reaches(testbed: Fabric, source: str, target: str) -> bool:
    """Whether a packet from one host reaches another."""
    with endpoint(testbed, source) as sender, endpoint(testbed, target, PORT) as receiver:
        receiver.settimeout(0.1)
        sender.sendto(b"hello", (testbed.plan.address(target), PORT))
        try:
            return receiver.recv(100) == b"hello"
        except TimeoutError:
            return False


def until_rules_work(sender: socket.socket, receiver: socket.socket) -> None:
    """Send empty multicasts until one arrives, because a switch may use cached flows of former rules for milliseconds."""
    receiver.settimeout(0.02)

    def arrives() -> bool:
        sender.sendto(b"", (GROUP, PORT))
        try:
            return receiver.recv(100) == b""
        except TimeoutError:
            return False

    assert eventually(arrives)
    receiver.settimeout(0.5)


def drain(receiver: socket.socket) -> list[bytes]:
    got = []
    try:
        while True:
            got.append(receiver.recv(2_000))
    except TimeoutError:
        return got


def test_up_again_changes_nothing_and_another_topology_is_refused(testbed: Fabric) -> None:
    before = testbed.status()
    assert before.healthy
    assert Fabric.existing(testbed.plan.name).up() == "unchanged"
    assert testbed.status() == before
    with pytest.raises(record.TestbedFailure, match="up with another topology"):
        Fabric(Plan(named("leaf_spine(2,1,1)"), testbed.plan.name), testbed.scale).up()
    with pytest.raises(record.TestbedFailure, match="up with another scale"):
        Fabric(testbed.plan, testbed.scale / 2).up()
    assert testbed.status() == before


def test_every_host_reaches_every_other(testbed: Fabric) -> None:
    hosts = testbed.plan.topology.hosts
    assert all(reaches(testbed, source, target) for source in hosts for target in hosts if source != target)


def test_a_sender_that_is_a_member_gets_its_own_multicast_from_the_switches(testbed: Fabric) -> None:
    controller = ControllerClient(testbed.plan.controller_socket)
    controller.set_design(Design("serialised"))
    controller.set_groups((Group(GROUP, ("leaf0h0", "leaf0h1", "leaf1h0"), ("leaf0h0",)),))
    sockets = [endpoint(testbed, host, PORT) for host in ("leaf0h0", "leaf0h1", "leaf1h0", "leaf1h1")]
    until_rules_work(sockets[0], sockets[2])
    for number in range(10):
        sockets[0].sendto(b"%d" % number, (GROUP, PORT))
    expected = [b"%d" % number for number in range(10)]
    assert [[message for message in drain(each) if message] for each in sockets] == [expected, expected, expected, []]
    for each in sockets:
        each.close()


def test_packets_of_high_priority_pass_a_full_queue(testbed: Fabric) -> None:
    """Both hosts of one rack send more to a host of the other rack than its link carries. No multicast to that host is lost."""
    controller = ControllerClient(testbed.plan.controller_socket)
    controller.set_design(Design("prioritised"))
    controller.set_groups((Group(GROUP, ("leaf1h0",), ("leaf1h1",)),))
    frames, messages = 200, 100
    with endpoint(testbed, "leaf1h0", PORT) as receiver, endpoint(testbed, "leaf1h0", OTHER_PORT) as other_receiver:
        other_receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

        def congest(host: str) -> None:
            with endpoint(testbed, host) as sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # limits the sender to the rate of the host's link
                for _ in range(frames):
                    sender.sendto(bytes(1_400), (testbed.plan.address("leaf1h0"), OTHER_PORT))

        with endpoint(testbed, "leaf1h1") as sender:
            until_rules_work(sender, receiver)
            threads = [threading.Thread(target=congest, args=(host,)) for host in ("leaf0h0", "leaf0h1")]
            for thread in threads:
                thread.start()
            for number in range(messages):
                sender.sendto(b"%d" % number, (GROUP, PORT))
                time.sleep(0.002)
            for thread in threads:
                thread.join()
        assert [message for message in drain(receiver) if message] == [b"%d" % number for number in range(messages)]
        assert frames // 2 < len(drain(other_receiver)) < 2 * frames


@pytest.mark.parametrize("part", ["spine0", "leaf1", "spine1-leaf0", "leaf1-leaf1h0"])
def test_a_part_is_killed_and_revived(testbed: Fabric, part: str) -> None:
    assert testbed.kill(part)
    assert not testbed.kill(part)
    status = testbed.status()
    killed = [switch.name for switch in status.switches if switch.state == "killed"]
    killed += [cable.name for cable in status.cables if cable.state == "killed"]
    cut_off = part.startswith("leaf1")
    meant = testbed.plan.part(part)
    assert killed == [meant if isinstance(meant, str) else meant.name]
    assert not status.healthy
    assert cut_off or eventually(lambda: reaches(testbed, "leaf0h0", "leaf1h0"))
    assert not cut_off or not reaches(testbed, "leaf0h0", "leaf1h0")
    assert testbed.revive(part)
    assert not testbed.revive(part)
    assert testbed.status().healthy
    assert eventually(lambda: reaches(testbed, "leaf0h0", "leaf1h0"))


def test_a_link_stays_cut_when_its_switch_is_revived(testbed: Fabric) -> None:
    for part in ("spine0-leaf0", "spine0"):
        testbed.kill(part)
    states = {cable.name: cable.state for cable in testbed.status().cables}
    assert (states["spine0:1"], states["spine0:2"], states["spine1:1"]) == ("killed", "down", "up")
    testbed.revive("spine0")
    states = {cable.name: cable.state for cable in testbed.status().cables}
    assert (states["spine0:1"], states["spine0:2"]) == ("killed", "up")
    assert testbed.up() == "mended"
    assert testbed.status().healthy


def test_up_restarts_processes_that_have_died(testbed: Fabric) -> None:
    status = testbed.status()
    died = [status.controller_pid, status.switches[0].pid]
    for pid in died:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: testbed.status().switches[0].state == "down")
    assert testbed.up() == "mended"
    assert testbed.status().healthy
    assert eventually(lambda: reaches(testbed, "leaf0h0", "leaf1h0"))


def test_up_makes_a_testbed_again_that_cannot_be_repaired(testbed: Fabric) -> None:
    with testbed.entered("leaf0"):
        assert os.system("ip link delete port1") == 0
    assert testbed.up() == "made"
    assert testbed.status().healthy
