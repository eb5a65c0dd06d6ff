"""Spells are distinguished, and how soon a protocol has adapted to one is measured."""

from __future__ import annotations

import pytest

from stretto import catalog
from stretto.reproduction.alternation import Sample, figures_of, measure_alternation
from stretto.reproduction.experiment import IN_ORDER
from stretto.simulation.network import Links
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

SPELL_NS = 4_000_000


def samples(active: str, rates: tuple[int, ...] = (9, 9, 2, 1, 2, 1)) -> list[Sample]:
    """A sample each millisecond, of spells of 4. `active`: where the slow path is active. `rates`: operations in each interval."""
    found, completed = [], 0
    for index, mark in enumerate(active):
        completed += rates[index // 4]
        found.append(Sample((index + 1) * 1_000_000, completed, mark == "x"))
    return found


def test_the_first_two_spells_do_not_count() -> None:
    figures = figures_of(samples("....xxxx..........xx...x"), SPELL_NS)
    assert figures["operations"] == 4 * (2 + 1 + 2 + 1)
    assert figures["good_ops_s"] == 2_000
    assert figures["bad_ops_s"] == 1_000
    assert figures["throughput_ops_s"] == 1_500


def test_times_are_from_the_beginning_of_the_spell() -> None:
    figures = figures_of(samples("....xxxxx....xxxxx...xxx"), SPELL_NS)
    assert figures["slow_path_after_ms"] == 2
    assert figures["fast_path_after_ms"] == 2.5
    assert figures["slow_path_share"] == 9 / 16
    assert figures["activations_per_bad_spell"] == 1


def test_beginning_again_within_a_spell_is_flapping() -> None:
    assert figures_of(samples("............x.x.......x."), SPELL_NS)["activations_per_bad_spell"] == 1.5


def test_a_protocol_that_never_adapts_has_no_times() -> None:
    figures = figures_of(samples("." * 24), SPELL_NS)
    assert figures["slow_path_after_ms"] is figures["fast_path_after_ms"] is None


def test_a_spell_that_was_cut_short_does_not_count() -> None:
    assert figures_of(samples("." * 22), SPELL_NS)["operations"] == 4 * (2 + 1 + 2)


@pytest.mark.parametrize("protocol", ["adaptive", "speculative"])
def test_bad_spells_are_bad(protocol: str) -> None:
    costs = Costs(1_000, 500, 1_000, 500)
    links = Links(IN_ORDER.transit, IN_ORDER.skew, loss=0.3, spell_ns=10_000_000)
    spec = SimulationSpec(protocol, clients=4, links=links, fault_ns=60_000_000, costs=costs, client_costs=costs)
    figures = measure_alternation(spec, catalog.protocol(protocol))
    assert figures["bad_ops_s"] < figures["good_ops_s"] / 2
    assert (figures["slow_path_share"] > 0) == (protocol == "adaptive")
    assert figures["view_changes"] == 0
