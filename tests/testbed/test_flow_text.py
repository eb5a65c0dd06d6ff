"""Flows as text: the exact text for a small rule, and that Open vSwitch's own tool reads the text of all designs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stretto.network.designs import DESIGNS, Design, rules_for
from stretto.network.groups import Group
from stretto.network.rules import PRIORITY, Match, Rule
from stretto.network.topologies import named
from stretto.testbed.flow_text import bundle_lines
from stretto.testbed.flows import cookie_of, table_of
from stretto.testbed.plan import Plan


def test_a_root_that_sends_a_copy_back_to_the_port_of_arrival() -> None:
    rule = Rule(Match("239.0.0.1", label=256), (1, 3), set_label=1, queue=PRIORITY)
    cookie = f"cookie={cookie_of(rule):#x}"
    actions = "set_field:02:53:54:01:00:01->eth_src,set_field:46->ip_dscp,group:5"
    assert list(bundle_lines(table_of([rule], {}, {}))) == [
        "group add group_id=5,type=all,bucket=output:1,bucket=output:3",
        f"flow add {cookie},table=0,priority=1001,ip,in_port=1,dl_src=02:53:54:01:01:00,nw_dst=239.0.0.1,actions={actions},in_port",
        f"flow add {cookie},table=0,priority=1001,ip,in_port=3,dl_src=02:53:54:01:01:00,nw_dst=239.0.0.1,actions={actions},in_port",
        f"flow add {cookie},table=0,priority=1000,ip,dl_src=02:53:54:01:01:00,nw_dst=239.0.0.1,actions={actions}",
    ]


@pytest.mark.skipif(shutil.which("ovs-ofctl") is None, reason="needs ovs-ofctl (on Debian in openvswitch-common)")
@pytest.mark.parametrize("design", DESIGNS)
def test_ovs_ofctl_reads_all_flows(design: str, tmp_path: Path) -> None:
    topology = named("testbed")
    addresses = {host: Plan(topology).address(host) for host in topology.hosts}
    group = Group("239.83.0.1", topology.hosts[::5])
    rules = rules_for(topology, group, Design(design)).rules
    sent = [Rule(Match(group.address, 1, 3, host), (2,)) for host in topology.hosts[:3]]  # flows for senders, in a second table
    lines = [line for own in (*rules.values(), sent) for line in bundle_lines(table_of(own, addresses, {}))]
    flows = [line.removeprefix("flow add ") for line in lines if line.startswith("flow add ")]
    (tmp_path / "flows").write_text("\n".join(flows))
    read = subprocess.run(["ovs-ofctl", "-O", "OpenFlow13", "parse-flows", str(tmp_path / "flows")], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    assert read.stdout.count("ADD") == len(flows)
    assert any("goto_table:1" in flow for flow in flows)
