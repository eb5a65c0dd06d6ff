"""Quorum sizes against the paper's table and by brute force; the tally against a naive one."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.replication.quorums import Outcome, Quorums, Tally


@pytest.mark.parametrize("sizes", [(1, 0, 1, 1, 1), (3, 1, 2, 3, 2), (5, 2, 3, 4, 2), (7, 3, 4, 6, 3)])
def test_sizes_are_the_papers(sizes: tuple[int, int, int, int, int]) -> None:
    assert Quorums.of(sizes[0]) == Quorums(*sizes)


@pytest.mark.parametrize("n", [1, 3, 5, 7, 9])
def test_every_majority_has_merge_support_from_every_superquorum(n: int) -> None:
    sizes = Quorums.of(n)
    for completed in combinations(range(n), sizes.superquorum):
        for merged in combinations(range(n), sizes.majority):
            assert len(set(completed) & set(merged)) >= sizes.merge_support
            assert len(set(merged) - set(completed)) < sizes.merge_support


answers = st.one_of(st.none(), st.sampled_from("abc"))


@given(st.integers(1, 7), st.data())
def test_tally_equals_a_naive_one(voters: int, data: st.DataObject) -> None:
    needed = data.draw(st.integers(voters // 2 + 1, voters))
    tally: Tally[str] = Tally(voters, needed)
    latest: dict[int, str | None] = {}
    for voter, answer in data.draw(st.lists(st.tuples(st.integers(0, voters - 1), answers), max_size=12)):
        latest[voter] = answer
        outcome = tally.add(voter, answer)
        assert outcome is tally.outcome() is naive_outcome(latest, voters, needed)
        if outcome is Outcome.WON:
            assert list(latest.values()).count(answer) >= needed, "the answer that decides is the one that has won"
            break


def naive_outcome(latest: dict[int, str | None], voters: int, needed: int) -> Outcome:
    """Try every candidate with the votes of all silent voters."""
    counts = [list(latest.values()).count(candidate) for candidate in "abcd"]
    if max(counts) >= needed:
        return Outcome.WON
    return Outcome.PENDING if max(counts) + voters - len(latest) >= needed else Outcome.LOST


def test_a_tally_is_lost_when_the_missing_voters_will_not_answer() -> None:
    tally: Tally[str] = Tally(3, 3)
    tally.add(0, "a")
    assert tally.add(1, "a") is Outcome.PENDING
    assert tally.outcome(never=1) is Outcome.LOST
