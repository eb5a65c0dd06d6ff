"""Verdicts follow from rows, by rules that say what they do."""

from __future__ import annotations

from typing import Any

import pytest

from stretto.reproduction.claims import NSDI15, AtLeast, AtMost, Claim, Finding, Near, Outcome, Rule, judge
from stretto.reproduction.experiments import adaptive, comparison, disorder, experiment, fabric, messages
from stretto.reproduction.rows import Missing, Rows

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


def held_to(rate: float, ours: float, theirs: float) -> list[dict[str, Any]]:
    return [disturbed(rate, "adaptive", ours), disturbed(rate, "multipaxos-batched", theirs)]


def test_the_worst_rate_counts_of_those_that_it_is_held_to() -> None:
    rows = [*held_to(0.0, 3, 2), *held_to(0.01, 1.8, 2), *held_to(0.2, 2, 2), *held_to(0.5, 1, 2)]
    found = find(disorder, "adaptive-reorder-throughput", rows)
    assert found.value == pytest.approx(0.9)
    assert found.text == "0.90 to 1.50 times"
    assert found.reason.endswith("against Multi-Paxos, batched: 1.50 at 0%, 0.90 at 1%, 1.00 at 20%.")
    with pytest.raises(Missing):
        find(disorder, "adaptive-loss-throughput", rows)


def test_only_the_death_of_a_leader_may_change_the_view() -> None:
    kills = ((0, None), (2, "leader"))
    rows = [{"protocol": "adaptive", "view_changes": changes, "operations": 500, "killed": target} for changes, target in kills]
    rows.append({"protocol": "speculative", "view_changes": 9, "operations": 500})
    assert find(adaptive, "adaptive-views", rows).value == 0
    assert find(adaptive, "adaptive-views", [*rows, rows[0] | {"view_changes": 1, "killed": "follower"}]).value == 1


def killed(target: str, after: float, gap_ms: float) -> dict[str, Any]:
    """Two seconds, of which the first has 1,000 operations."""
    whole = {"throughput_ops_s": (1_000 + after) / 2, "operations": 1_000 + after}
    return {"part": "killed", "killed": target} | whole | {"kill.at_ms": 1_000.0, "kill.throughput_ops_s": after, "kill.gap_ms": gap_ms}


def test_what_is_left_after_a_death_is_counted_from_the_gap_on() -> None:
    rows = [killed("leader", 720, 100), killed("follower", 950, 50)]
    assert find(adaptive, "adaptive-goes-on", rows).value == pytest.approx(0.8)
    assert find(adaptive, "adaptive-gap", rows).value == 100


def test_the_perfect_network_is_compared_in_message_delays() -> None:
    rows = [{"part": "alone", "protocol": name, "latency_us.p50": us} for name, us in (("adaptive", 80.0), ("speculative", 70.0))]
    assert find(adaptive, "adaptive-delay", rows).value == pytest.approx(0.4)
