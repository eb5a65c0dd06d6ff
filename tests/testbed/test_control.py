"""The controller of a testbed: what it installs is what was compiled, and it notices when that is not so any more."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stretto.cli.main import run
from stretto.core.errors import ConfigurationError
from stretto.network.designs import DESIGNS, Design, rules_for
from stretto.network.groups import Group
from stretto.testbed.commands import ControllerClient
from stretto.testbed.fabric import Fabric
from stretto.testbed.flow_text import bundle_lines
from stretto.testbed.flows import table_of
from stretto.testbed.session import install
from stretto.testbed.unicast import ports_towards

pytestmark = pytest.mark.xdist_group("testbed")
GROUP = Group("239.83.0.1", ("leaf0h0", "leaf1h0"), ("leaf0h1", "leaf1h1"))


def ovs_ofctl(fabric: Fabric, switch: str, command: str, *arguments: str) -> None:
    """Do something to a switch behind its controller's back."""
    where = f"unix:{fabric.plan.management_socket(switch)}"
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", command, where, *arguments], check=True, capture_output=True)


@pytest.fixture
def client(testbed: Fabric) -> ControllerClient:
    """The controller's, with a group under the serialised design."""
    client = ControllerClient(testbed.plan.controller_socket)
    install(client, Design("serialised"), GROUP)
    return client


@pytest.mark.parametrize("design", DESIGNS)
def test_what_is_installed_is_what_was_compiled(client: ControllerClient, design: str) -> None:
    client.set_design(Design(design))
    found = client.verify()
    assert found.good
    assert (found.switches, found.checked, found.unreachable) == (4, 2, ())


def test_what_others_change_is_found_and_put_right(testbed: Fabric, client: ControllerClient, capsys: pytest.CaptureFixture[str]) -> None:
    ovs_ofctl(testbed, "leaf0", "del-flows", f"ip,nw_dst={GROUP.address}")
    assert run(["testbed", "verify", "--name", testbed.plan.name]) == 1
    assert "leaf0" in capsys.readouterr().out
    found = client.verify()
    assert {deviation.switch for deviation in found.deviations} == {"leaf0"}
    assert {violation.kind for violation in found.violations} >= {"no rule"}
    client.set_groups((GROUP,))
    assert client.verify().good


def test_the_same_rules_as_text_do_the_same(testbed: Fabric, client: ControllerClient, tmp_path: Path) -> None:
    plan, topology = testbed.plan, testbed.plan.topology
    (root,) = client.status().roots[GROUP.address]
    addresses = {host: plan.address(host) for host in topology.hosts}
    rules = rules_for(topology, GROUP, Design("serialised")).rules
    file = tmp_path / "flows"
    file.write_text("\n".join(bundle_lines(table_of(rules[root], addresses, {}))))
    ovs_ofctl(testbed, root, "del-flows", f"ip,nw_dst={GROUP.address}")
    ovs_ofctl(testbed, root, "del-groups")
    assert not client.verify().good
    ovs_ofctl(testbed, root, "bundle", str(file))
    assert client.verify().good


def test_a_switch_that_dies_is_gone_round(testbed: Fabric, client: ControllerClient) -> None:
    (before,) = client.status().roots[GROUP.address]
    last = client.status().changes
    testbed.kill(before)
    try:
        (after,) = _once(client, lambda roots: roots != (before,))
        assert before in client.status().failed
        found = client.verify()
        assert found.good
        assert found.unreachable == (before,)
        assert all(change.causes or change.flows for change in client.events(last))
        (change,) = [change for change in client.events(last) if GROUP.address in change.moved]
        assert change.moved[GROUP.address] == ((before,), (after,))
        assert change.noticed_ns <= change.computed_ns <= change.confirmed_ns
    finally:
        testbed.revive(before)
    _once(client, lambda roots: roots == (before,))
    assert client.verify().good


def test_what_makes_no_sense_changes_nothing(client: ControllerClient) -> None:
    before = client.status()
    with pytest.raises(ConfigurationError, match="'nobody' is not a host"):
        client.set_groups((Group(GROUP.address, ("nobody",)),))
    assert client.status() == before


def _once(client: ControllerClient, holds: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """The group's roots when that holds of them."""
    deadline = time.monotonic() + 60
    while not holds(roots := client.status().roots[GROUP.address]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return roots


def test_ways_for_packets_between_hosts_cover_all(testbed: Fabric) -> None:
    from stretto.network.routes import Failed, Routes

    ports = ports_towards(Routes(testbed.plan.topology, Failed(testbed.plan.topology)))
    assert all(set(ports[switch]) == set(testbed.plan.topology.hosts) for switch in testbed.plan.switches)
