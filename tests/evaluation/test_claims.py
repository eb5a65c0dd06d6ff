"""Verdicts follow from rows, by rules that say what they do."""

from __future__ import annotations

from typing import Any

import pytest

from stretto.evaluation.claims import NSDI15, AtLeast, AtMost, Claim, Finding, Near, Outcome, Rule, judge
from stretto.evaluation.experiments import comparison, disorder, experiment, fabric, messages
from stretto.evaluation.rows import Missing, Rows

REPRODUCED, PARTLY, NOT = Outcome.REPRODUCED, Outcome.PARTLY, Outcome.NOT


@pytest.mark.parametrize(
    ("rule", "ours", "outcome"),
    [
        (AtLeast(2.6), 2.6, REPRODUCED),
        (AtLeast(2.6), 2.35, REPRODUCED),
        (AtLeast(2.6), 2.3, PARTLY),
        (AtLeast(2.6), 1.06, PARTLY),
        (AtLeast(2.6), 1.04, NOT),
        (AtLeast(1.0, even=0.5), 0.89, PARTLY),
        (AtMost(0.6), 0.2, REPRODUCED),
        (AtMost(0.6), 0.67, PARTLY),
        (AtMost(0.6), 0.96, NOT),
        (AtMost(0, even=1e-4), 0.0, REPRODUCED),
        (AtMost(0, even=1e-4), 1e-3, NOT),
        (Near(1e-3, 3, 10), 0.0028, REPRODUCED),
        (Near(1e-3, 3, 10), 0.00034, REPRODUCED),
        (Near(1e-3, 3, 10), 0.009, PARTLY),
        (Near(1e-3, 3, 10), 0.5, NOT),
        (Near(1e-3, 3, 10), float("inf"), NOT),
        (Near(1e-3, 3, 10), 0.0, NOT),
    ],
)
def test_rules(rule: Rule, ours: float, outcome: Outcome) -> None:
    assert rule.judge(ours) == outcome


def test_the_words_of_a_rule_have_its_bounds() -> None:
    assert AtLeast(2.6).words == "reproduced from 2.34 on, partly if above 1.05, else not"
    assert AtMost(0.6).words == "reproduced up to 0.66, partly if below 0.95, else not"
    assert "factor of 3 of 0.001, partly within 10" in Near(1e-3, 3, 10).words


def claim(*protocols: str) -> Claim:
    def find(rows: Rows) -> Finding:
        value = rows.median("x")
        return Finding(value, f"{value:g}", "by the rows")

    return Claim("a", "A", NSDI15, "abstract", "words", "2", protocols, AtLeast(2.0), find)


def test_a_claim_about_a_protocol_that_is_not_there_says_so() -> None:
    verdict = judge(claim("speculative", "raft"), Rows([{"x": 3}]))
    assert verdict.outcome == Outcome.OPEN
    assert "raft" in verdict.reason
    assert "speculative" not in verdict.reason


def test_a_claim_whose_points_failed_says_why() -> None:
    verdict = judge(claim(), Rows([{"error": "Stalled: nothing ended"}]))
    assert verdict.outcome == Outcome.OPEN
    assert "Stalled: nothing ended" in verdict.reason


def test_failed_points_do_not_count() -> None:
    assert judge(claim(), Rows([{"x": 3}, {"x": 0, "error": "no"}])).outcome == REPRODUCED


def simulated(protocol: str, sessions: int, ops: float, latency_us: float = 100, datagrams: str = "shared", **more: Any) -> dict[str, Any]:
    flows = {f"{unit}_per_op.leader.{way}": 1.0 for unit in ("messages", "datagrams") for way in ("received", "sent")}
    row = {"protocol": protocol, "datagrams": datagrams, "sessions": sessions, "seed": 1, "throughput_ops_s": ops}
    return row | {"latency_us.p50": latency_us, "cpu_us_per_op.leader": 5.0, "utilisation.leader": 1.0} | flows | more


def find(module: Any, name: str, rows: list[dict[str, Any]]) -> Finding:
    found: Finding = next(one for one in module.EXPERIMENT.claims if one.name == name).find(Rows(rows))
    return found


