"""The linearizability checker: could every operation have taken effect at one instant between its call and its return?

M. Herlihy, J. Wing: Linearizability: A Correctness Condition for Concurrent Objects (1990). A history is linearizable if each of its keys
is, so keys are searched one by one (`stretto.verify.search`), but for those that queries of many keys tie together
(`stretto.verify.instants`). An operation that never returned may take effect at any time after its call, or never.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from stretto.core.model import UNKNOWN, Model
from stretto.verify.history import Operation
from stretto.verify.parts import Part, by_call, in_sequence, partitioned
from stretto.verify.search import Budget, GaveUp, Step

OK = "ok"
NOT_LINEARIZABLE = "not linearizable"
UNDECIDED = "unknown"

GiveUp: TypeAlias = Callable[[int], bool]
"""Told how many configurations have been searched; whether that is enough."""

DEFAULT_CONFIGURATIONS = 2_000_000
"""A minute or so, and up to 700 MB."""
_EXPLANATION = 50_000
_FIRST_TRY = 20_000
_FIRST_TRY_PER_ENTRY = 20


def at_most(configurations: int) -> GiveUp:
    """A budget that gives the same verdict everywhere and always."""
    return lambda searched: searched > configurations


class Failure(msgspec.Struct, frozen=True):
    """Why a history is not linearizable: the shortest part of it that shows it.

    - `keys`: the keys that it takes;
    - `steps`: all calls on these keys up to the return that cannot be, by the time of the call; those under way by then have neither a
      return nor a result;
    - `last`: the one of them whose return cannot be;
    - `order`: the longest order of them, up to there, that the model allows, with the states of the keys after each; empty if the budget
      was used up before it was found;
    - `prefix`: how many operations of the whole history have been called by then;
    - `is_shortest`: False if the budget was used up before every shorter beginning was shown to be linearizable.
    """

    keys: list[Any]
    steps: list[Step]
    last: int
    order: list[tuple[int, dict[Any, Any]]]
    prefix: int
    is_shortest: bool

    def near(self, most: int) -> list[int]:
        """About `most` of the steps that show what is wrong, by the time of the call.

        They are the one that cannot return, what was under way with it, what is in no place of `order`, and the last in it.
        """
        last = self.steps[self.last]
        placed = [index for index, _ in self.order]
        overlapping = [index for index, step in enumerate(self.steps) if step.returned is None or step.returned >= last.called]
        chosen = dict.fromkeys([self.last, *placed[-1:], *reversed(overlapping), *reversed(placed), *reversed(range(self.last))])
        return sorted(list(chosen)[:most])


class Verdict(msgspec.Struct, frozen=True):
    """What a check found.

    - `verdict`: OK, NOT_LINEARIZABLE or UNDECIDED;
    - `operations`: how many the history has; `configurations`: how many the search went through;
    - `failure`: if it is not linearizable;
    - `undecided`: the keys for which the budget was too small, if the verdict is UNDECIDED.
    """

    verdict: str
    operations: int
    configurations: int
    failure: Failure | None = None
    undecided: list[Any] = []


def check(history: Iterable[Operation], model: Model, give_up: GiveUp | None = None) -> Verdict:
    """Check recorded operations; `check_steps` says more. Raises ValueError if one is none of the model's service."""
    return check_steps(steps_of(history, model), model, give_up)


def steps_of(history: Iterable[Operation], model: Model) -> list[Step]:
    """Recorded operations as the model has them. Raises ValueError naming the line, one an operation, if one is none of its service."""
    steps = []
    for number, recorded in enumerate(history, 1):
        try:
            operation, result = model.decode(recorded.operation, recorded.result)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        steps.append(Step(recorded.process, operation, recorded.called_ns, recorded.returned_ns, result))
    return steps


