from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from stretto.core.errors import ConfigurationError
from stretto.network import measures
from stretto.network.experiment import Setting, confidence, evaluate, prepare, row, settings
from stretto.network.model.queues import NEVER
from stretto.network.topologies import twelve_switches


def slow_lis(values: Sequence[int]) -> int:
    best = [1] * len(values)
    for i in range(len(values)):
        best[i] = 1 + max((best[j] for j in range(i) if values[j] < values[i]), default=0)
    return max(best, default=0)


def test_shares_equal_their_definitions() -> None:
    dice = random.Random(1)
    cases = [list(p) for n in range(6) for p in itertools.permutations(range(n))] + [dice.sample(range(n), n) for n in (17, 64, 65, 90)]
    for order in cases:
        positions = np.array(order, np.int64)
        n = len(order)
        late = sum(any(earlier > value for earlier in order[:i]) for i, value in enumerate(order))
        falling = sum(order[i] > order[j] for i, j in itertools.combinations(range(n), 2))
        assert measures.overtaken(positions) == pytest.approx(late / n if n else 0)
        assert measures.pairwise(positions) == pytest.approx(falling / (n * (n - 1) / 2) if n > 1 else 0)
        assert measures.lis(positions) == pytest.approx(1 - slow_lis(order) / n if n else 0)


def test_only_messages_that_both_received_are_compared() -> None:
    reference = np.array([10, 20, 30, NEVER, 50])
    receiver = np.array([15, NEVER, 55, 5, 52])
    assert measures.sequence(reference, receiver).tolist() == [0, 2, 1]
    assert measures.between(reference, receiver) == measures.Disagreement(1 / 3, 1 / 3, 1 - 2 / 3)


def test_the_group_is_the_mean_over_its_members() -> None:
    first, same, swapped = np.array([1, 2, 3]), np.array([4, 5, 6]), np.array([2, 1, 3])
    group = measures.of_group([first, same, swapped])
    assert group.overtaken == pytest.approx(1 / 6)
    assert group.pairwise == pytest.approx((0 + 1 / 3 + 1 / 3) / 3)
    assert measures.of_group([first]) == measures.Disagreement(0, 0, 0)


def test_quorums_loss_latency_and_spread() -> None:
    us = measures.PS_PER_US
    sent = np.array([0, 0])
    receivers = [np.array([3 * us, 5 * us]), np.array([1 * us, NEVER]), np.array([2 * us, NEVER])]
    assert measures.quorum_times(receivers, 2).tolist() == [2 * us, NEVER]
    assert measures.loss(receivers) == pytest.approx(1 / 3)
    assert sorted(measures.latencies_us(receivers, sent)) == [1, 2, 3, 5]
    assert measures.spreads_us(receivers).tolist() == [2]
    assert measures.added_us(np.array([3 * us, NEVER]), np.array([us, us])).tolist() == [2]


def test_confidence_interval() -> None:
    low, high = confidence([0.2, 0.3, 0.4])
    assert (low + high) / 2 == pytest.approx(0.3)
    assert (high - low) / 2 == pytest.approx(4.30 * 0.1 / math.sqrt(3))
    low, high = confidence([0.0, 0.01])
    assert low == 0.0
    assert high == pytest.approx(0.005 + 12.71 * 0.005, rel=0.01)


def test_a_row_has_all_measures() -> None:
    topology = twelve_switches()
    base = Setting("testbed", senders=3, receivers=3, messages=600, rate=50_000)
    runs = list(settings(base, ["serialised"], [0.3], 2))
    assert [(run.design, run.seed) for run in runs] == [("plain", 1), ("plain", 2), ("serialised", 1), ("serialised", 2)]
    outcomes = []
    for setting in runs:
        prepared = prepare(setting, topology)
        outcomes.append(evaluate(setting, prepared, prepared.run()))
    plain, serialised = row(outcomes[:2], outcomes[:2], 0.5), row(outcomes[2:], outcomes[:2], 0.5)
    assert plain["quorum_added_us"] == {"p50": 0, "p99": 0, "share_zero": 1}
    assert plain["overtaken_low"] <= plain["overtaken"] <= plain["overtaken_high"]
    assert plain["overtaken"] > serialised["overtaken"] == serialised["pairwise"] == serialised["lis"] == 0
    assert serialised["merge"] is None
    assert serialised["latency_us"]["p50"] <= serialised["latency_us"]["p99"] <= serialised["latency_us"]["max"]


def test_serialised_messages_are_in_order_at_any_load_unless_hosts_add_jitter() -> None:
    topology = twelve_switches()
    for load, jitter_us in ((0.0, 0.0), (0.7, 0.0), (0.3, 5.0)):
        setting = Setting("testbed", "serialised", load=load, jitter_us=jitter_us, messages=2_000, rate=50_000)
        prepared = prepare(setting, topology)
        outcome = evaluate(setting, prepared, prepared.run())
        assert (outcome.disagreement.overtaken == 0) == (jitter_us == 0)


def test_overtaking_is_rate_times_the_difference_of_delays() -> None:
    """At load 0, a message overtakes one of another sender that was sent within the difference of the path delays."""
    topology = twelve_switches()
    shares = []
    for rate in (5_000, 10_000, 20_000):
        setting = Setting("testbed", "plain", senders=5, rate=rate, messages=30_000)
        prepared = prepare(setting, topology)
        shares.append(evaluate(setting, prepared, prepared.run()).disagreement.overtaken / rate)
    assert shares[0] > 0
    assert max(shares) == pytest.approx(min(shares), rel=0.2)


def test_bad_settings_are_refused() -> None:
    wrongs = {"rate": 0, "messages": 0, "message_bytes": 10, "jitter_us": -1, "load": 1.5, "burst_gbps": 0, "burst_packets": 0.5}
    for key, value in wrongs.items():
        with pytest.raises(ConfigurationError) as caught:
            msgspec.structs.replace(Setting(), **{key: value}).validate()
        assert caught.value.key == key