def test_throughput_is_compared_where_each_protocol_does_most() -> None:
    most = {"speculative": {1: 10, 32: 300, 128: 200}, "multipaxos": {1: 5, 32: 90, 128: 100}}
    rows = [
        simulated(protocol, sessions, ops, datagrams=datagrams)
        for protocol, by_sessions in most.items()
        for sessions, ops in by_sessions.items()
        for datagrams in ("shared", "single")
    ]
    found = find(comparison, "throughput-paxos", rows)
    assert found.value == pytest.approx(3.0)
    assert "300 against 100" in found.text
    assert "2.0 messages in 2.0 datagrams" in found.reason


def test_latency_is_that_of_one_session() -> None:
    calls = (("speculative", 1, 60), ("multipaxos", 1, 100), ("multipaxos", 32, 1))
    rows = [simulated(name, sessions, 1, us) for name, sessions, us in calls]
    found = find(comparison, "latency-paxos", rows)
    assert found.value == pytest.approx(0.6)
    assert found.text == "40% lower"


def disturbed(rate: float, protocol: str, ops: float) -> dict[str, Any]:
    return {"disturbance": "reorder", "rate": rate, "protocol": protocol, "throughput_ops_s": ops, "reconciliations_per_s": 7}


@pytest.mark.parametrize(
    ("speculative", "crossing"),
    [((4, 4, 1), 0.01 * 10**0.5), ((4, 1, 1), 0.01), ((1, 1, 1), 0.0), ((4, 4, 4), None)],
)
def test_the_crossing_is_interpolated_between_rates(speculative: tuple[float, ...], crossing: float | None) -> None:
    rates = (0.0, 0.01, 0.1)
    rows = [disturbed(rate, "speculative", ops) for rate, ops in zip(rates, speculative, strict=True)]
    rows += [disturbed(rate, "multipaxos", 2) for rate in rates]
    found = disorder.crossing(Rows(rows), "reorder", "speculative")
    assert found == (crossing if crossing is None else pytest.approx(crossing))


def test_a_protocol_that_never_falls_below_is_infinitely_far() -> None:
    rows = [disturbed(rate, protocol, ops) for rate in (0.0, 0.1) for protocol, ops in (("speculative", 3), ("multipaxos", 2))]
    found = find(disorder, "reorder-crossing", rows)
    assert found.value == float("inf")
    assert found.text == "never below Paxos up to 10%"
    assert "longer than claimed" in found.reason
    with pytest.raises(Missing):
        find(disorder, "loss-crossing", rows)


def test_delays_and_messages_are_counted() -> None:
    counts = {"messages_per_op.leader.received": 5.5, "messages_per_op.leader.sent": 5.0}
    rows = [{"protocol": "multipaxos", "replicas": 5, "asked": "throughput"} | counts]
    rows.append({"protocol": "multipaxos", "replicas": 5, "asked": "delays", "latency_us.p50": 400.0})
    assert find(messages, "leader-paxos", rows).value == pytest.approx(10.5)
    assert find(messages, "four-delays", rows).value == pytest.approx(4.0)


def test_order_is_compared_where_plain_multicast_is_as_in_the_paper() -> None:
    shares = {(0.1, "plain"): 0.01, (0.5, "plain"): 0.12, (0.1, "topology_aware"): 0.01, (0.5, "topology_aware"): 0.001}
    shares |= {(0.1, "prioritised"): 0.0, (0.5, "prioritised"): 0.0, (0.5, "serialised"): 0.0}
    rows = [{"network": "even", "load": load, "design": design, "overtaken": share} for (load, design), share in shares.items()]
    assert find(fabric, "topology-aware-even", rows).value == pytest.approx(120)
    assert find(fabric, "serialised", rows).value == 0


@pytest.mark.parametrize("name", ["comparison", "load", "disorder", "messages", "fabric", "reconciliation"])
def test_an_experiment_without_rows_shows_nothing_and_examines_nothing(name: str) -> None:
    chosen = experiment(name)
    shown = [one for one in chosen.show(Rows([])) if one is not None and getattr(one, "lines", None)]
    assert shown == []
    assert {judge(one, Rows([])).outcome for one in chosen.claims} <= {Outcome.OPEN}
