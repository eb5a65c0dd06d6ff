"""The schedule is the same for the same seed, and never impairs more replicas at once than the protocol promises to survive."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import pytest

from stretto.torture.schedule import FULL_DISK, KINDS, POWER_CUT, Impaired, Strike, strikes, with_small_disk

ALL = tuple(KINDS)


def strike(kind: str, *targets: int, disturbs: bool = False) -> Strike:
    return Strike(0, kind, targets, 1, disturbs, 1, 0.1)


def test_equal_seeds_give_equal_strikes_and_different_seeds_different_ones() -> None:
    first, again, other = (list(islice(strikes(seed, 5, ALL), 100)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_kind_occurs_once_before_any_kind_occurs_again() -> None:
    kinds = [one.kind for one in islice(strikes(3, 5, ALL), 3 * len(ALL))]
    assert [set(kinds[at : at + len(ALL)]) for at in range(0, len(kinds), len(ALL))] == [set(ALL)] * 3


def test_only_the_named_kinds_occur() -> None:
    assert {one.kind for one in islice(strikes(3, 3, ("kill", "pause")), 50)} == {"kill", "pause"}


def test_every_replica_is_hit_but_only_the_one_with_the_small_disk_by_a_full_disk() -> None:
    drawn = list(islice(strikes(1, 5, ALL), 2_000))
    assert {one.targets for one in drawn if one.kind == FULL_DISK} == {(with_small_disk(5),)}
    first = Counter(one.targets[0] for one in drawn if one.kind != FULL_DISK)
    assert sorted(first) == [0, 1, 2, 3, 4]
    assert min(first.values()) > 200


def test_durations_are_within_the_limit_of_the_kind_and_peers_are_other_replicas() -> None:
    for one in islice(strikes(1, 3, ALL), 1_000):
        assert 0 < one.lasts_ns <= KINDS[one.kind].longest_ns
        assert one.peer in (1, 2)
        assert 0 < one.loss < 1


def test_at_most_f_replicas_are_impaired_in_random_sequences_of_events() -> None:
    """Compares random sequences with separate sets of the replicas that do not serve."""
    for seed in range(200):
        random = Random(seed)
        replicas = random.choice((3, 5, 7))
        impaired = Impaired(replicas)
        struck: set[int] = set()
        away: set[int] = set()
        for one in islice(strikes(seed, replicas, tuple(kind for kind in ALL if kind != POWER_CUT)), 100):
            target = impaired.target_of(one)
            if target is not None:
                assert target in one.targets
                assert target not in struck
                assert one.disturbs or target not in away
                impaired.begin(one.kind, target)
                struck.add(target)
            assert len(struck | away) <= (replicas - 1) // 2, seed
            for replica in sorted(struck):
                if random.random() < 0.3:
                    restarted = random.random() < 0.5
                    impaired.end(replica, restarted=restarted)
                    struck.remove(replica)
                    away |= {replica} if restarted else set()
            for replica in sorted(away - struck):
                if random.random() < 0.3:
                    impaired.back(replica)
                    away.remove(replica)


def test_a_strike_waits_for_a_target_that_may_be_hit() -> None:
    impaired = Impaired(5)
    impaired.begin("pause", 0)
    assert impaired.target_of(strike("kill", 0, 3, 1)) == 3
    impaired.begin("kill", 3)
    assert impaired.target_of(strike("cut_link", 1, 2)) is None
    impaired.end(0, restarted=False)
    assert impaired.target_of(strike("cut_link", 1, 2)) == 1


def test_only_a_disturbing_strike_may_hit_a_recovering_replica() -> None:
    impaired = Impaired(3)
    impaired.begin("kill", 1)
    impaired.end(1, restarted=True)
    assert impaired.target_of(strike("kill", 1, 2)) is None
    assert impaired.target_of(strike("kill", 2, 1, disturbs=True)) == 1
    impaired.back(1)
    assert impaired.target_of(strike("kill", 2, 1)) == 2


@pytest.mark.parametrize("disturbs", [False, True])
def test_a_power_cut_hits_all_replicas_and_waits_until_no_other_fault_is_active(disturbs: bool) -> None:
    impaired = Impaired(3)
    impaired.begin("pause", 2)
    assert impaired.target_of(strike(POWER_CUT, 0, disturbs=disturbs)) is None
    impaired.end(2, restarted=True)
    assert (impaired.target_of(strike(POWER_CUT, 0, disturbs=disturbs)) is not None) is disturbs
    impaired.begin(POWER_CUT, 0)
    assert set(impaired.struck) == {0, 1, 2}