def check_steps(steps: Sequence[Step], model: Model, give_up: GiveUp | None = None) -> Verdict:
    """Whether there is an order of the operations that the model allows and that respects time.

    Parameters: `give_up` is the budget, by default `at_most(DEFAULT_CONFIGURATIONS)`. Easy keys are searched first, so that a hard one does
    not hide what is wrong with another.
    """
    budget = Budget(give_up or at_most(DEFAULT_CONFIGURATIONS))
    left = partitioned(in_sequence(steps), model)
    failing: tuple[Part, int, bool] | None = None
    for is_first_try in (True, False):
        parts, left = left, []
        for part in parts:
            budget.limit = budget.spent + _FIRST_TRY + _FIRST_TRY_PER_ENTRY * len(part.entries) if is_first_try else None
            beginning = part if failing is None else part.up_to(failing[1])
            try:
                stuck_at = beginning.search(budget)
            except GaveUp:
                left.append(part)
                continue
            if stuck_at is not None:
                budget.limit = None
                failing = _shortest_failing(beginning, stuck_at, budget)
    if failing is not None:
        return Verdict(NOT_LINEARIZABLE, len(steps), budget.spent, _explained(*failing, not left, steps, model, budget))
    if left:
        return Verdict(UNDECIDED, len(steps), budget.spent, undecided=sorted(key for part in left for key in part.keys))
    return Verdict(OK, len(steps), budget.spent)


def _shortest_failing(part: Part, stuck_at: int, budget: Budget) -> tuple[Part, int, bool]:
    """The shortest beginning of a part that fails, its last return, and whether it was shown to be the shortest.

    No beginning is shorter than the one that ends with `stuck_at`. It is the one, unless it fails only because of results that came later.
    """
    ends = sorted(entry.step.returned for entry in part.entries if entry.step.returned is not None)
    low, high = bisect_left(ends, part.entries[stuck_at].step.returned or 0), len(ends) - 1
    reach = 1
    try:
        while low < high:
            middle = min(low + reach - 1, (low + high) // 2)
            if part.up_to(ends[middle]).search(budget) is None:
                low = middle + 1
                reach *= 2
            else:
                high = middle
    except GaveUp:
        return part.up_to(ends[high]), ends[high], False
    return part.up_to(ends[high]), ends[high], True


def _fewest_keys(part: Part, budget: Budget) -> Part:
    """A part that fails narrowed to keys of which each is needed for that, as far as the budget goes."""
    size = len(part.keys) // 2
    try:
        while size:
            keys = part.keys
            for begin in range(0, len(keys), size):
                narrower = part.narrowed(set(part.keys) - set(keys[begin : begin + size]))
                if narrower.entries and narrower.search(budget) is not None:
                    part = narrower
            size = min(size, len(part.keys)) // 2
    except GaveUp:
        pass
    return part


def _explained(part: Part, end: int, is_shortest: bool, is_all: bool, steps: Sequence[Step], model: Model, budget: Budget) -> Failure:
    budget.limit = budget.spent + _EXPLANATION
    part = _fewest_keys(part, budget)
    budget.limit = budget.spent + _EXPLANATION
    try:
        indexes = part.ordered(budget).order
    except GaveUp:
        indexes = []
    states = dict.fromkeys(part.keys, model.initial())
    order = []
    for index in indexes:
        for key, (operation, _) in part.entries[index].about.items():
            _, states[key] = model.step(states[key], operation)
        order.append((index, dict(states)))
    last = next(index for index, entry in enumerate(part.entries) if entry.step.returned == end)
    prefix = sum(step.called < end for step in in_sequence(steps))
    return Failure(part.keys, _as_recorded(part, steps), last, order, prefix, is_shortest and is_all)


def _as_recorded(part: Part, steps: Sequence[Step]) -> list[Step]:
    """The steps of a part with the times of the history."""
    recorded = by_call(steps)
    steps_of_part = []
    for entry in part.entries:
        step = recorded[entry.number]
        is_under_way = entry.step.returned is None
        steps_of_part.append(Step(step.process, step.operation, step.called, None, UNKNOWN) if is_under_way else step)
    return steps_of_part
