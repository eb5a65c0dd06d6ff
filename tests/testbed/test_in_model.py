"""A testbed's settings in the packet model. These tests need no running testbed."""

from __future__ import annotations

from typing import Any

from stretto.network.experiment import Setting
from stretto.network.topologies import named
from stretto.testbed.fabric import Fabric
from stretto.testbed.in_model import run_in_model, topology_in_model
from stretto.testbed.plan import Plan

FABRIC = Fabric(Plan(named("testbed(pod_gbps=1)"), "never-up"), 0.02)


def test_rates_and_queues_are_those_of_the_cables() -> None:
    topology = topology_in_model(FABRIC, 90_000)
    wires = topology.wires
    assert (wires["p0t0h0"][1].rate_bps, wires["p0t0"][5].rate_bps, wires["root0"][1].rate_bps) == (20_000_000, 20_000_000, 200_000_000)
    assert wires["root0"][1].delay_ps == 0
    assert wires["root0"][1].buffer_bytes == 24 * 1_538
    assert set(topology.switching_delay_ps.values()) == {90_000_000}


def test_each_design_reorders_less_than_the_one_before_and_only_chosen_links_are_loaded() -> None:
    base: dict[str, Any] = {"topology": "testbed", "senders": 3, "receivers": 3, "rate": 900.0, "messages": 2_000}
    shares = []
    for design in ("plain", "topology_aware", "prioritised", "serialised"):
        outcome, _ = run_in_model(FABRIC, 90_000, Setting(design=design, load=0.3, **base))
        shares.append(outcome.disagreement.overtaken)
        quiet, _ = run_in_model(FABRIC, 90_000, Setting(design=design, **base))
        assert quiet.census.packet_hops < outcome.census.packet_hops < 10 * quiet.census.packet_hops
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0 < shares[-2]
