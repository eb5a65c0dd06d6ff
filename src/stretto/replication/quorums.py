"""Quorum sizes, computed from f in one place, and a tally of answers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

Answer = TypeVar("Answer", bound=Hashable)


@dataclass(frozen=True)
class Quorums:
    """The sizes for n = 2f+1 replicas (Ports et al., NSDI 2015, section 4).

    - `majority`, f+1: any two majorities have a replica in common;
    - `superquorum`, f+⌈f/2⌉+1: a client or a synchronisation needs this many equal answers for a commit in two message delays;
    - `merge_support`, ⌈f/2⌉+1: of any f+1 logs, at least this many have each entry that a superquorum has.
    """

    n: int
    f: int
    majority: int
    superquorum: int
    merge_support: int

    @classmethod
    def of(cls, n: int) -> Quorums:
        """The sizes for `n` replicas, an odd number."""
        assert n % 2 == 1
        f = n // 2
        half = (f + 1) // 2
        sizes = cls(n, f, majority=f + 1, superquorum=f + half + 1, merge_support=half + 1)
        # Of any majority, at least merge_support replicas are in a given superquorum, so a merge finds every completed entry.
        assert sizes.superquorum + sizes.majority - n >= sizes.merge_support
        # If an entry completed, fewer than merge_support of the f+1 logs can have another one in its place, ...
        assert sizes.majority - (sizes.superquorum + sizes.majority - n) < sizes.merge_support
        # ... and two superquorums of one view have a replica in common, so they agree.
        assert 2 * sizes.superquorum - n >= 1
        return sizes


def reached_by(needed: int, positions: Iterable[int]) -> int:
    """The highest position that at least `needed` of these have reached; 0 if there are fewer than `needed`."""
    ordered = sorted(positions, reverse=True)
    return ordered[needed - 1] if len(ordered) >= needed else 0


class Outcome(Enum):
    """What a tally knows."""

    WON = "won"
    PENDING = "pending"
    LOST = "lost"


class Tally(Generic[Answer]):
    """The latest answer of each voter, and whether some answer has, can still get, or can no longer get `needed` votes.

    A voter that answers again replaces its answer. Invariant: `_votes` counts the `answers` that are not None.
    """

    __slots__ = ("_needed", "_voters", "_votes", "answers")

    def __init__(self, voters: int, needed: int) -> None:
        self.answers: dict[int, Answer | None] = {}
        self._votes: dict[Answer, int] = {}
        self._voters = voters
        self._needed = needed

    def add(self, voter: int, answer: Answer | None) -> Outcome:
        """Count an answer. None agrees with no other answer. When this returns WON for the first time, the given answer is the winner."""
        former = self.answers.get(voter)
        if former is not None:
            self._votes[former] -= 1
        self.answers[voter] = answer
        if answer is not None:
            self._votes[answer] = votes = self._votes.get(answer, 0) + 1
            if votes >= self._needed:
                return Outcome.WON
            if votes == len(self.answers):
                return Outcome.PENDING
        return self.outcome()

    def outcome(self, never: int = 0) -> Outcome:
        """The outcome so far. `never`: how many of the voters that have not answered are expected never to."""
        best = max(self._votes.values(), default=0)
        if best >= self._needed:
            return Outcome.WON
        outstanding = self._voters - len(self.answers) - never
        return Outcome.LOST if best + outstanding < self._needed else Outcome.PENDING

    def __len__(self) -> int:
        return len(self.answers)
