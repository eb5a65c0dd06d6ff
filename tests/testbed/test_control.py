"""The controller of a testbed installs exactly the compiled rules, and detects deviations from them."""

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
    """Change a switch without its controller."""
    where = f"unix:{fabric.plan.management_socket(switch)}"
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", command, where, *arguments], check=True, capture_output=True)


@pytest.fixture
def client(testbed: Fabric) -> ControllerClient:
    """A client of the controller, with a group under the serialised design."""
    client = ControllerClient(testbed.plan.controller_socket)
    install(client, Design("serialised"), GROUP)
    return client


@pytest.mark.parametrize("design", DESIGNS)
def test_the_installed_rules_are_the_compiled_ones(client: ControllerClient, design: str) -> None:
    client.set_design(Design(design))
    found = client.verify()
    assert found.good
    assert (found.switches, found.checked, found.unreachable) == (4, 2, ())


def test_changes_by_others_are_detected_and_corrected(
    testbed: Fabric, client: ControllerClient, capsys: pytest.CaptureFixture[str]
) -> None:
    ovs_ofctl(testbed, "leaf0", "del-flows", f"ip,nw_dst={GROUP.address}")
    assert run(["testbed", "verify", "--name", testbed.plan.name]) == 1
    assert "leaf0" in capsys.readouterr().out
    found = client.verify()
    assert {deviation.switch for deviation in found.deviations} == {"leaf0"}
    assert {violation.kind for violation in found.violations} >= {"no rule"}
    client.set_groups((GROUP,))
    assert client.verify().good


def test_the_rules_as_text_give_the_same_table(testbed: Fabric, client: ControllerClient, tmp_path: Path) -> None:
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


def test_a_dead_switch_is_bypassed(testbed: Fabric, client: ControllerClient) -> None:
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


def test_invalid_commands_change_nothing(client: ControllerClient) -> None:
    before = client.status()
    with pytest.raises(ConfigurationError, match="'nobody' is not a host"):
        client.set_groups((Group(GROUP.address, ("nobody",)),))
    assert client.status() == before


def _once(client: ControllerClient, holds: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """Wait until the condition holds for the group's roots, and return them."""
    deadline = time.monotonic() + 60
    while not holds(roots := client.status().roots[GROUP.address]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return roots


def test_unicast_paths_lead_to_every_host(testbed: Fabric) -> None:
    from stretto.network.routes import Failed, Routes

    ports = ports_towards(Routes(testbed.plan.topology, Failed(testbed.plan.topology)))
    assert all(set(ports[switch]) == set(testbed.plan.topology.hosts) for switch in testbed.plan.switches)
