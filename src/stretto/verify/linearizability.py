"""The linearizability checker: could every operation have taken effect at one instant between its call and its return?

M. Herlihy, J. Wing: Linearizability: A Correctness Condition for Concurrent Objects (1990). A history is linearizable if each of its keys
is. Keys are therefore searched one by one (`stretto.verify.search`), except keys that multi-key queries connect
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
"""Called with the number of searched configurations. Returns whether to stop the search."""

DEFAULT_CONFIGURATIONS = 2_000_000
"""Takes about a minute and up to 700 MB."""
_EXPLANATION = 50_000
_FIRST_TRY = 20_000
_FIRST_TRY_PER_ENTRY = 20


def at_most(configurations: int) -> GiveUp:
    """A deterministic budget: it gives the same verdict on every machine."""
    return lambda searched: searched > configurations


class Failure(msgspec.Struct, frozen=True):
    """Why a history is not linearizable: the shortest prefix of it that is not, limited to the keys that matter.

    - `keys`: the keys that are needed to show it;
    - `steps`: all calls on these keys up to the impossible return, by the time of the call. Calls that had not returned by then have
      neither a return nor a result;
    - `last`: the index of the step whose return is impossible;
    - `order`: the longest order of the steps before that return that the model allows, with the states of the keys after each step; empty
      if the budget was used up before it was found;
    - `prefix`: how many operations of the whole history were called before that return;
    - `is_shortest`: False if the budget was used up before every shorter prefix was shown to be linearizable.
    """

    keys: list[Any]
    steps: list[Step]
    last: int
    order: list[tuple[int, dict[Any, Any]]]
    prefix: int
    is_shortest: bool

    def near(self, most: int) -> list[int]:
        """At most `most` steps that show the failure best, by the time of the call.

        First comes the step that cannot return, then the last of `order`, then the steps that overlap the first, then the rest of `order`.
        """
        last = self.steps[self.last]
        placed = [index for index, _ in self.order]
        overlapping = [index for index, step in enumerate(self.steps) if step.returned is None or step.returned >= last.called]
        chosen = dict.fromkeys([self.last, *placed[-1:], *reversed(overlapping), *reversed(placed), *reversed(range(self.last))])
        return sorted(list(chosen)[:most])


class Verdict(msgspec.Struct, frozen=True):
    """The result of a check.

    - `verdict`: OK, NOT_LINEARIZABLE or UNDECIDED;
    - `operations`: the number of operations in the history; `configurations`: how many configurations were searched;
    - `failure`: the reason, if the history is not linearizable;
    - `undecided`: the keys for which the budget did not suffice, if the verdict is UNDECIDED.
    """

    verdict: str
    operations: int
    configurations: int
    failure: Failure | None = None
    undecided: list[Any] = []


def check(history: Iterable[Operation], model: Model, give_up: GiveUp | None = None) -> Verdict:
    """Check recorded operations as `check_steps` does. Raises ValueError if an operation does not belong to the model's service."""
    return check_steps(steps_of(history, model), model, give_up)


def steps_of(history: Iterable[Operation], model: Model) -> list[Step]:
    """Decode recorded operations with the model. Raises ValueError naming the line of an operation that is not of its service."""
    steps = []
    for number, recorded in enumerate(history, 1):
        try:
            operation, result = model.decode(recorded.operation, recorded.result)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        steps.append(Step(recorded.process, operation, recorded.called_ns, recorded.returned_ns, result))
    return steps


def check_steps(steps: Sequence[Step], model: Model, give_up: GiveUp | None = None) -> Verdict:
    """Whether there is an order of the operations that the model allows and that respects real time.

    `give_up` is the budget, by default `at_most(DEFAULT_CONFIGURATIONS)`. Each key is first tried with a small budget, so that a hard key
    does not prevent the check of the others.
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
    """The shortest prefix of a part that fails, its last return, and whether it was proved to be the shortest.

    No failing prefix is shorter than the one that ends with `stuck_at`. A longer one is the answer only if the failure needs results that
    came later.
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
    """The failing part, reduced to the keys that are needed for the failure, as far as the budget allows."""
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
