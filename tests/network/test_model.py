"""The model equals the event-by-event simulation, copy by copy and picosecond by picosecond."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from numpy.typing import ArrayLike

from stretto.core.errors import ConfigurationError
from stretto.network.controller import Controller
from stretto.network.designs import DESIGNS, MERGES, Design
from stretto.network.groups import Group, place
from stretto.network.measures import of_group
from stretto.network.model import live
from stretto.network.model import run as model
from stretto.network.model.queues import NEVER
from stretto.network.model.run import Conditions, Deliveries, Messages, failing
from stretto.network.model.traffic import MEAN_BYTES, Background, Stacks
from stretto.network.rules import Rules
from stretto.network.topologies import fat_tree, leaf_spine, twelve_switches
from stretto.network.topology import Topology

from . import oracle
from .oracle import Oracle

US = 1_000_000
ALL = [Design(name, merge) for name in DESIGNS for merge in (MERGES if name in ("topology_aware", "prioritised") else MERGES[:1])]


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "WARM_UP_PS", 30 * US)
    monkeypatch.setattr(oracle, "WARM_UP_PS", 30 * US)
    monkeypatch.setattr(live, "WARM_UP_PS", 30 * US)
    monkeypatch.setattr(live, "_LOOKAHEAD_PS", 50 * US)


def world(dice: random.Random, design: Design) -> tuple[Controller, Messages]:
    """A small network with two groups and busy senders. Times are round numbers, so that many events coincide."""
    build = dice.choice([twelve_switches, lambda **k: fat_tree(4, **k), lambda **k: leaf_spine(3, 2, 3, **k)])
    fabric, delay = dice.choice([1, 10]), dice.choice([0, 100, 1_000])
    topology = build(host_gbps=1, fabric_gbps=fabric, switch_delay_ns=delay, buffer_bytes=4_000)
    controller = Controller(topology, msgspec.structs.replace(design, salt=dice.randrange(10)))
    groups = [place(topology, dice.randrange(1, 4), dice.randrange(1, 5), dice.randrange(1000), index) for index in range(2)]
    controller.set_groups(groups)
    flows = tuple((group.address, sender) for group in groups for sender in group.senders)
    n = dice.randrange(20, 60)
    times = np.sort(np.array([dice.randrange(0, 60) * 4 * US for _ in range(n)]))
    return controller, Messages(flows, np.array([dice.randrange(len(flows)) for _ in range(n)]), times, dice.choice([64, 125, 1_500]))


def compare(topology: Topology, rules: Rules, messages: Messages, conditions: Conditions) -> tuple[Deliveries, Oracle]:
    got = model.run(topology, rules, messages, conditions)
    due = Oracle(topology, rules, messages, conditions, 450 * US)
    for host in topology.hosts:
        assert got.at.get(host, np.full(len(messages), NEVER)).tolist() == due.at[host]
    census = got.census
    assert (census.made, census.delivered, census.dropped) == (due.made, due.delivered, due.dropped)
    assert (census.failed, census.unmatched, census.in_flight) == (due.failed, due.unmatched, 0)
    assert census.made == census.delivered + census.dropped + census.failed + census.unmatched
    return got, due


@pytest.mark.parametrize("design", ALL, ids=lambda d: f"{d.name}-{d.merge}")
def test_equals_the_oracle(design: Design) -> None:
    dice = random.Random(11)
    dropped = 0
    for case in range(5):
        controller, messages = world(dice, design)
        background = Background(dice.choice([0, 0.3, 0.8]), dice.choice(["poisson", "onoff"]), seed=case)
        conditions = Conditions(background, Stacks(dice.choice([0, 500_000]), case))
        got, due = compare(controller.topology, controller.rules, messages, conditions)
        dropped += got.census.dropped + due.background_dropped
    assert dropped > 0


@pytest.mark.parametrize("design", ALL, ids=lambda d: f"{d.name}-{d.merge}")
def test_live_equals_all_at_once(design: Design) -> None:
    dice = random.Random(7)
    dropped = 0
    for case in range(12):
        controller, messages = world(dice, design)
        conditions = Conditions(Background(dice.choice([0, 0.4, 0.8]), dice.choice(["poisson", "onoff"]), seed=case))
        due = model.run(controller.topology, controller.rules, messages, conditions)
        network = live.LiveNetwork(controller.topology, controller.rules, conditions)
        got: list[live.Delivery] = []
        for flow, time in zip(messages.flow.tolist(), messages.time_ps.tolist(), strict=True):
            got += network.advance(time - 1)
            group, sender = messages.flows[flow]
            network.multicast(group, sender, time, messages.size_bytes)
        while network.next_ps != NEVER:
            got += network.advance(network.next_ps)
        expected = [(t, host, i) for host, at in due.at.items() for i, t in enumerate(at.tolist()) if t != NEVER]
        assert sorted(got) == sorted(expected)
        assert [delivery.time_ps for delivery in got] == sorted(delivery.time_ps for delivery in got)
        dropped += due.census.dropped
    assert dropped or design.queue == "priority"


def test_a_packet_obeys_the_rules_at_the_time_of_its_arrival() -> None:
    topology = leaf_spine(2, 1, 1, host_gbps=1, fabric_gbps=10)
    controller = Controller(topology, Design("serialised"))
    controller.set_groups([Group("239.0.0.1", ("leaf1h0",), ("leaf0h0",))])
    messages = Messages((("239.0.0.1", "leaf0h0"),), np.zeros(1, np.int64), np.array([7]), 125)
    at_spine = 7 + US + US // 5 + US + US // 10 + US // 5
    for moment in (at_spine - 1, at_spine, at_spine + 1):
        got, _ = compare(topology, controller.rules, messages, Conditions(changes=((moment, {}),)))
        assert got.census.unmatched == 1
        # With a later change the packet has passed the spine already, and the last leaf has no rule.
        assert got.census.packet_hops == (3 if moment > at_spine else 2)


def test_a_link_that_fails_loses_the_packets_on_it() -> None:
    topology = leaf_spine(2, 1, 1, host_gbps=1, fabric_gbps=10)
    controller = Controller(topology, Design("serialised"))
    controller.set_groups([Group("239.0.0.1", ("leaf1h0",), ("leaf0h0",))])
    messages = Messages((("239.0.0.1", "leaf0h0"),), np.zeros(1, np.int64), np.array([7]), 125)
    there = 7 + US + US // 5
    for down, lost in ((there, 1), (there + 1, 0)):
        got, _ = compare(topology, controller.rules, messages, Conditions(outages={("leaf0h0", 1): ((down, NEVER),)}))
        assert got.census.failed == lost


@pytest.mark.parametrize("design", [ALL[0], ALL[1], ALL[-1]], ids=lambda d: d.name)
def test_equals_the_oracle_with_failures_during_the_run(design: Design) -> None:
    dice = random.Random(5)
    failed = unmatched = 0
    for case in range(5):
        controller, messages = world(dice, design)
        ends = [end for link in controller.topology.links for end in link.ends]
        elements = [dice.choice(ends), dice.choice(controller.topology.switches).name]
        back = dice.choice([None, 160 * US])
        rules, conditions = failing(controller, elements, 80 * US, dice.choice([0, 30 * US]), back)
        conditions = replace(conditions, background=Background(0.4, seed=case))
        got, _ = compare(controller.topology, rules, messages, conditions)
        failed += got.census.failed
        unmatched += got.census.unmatched
    assert failed > 0


def test_a_run_that_is_ended_early_leaves_the_rest_in_flight() -> None:
    controller, messages = world(random.Random(1), Design("plain"))
    whole = model.run(controller.topology, controller.rules, messages)
    for until in (0, 50 * US, 120 * US, 500 * US):
        census = (got := model.run(controller.topology, controller.rules, messages, Conditions(until_ps=until))).census
        assert census.made == census.delivered + census.dropped + census.failed + census.unmatched + census.in_flight
        for host, times in got.at.items():
            assert all(time == (due if due <= until else NEVER) for time, due in zip(times, whole.at[host], strict=True))
    assert census.in_flight == 0 < census.delivered


def test_the_seed_determines_the_whole_run() -> None:
    controller, messages = world(random.Random(1), Design("topology_aware"))
    conditions = [Conditions(Background(0.5, seed=seed), Stacks(US, seed)) for seed in (1, 1, 2)]
    runs = [model.run(controller.topology, controller.rules, messages, each) for each in conditions]
    times = [{host: at.tolist() for host, at in r.at.items()} for r in runs]
    assert times[0] == times[1] != times[2]


@pytest.mark.parametrize("bursts", ["poisson", "onoff"])
@pytest.mark.parametrize("load", [0.1, 0.8])
def test_background_traffic_has_the_requested_load(bursts: Literal["poisson", "onoff"], load: float) -> None:
    topology = twelve_switches()
    for port in (1, 5):
        wire = topology.wires["p0t0"][port]
        totals = []
        for seed in range(8):
            times, services = Background(load, bursts, seed=seed).packets("p0t0", port, wire, 0, 400_000 * US)
            assert (np.diff(times) >= 0).all()
            assert times[0] >= 0
            assert times[-1] < 400_000 * US
            totals.append(services.sum() / (400_000 * US))
        assert np.mean(totals) == pytest.approx(load, rel=0.02 if bursts == "poisson" else 0.1)


@pytest.mark.parametrize("bursts", ["poisson", "onoff"])
def test_background_traffic_up_to_a_time_does_not_depend_on_the_end(bursts: Literal["poisson", "onoff"]) -> None:
    wire = twelve_switches().wires["p0t0"][5]
    background = Background(0.5, bursts)
    far, far_times = background.packets("p0t0", 5, wire, 0, 300_000 * US)
    near, near_times = background.packets("p0t0", 5, wire, 0, 100_000 * US)
    assert len(near) > 40_000
    assert np.array_equal(far[: len(near)], near)
    assert np.array_equal(far_times[: len(near)], near_times)
    assert far[len(near)] >= 100_000 * US


def test_bursts_make_longer_queues_than_poisson() -> None:
    topology = twelve_switches(fabric_gbps=1, buffer_bytes=10**7)
    controller = Controller(topology, Design("plain"))
    group = place(topology, 2, 3, 1)
    controller.set_groups([group])
    flows = tuple((group.address, sender) for sender in group.senders)
    messages = Messages(flows, np.arange(2_000) % 2, np.arange(2_000) * 100 * US)
    waits = {}
    for bursts in ("poisson", "onoff"):
        deliveries = model.run(topology, controller.rules, messages, Conditions(Background(0.5, bursts)))
        waits[bursts] = np.mean([at - messages.time_ps for at in deliveries.at.values()])
    assert waits["onoff"] > 2 * waits["poisson"]


def test_latency_in_an_empty_network_is_the_sum_of_its_delays() -> None:
    """Three switches of 1 us, four links of 200 ns, three at 10 Gbit/s and one at each end at 1 Gbit/s, 125 bytes."""
    topology = leaf_spine(2, 1, 1, host_gbps=1, fabric_gbps=10)
    controller = Controller(topology, Design("serialised"))
    controller.set_groups([msgspec.structs.replace(place(topology, 1, 1, 1), members=("leaf1h0",), senders=("leaf0h0",))])
    messages = Messages((("239.83.0.1", "leaf0h0"),), np.zeros(1, np.int64), np.array([7]), 125)
    got = model.run(topology, controller.rules, messages)
    assert got.at["leaf1h0"].tolist() == [7 + 2 * US + 2 * US // 10 + 4 * US // 5 + 3 * US]


def test_loads_out_of_range_are_refused() -> None:
    wrongs: list[dict[str, Any]] = [
        {"load": 1.0},
        {"load": -0.1},
        {"load": float("nan")},
        {"load": 0.5, "bursts": "x"},
        {"load": 0.5, "burst_packets": 0},
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError):
            Background(**wrong)


def mean_latency(at: Mapping[str, ArrayLike], messages: Messages, members: Sequence[str]) -> float:
    times = np.concatenate([np.asarray(at[host]) - messages.time_ps for host in members])
    return float(times[np.concatenate([np.asarray(at[host]) for host in members]) != NEVER].mean())


@pytest.mark.parametrize(("design", "load", "buffer_bytes"), [("plain", 0.5, 20_000), ("prioritised", 0.5, 20_000), ("plain", 0.8, 3_000)])
def test_independent_background_traffic_is_close_to_traffic_that_travels(design: str, load: float, buffer_bytes: int) -> None:
    """Compares the model, in which each port has its own independent background traffic, with background traffic that hosts send through
    every queue on its path. The mean waits differ by about a tenth, and so do the reorder rates."""
    topology = leaf_spine(4, 4, 5, host_gbps=1, fabric_gbps=1, buffer_bytes=buffer_bytes)
    controller = Controller(topology, Design(design))
    # The fifth host of each rack sends only multicasts, so that the network cards of senders do not affect the comparison.
    busy = [host for host in topology.hosts if not host.endswith("h4")]
    group = Group("239.0.0.1", ("leaf0h0", "leaf1h0", "leaf2h0"), tuple(f"leaf{i}h4" for i in range(4)))
    controller.set_groups([group])
    rng = np.random.default_rng(1)
    span = 20_000 * US
    times = np.sort(rng.integers(0, span, 2_000))
    flows = tuple((group.address, sender) for sender in group.senders)
    messages = Messages(flows, rng.integers(0, 4, len(times)), times)
    alone = mean_latency(model.run(topology, controller.rules, messages).at, messages, group.members)
    near = model.run(topology, controller.rules, messages, Conditions(Background(load)))
    sent = []
    for host in busy:
        leaf, _ = topology.rack(host)
        packets, _ = Background(load, seed=9).packets(host, 1, topology.wires[host][1], 0, span)
        for time in packets.tolist():
            other = busy[rng.integers(16)]
            while topology.rack(other)[0] == leaf:
                other = busy[rng.integers(16)]
            spine = int(rng.integers(4))
            out, there = topology.rack(other)
            size = 238 if rng.random() < 0.5 else int(2 * MEAN_BYTES) - 238
            sent.append((time, size, [(host, 1), (leaf, 6 + spine), (f"spine{spine}", 1 + int(out[4:])), (out, there)]))
    full = Oracle(topology, controller.rules, messages, Conditions(), 0, cross=sorted(sent, key=lambda packet: packet[0]))
    model_wait = mean_latency(near.at, messages, group.members) - alone
    full_wait = mean_latency(full.at, messages, group.members) - alone
    assert full.made == full.delivered + full.dropped
    assert 0.8 < full_wait / model_wait < 1.25
    near_order, full_order = (of_group([np.asarray(at[host]) for host in group.members]) for at in (near.at, full.at))
    assert 0.6 < full_order.overtaken / near_order.overtaken < 1.6
    if buffer_bytes == 3_000:
        assert 0.5 < full.dropped / near.census.dropped < 2


def test_background_traffic_can_be_limited_to_some_ports() -> None:
    topology = leaf_spine(2, 1, 2)
    everywhere, there = Background(0.5), Background(0.5, ports=frozenset({("spine0", 1)}))
    for leaf, port in (("spine0", 1), ("spine0", 2), ("leaf0", 1)):
        wire = topology.wires[leaf][port]
        mine, anywhere = (background.packets(leaf, port, wire, 0, 1000 * US)[0].tolist() for background in (there, everywhere))
        assert anywhere
        assert mine == (anywhere if (leaf, port) == ("spine0", 1) else [])
