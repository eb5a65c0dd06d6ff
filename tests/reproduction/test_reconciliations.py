"""Reconciliations are counted, and the logs show how far they had diverged."""

from __future__ import annotations

from typing import Any, cast

import pytest

from stretto import catalog
from stretto.core.node import Replica
from stretto.reproduction.experiment import IN_ORDER
from stretto.reproduction.reconciliations import divergence, measure_reconciliations
from stretto.simulation.network import Delay, Links
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs


class Log:
    """As much of a replica as divergence looks at: entries are letters."""

    def __init__(self, letters: str, start: int = 0) -> None:
        self.state = self.log = self
        self.start, self.last = start, len(letters)
        self.hash_at = lambda position: letters[:position].encode()


@pytest.mark.parametrize(
    ("logs", "apart"),
    [(("abc", "abc"), 0), (("abc", "abcd"), 1), (("abcde", "abxde"), 3), (("abcde", "abxde", "ab"), 3), (("xb", "yb"), 2), (("", "a"), 1)],
)
def test_divergence_counts_from_the_last_equal_position(logs: tuple[str, ...], apart: int) -> None:
    assert divergence(cast(list[Replica], [Log(letters) for letters in logs])) == apart


def test_divergence_behind_a_checkpoint() -> None:
    assert divergence(cast(list[Replica], [Log("abcdef", start=3), Log("abcdxy")])) == 2


def measure(links: Links) -> dict[str, Any]:
    costs = Costs(1_000, 500, 1_000, 500)
    spec = SimulationSpec("speculative", replicas=3, clients=8, sessions=8, operations=600, links=links, costs=costs, client_costs=costs)
    return measure_reconciliations(spec, catalog.protocol("speculative"))


def test_reconciliations_are_seen_where_order_is_lost() -> None:
    found = measure(Links(skew=Delay("uniform", 0, 2_000)))
    assert found["operations"] == 600
    assert found["reconciliations"] > 0
    assert 1 <= found["divergence"] <= 3 * 8
    assert 40 < found["duration_us"] < 10_000
    assert found["rolled_back_per_reconciliation"] > 0
    assert found["messages_per_reconciliation"] >= 6


def test_there_are_none_in_order() -> None:
    found = measure(IN_ORDER)
    assert found["reconciliations"] == 0
    assert found["duration_us"] is found["divergence"] is found["rolled_back_per_reconciliation"] is None
