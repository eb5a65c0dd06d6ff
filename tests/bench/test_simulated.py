"""Figures of simulated clusters: that they are the same again, leave the warm-up out, and add up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stretto import catalog
from stretto.bench.simulated import Stalled, measure_simulated, one_machine_each, saturate
from stretto.core.config import Timeouts
from stretto.core.errors import ConfigurationError
from stretto.simulation.network import Delay, Links
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

COSTS = Costs(2_000, 1_000, 2_000, 500, execute_ns=3_000, burst_ns=4_000)
EXACT = Links(Delay("constant", 20_000), Delay())


def spec_of(protocol: str = "speculative", replicas: int = 3, sessions: int = 4, **changes: Any) -> SimulationSpec:
    settings: dict[str, Any] = {"operations": 300, "links": EXACT, "costs": COSTS, "client_costs": COSTS} | changes
    return one_machine_each(SimulationSpec(protocol, replicas=replicas, sessions=sessions, **settings))


def measured(spec: SimulationSpec, **options: Any) -> dict[str, Any]:
    return measure_simulated(spec, catalog.protocol(spec.protocol), **options)


def test_one_call_at_a_time_costs_what_was_said() -> None:
    figures = measured(spec_of("unreplicated", 1, 1))
    assert figures["operations"] >= 300
    assert figures["messages_per_op"]["follower"] is None
    assert figures["messages_per_op"]["leader"] == pytest.approx({"received": 1.0, "sent": 1.0}, rel=0.01)
    assert figures["cpu_us_per_op"]["leader"] == pytest.approx(2 + 1 + 2 + 0.5 + 3 + 4, rel=0.01)
    # A call is made in the burst that ended the last one, when the client has woken up.
    assert figures["latency_us"]["p50"] == (2 + 1 + 2 + 0.5) + 20 + (4 + 2 + 1 + 3 + 2 + 0.5) + 20 + 4
    assert 0.1 < figures["utilisation"]["leader"] < 0.3


def test_the_same_again_and_not_with_another_seed() -> None:
    spec = spec_of(links=Links())
    assert measured(spec) == measured(spec)
    assert measured(spec) != measured(msgspec.structs.replace(spec, seed=1))


def test_checks_change_nothing_that_is_measured() -> None:
    assert measured(spec_of(), checks=True) == measured(spec_of())


def test_followers_and_the_leader_have_figures_of_their_own() -> None:
    figures = measured(spec_of(replicas=5, timeouts=Timeouts(sync_interval_ms=0.5)))
    leader, follower = figures["messages_per_op"]["leader"], figures["messages_per_op"]["follower"]
    assert leader["received"] > follower["received"] >= 1.0
    assert figures["all_datagrams_per_op"] >= 1 + 5
    assert figures["failures"] == {}


def test_the_warm_up_is_left_out() -> None:
    """The first call of each session opens it, by an operation of its own."""
    one, two = measured(spec_of("unreplicated", 1), warm_up=0), measured(spec_of("unreplicated", 1))
    received = [figures["messages_per_op"]["leader"]["received"] for figures in (one, two)]
    assert received[0] > 1.01 > received[1]


def test_lost_messages_lower_throughput() -> None:
    lossy = msgspec.structs.replace(EXACT, loss=0.05)
    assert measured(spec_of(links=lossy))["throughput_ops_s"] < measured(spec_of())["throughput_ops_s"] / 2


def test_multicasts_that_are_held_back_make_replicas_differ() -> None:
    figures = measured(spec_of(sessions=16, links=msgspec.structs.replace(EXACT, reorder=0.01)))
    assert figures["reconciliations_per_s"] > 0
    assert figures["rolled_back_operations"] > 0
    assert measured(spec_of(sessions=16))["reconciliations_per_s"] == 0


def test_the_sweep_goes_past_the_most_and_ends() -> None:
    throughput = {1: 10, 2: 20, 4: 35, 8: 35.5, 16: 40, 32: 40.1, 64: 39, 128: 80}
    seen = list(saturate(lambda sessions: {"throughput_ops_s": throughput[sessions]}))
    assert [figures["throughput_ops_s"] for figures in seen] == [10, 20, 35, 35.5, 40, 40.1, 39]


def test_sessions_saturate_the_leader() -> None:
    figures = list(saturate(lambda sessions: measured(spec_of(sessions=sessions, operations=200)), 16))
    assert figures[-1]["utilisation"]["leader"] > 0.8
    assert figures[-1]["throughput_ops_s"] > 2 * figures[0]["throughput_ops_s"]
    assert figures[-1]["utilisation"]["client"] < 0.5


def test_wrong_bounds_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"links\.loss"):
        measured(spec_of(links=Links(loss=1.5)))
    with pytest.raises(Stalled, match=r"--set links\.loss=1\.0"):
        measured(spec_of(links=Links(loss=1.0), fault_ns=1_000_000))
