"""The search over one key: is there an order of its operations that its model allows? It is Wing and Gong's with Lowe's memoisation.

J. M. Wing, C. Gong: Testing and Verifying Concurrent Objects (1993), section 4. G. Lowe: Testing for Linearizability (2017), sections 4, 5.

A configuration is the progress of a linearization: the first return that it has not passed, the set of open operations that have taken
effect (an operation is open from its call to its return), and the state. In each step one more open operation takes effect. A return can be
passed once its operation has taken effect. No configuration is expanded twice. These rules keep the search small, and none of them can
miss a linearization:

- a query that gives its result now takes effect now, because everything that comes later can come after it;
- an operation that overwrites the state takes effect only at its return, or directly before an operation that does not overwrite. An
  operation that is overwritten at once need not be tried. At its return it counts as *hidden*: it took effect directly before an
  overwriting operation that took effect while it was open;
- an operation that never returns takes effect only directly before an operation that returns and would otherwise give another result or
  state;
- of equal operations that never return, the one that was called first takes effect first;
- if two configurations differ only in which operations without a return have taken effect and in which operations may be hidden, the one
  with fewer of the former and more of the latter covers the other.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from stretto.core.model import UNKNOWN, Sequential

Path: TypeAlias = "tuple[int, int, Path] | None"
"""Operations in the order of their effects, as a linked list from the last: the last one's index (~index if it was hidden), the number of
operations, and the path before it."""

Position: TypeAlias = tuple[int, int, int, Any]
"""Three sets as bits, and the state. The sets: the open operations with a return that have taken effect; the operations without a return
that have taken effect; the open operations that may be hidden."""

Configuration: TypeAlias = tuple[int, Position, Path]
"""The return to be passed next, the position, and the path to it."""


class Step(msgspec.Struct, gc=False, frozen=True):
    """One operation. Times are of any clock that all processes share and that is finer than the duration of an operation.

    `returned` is None if it never returned; `result` is what it returned, or UNKNOWN.
    """

    process: Any
    operation: Any
    called: int
    returned: int | None
    result: Any


_MISFIT = object()


class GaveUp(Exception):
    """The budget is used up."""


class Budget:
    """Limits the number of configurations that are searched.

    `give_up` is called at every `interval`-th configuration with the number so far, and returns whether to stop.
    """

    interval = 256

    def __init__(self, give_up: Callable[[int], bool]) -> None:
        self._give_up = give_up
        self.spent = 0
        self.limit: int | None = None
        """A temporary upper limit of `spent`."""

    def spend(self) -> None:
        """Count one more configuration. Raises GaveUp if the budget is used up."""
        self.spent += 1
        if not self.spent % self.interval and (self._give_up(self.spent) or (self.limit is not None and self.spent > self.limit)):
            raise GaveUp


class Progress(msgspec.Struct, gc=False, frozen=True):
    """The result of a search.

    - `stuck_at`: the first operation, by return, whose return no order allows; None if there is a linearization;
    - `order`: the operations in the order of a linearization; if there is none, the longest order up to that return.
    """

    stuck_at: int | None
    order: list[int]


class Timetable:
    """The returns of a history in order, and the open operations at each return.

    - `returns`: the operations that return, in the order of their returns;
    - `under_way`: for each return, the open operations that return at some time, in the order of their returns;
    - `endless`: the operations that never return, in the order of their calls; `endless_at`: for each return, how many of them were called;
    - `bits`: each operation's bit in the set of operations that have taken effect. Operations that return have one set, whose bits are
      reused, and operations that never return have another;
    - `after`: for each operation, the equal operation that must take effect before it, or None.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        events = [(step.called, 0, index) for index, step in enumerate(steps)]
        events += [(step.returned, 1, index) for index, step in enumerate(steps) if step.returned is not None]
        events.sort()
        self.returns = [index for _, is_return, index in events if is_return]
        self.places = {index: place for place, index in enumerate(self.returns)}
        self.under_way: list[tuple[int, ...]] = []
        self.endless: list[int] = []
        self.endless_at: list[int] = []
        self.bits = [0] * len(steps)
        self._follow(events, steps)
        self.after: list[int | None] = [None] * len(steps)
        self._order_equals(steps)

    def may_begin(self, index: int, endless_mask: int) -> bool:
        """Whether the operation that must take effect before this one, if any, has taken effect."""
        before = self.after[index]
        return before is None or bool(endless_mask & self.bits[before])

    def _follow(self, events: Sequence[tuple[int, int, int]], steps: Sequence[Step]) -> None:
        open_returns: list[tuple[int, int]] = []
        free: list[int] = []
        for _, is_return, index in events:
            if is_return:
                self.under_way.append(tuple(other for _, other in open_returns))
                self.endless_at.append(len(self.endless))
                open_returns.pop(0)
                free.append(self.bits[index])
            elif steps[index].returned is None:
                self.bits[index] = 1 << len(self.endless)
                self.endless.append(index)
            else:
                self.bits[index] = free.pop() if free else 1 << len(open_returns)
                insort(open_returns, (self.places[index], index))

    def _order_equals(self, steps: Sequence[Step]) -> None:
        """Fix the order of equal operations that never return, since exchanging them changes nothing."""
        latest: dict[Any, int] = {}
        for index in self.endless:
            before = latest.get(steps[index].operation)
            latest[steps[index].operation] = index
            self.after[index] = before


class Moves:
    """Determines which operations may take effect next in a position.

    Parameters: as for `KeySearch`, and the `table` of the steps. In the methods, `candidates` are the open operations of the key that
    return. Operations that took effect are returned as in a Path.
    """

    def __init__(self, steps: Sequence[Step], model: Sequential, budget: Budget, table: Timetable) -> None:
        self._steps = steps
        self._model = model
        self._budget = budget
        self._table = table
        self._is_query = [model.is_query(step.operation, step.result) for step in steps]
        self.overwrites = [model.overwrites(step.operation, step.result) for step in steps]
        """For each step, whether the state after it does not depend on the state before it."""

    def queries(self, position: Position, candidates: Iterable[int]) -> tuple[Position, list[int]]:
        """The position after all queries whose results hold in it have taken effect, and these queries."""
        mask, endless_mask, hideable, state = position
        taken: list[int] = []
        for index in candidates:
            bit = self._table.bits[index]
            if self._is_query[index] and not mask & bit and self._step(index, state)[0]:
                mask |= bit
                taken.append(index)
        return (mask, endless_mask, hideable, state), taken

    def others(
        self,
        position: Position,
        candidates: Sequence[int],
        endless: Sequence[int],
        goal: int | None,
        is_wanted: Callable[[Position], bool] | None = None,
    ) -> Iterator[tuple[Position, list[int]]]:
        """The positions after one more operation that is not a query, and the operations that took effect.

        `goal` is an operation that must take effect now. Operations that never return or that overwrite may come before another
        operation, before a query that then gives its result, or alone if the position `is_wanted`.
        """
        if goal is not None and self.overwrites[goal]:
            bit = self._table.bits[goal]
            if position[2] & bit:
                yield _hidden(position, bit), [~goal]
            yield self._after(goal, position, self._step(goal, position[3])[1], candidates), [goal]
        without: dict[int, Any] = {}
        for index in self._plain_writes(position, candidates):
            fits, after = self._step(index, position[3])
            without[index] = after if fits else _MISFIT
            if fits:
                yield self._after(index, position, after, candidates), [index]
        for reached, run in self._runs(position, candidates, endless, goal):
            queried, taken = self.queries(reached, candidates)
            if taken or (is_wanted is not None and is_wanted(reached)):
                yield queried, run + taken
            # If a write has the same result without the run, the run is not needed before it, unless the run makes progress itself.
            is_useful = reached[0] != position[0] or reached[2] & ~position[2]
            for index, same in without.items():
                fits, after = self._step(index, reached[3])
                if fits and (is_useful or after != same):
                    yield self._after(index, reached, after, candidates), [*run, index]

    def _plain_writes(self, position: Position, candidates: Iterable[int]) -> Iterator[int]:
        for index in candidates:
            if not (position[0] & self._table.bits[index] or self._is_query[index] or self.overwrites[index]):
                yield index

    def _runs(
        self, position: Position, candidates: Sequence[int], endless: Sequence[int], goal: int | None
    ) -> Iterator[tuple[Position, list[int]]]:
        """The positions after sequences of operations that never return or that overwrite. Only the first of a sequence may overwrite."""
        first = [index for index in candidates if self.overwrites[index] and index != goal and not position[0] & self._table.bits[index]]
        first += [index for index in endless if self.overwrites[index]]
        further = [index for index in endless if not self.overwrites[index]]
        seen: dict[tuple[int, Any], list[tuple[int, int]]] = {}
        is_new(seen, position)
        reached: list[tuple[Position, list[int]]] = [(position, [])]
        for before, run in reached:
            if run:
                self._budget.spend()
                yield before, run
            for index in further if run else first + further:
                is_endless = self._steps[index].returned is None
                if is_endless and (before[1] & self._table.bits[index] or not self._table.may_begin(index, before[1])):
                    continue
                after = self._after(index, before, self._step(index, before[3])[1], candidates)
                if is_new(seen, after):
                    reached.append((after, [*run, index]))

    def _step(self, index: int, state: Any) -> tuple[bool, Any]:
        """Whether the operation gives its result in this state, and the state after it."""
        step = self._steps[index]
        result, after = self._model.step(state, step.operation)
        return result == step.result or step.result is UNKNOWN, after

    def _after(self, index: int, position: Position, state: Any, candidates: Iterable[int]) -> Position:
        """The position after this operation, whose resulting state is `state`."""
        mask, endless_mask, hideable, _ = position
        if self._steps[index].returned is None:
            endless_mask |= self._table.bits[index]
        else:
            mask |= self._table.bits[index]
        if self.overwrites[index]:
            for other in candidates:
                if self.overwrites[other]:
                    hideable |= self._table.bits[other]
        return (mask, endless_mask, hideable & ~mask, state)


class KeySearch:
    """The search over the operations of one key, including queries. Raises GaveUp.

    Parameters: `steps`; the `model`; the `budget`, of which each configuration takes one.
    """

    def __init__(self, steps: Sequence[Step], model: Sequential, budget: Budget) -> None:
        self._initial = model.initial()
        self._budget = budget
        self._table = Timetable(steps)
        self._moves = Moves(steps, model, budget, self._table)

    def run(self) -> Progress:
        """Search depth-first."""
        returns = self._table.returns
        best = self._settled(0, (0, 0, 0, self._initial), None)
        seen: list[dict[tuple[int, Any], list[tuple[int, int]]]] = [{} for _ in returns]
        stack: list[Iterator[Configuration]] = [iter([best])]
        while stack:
            configuration = next(stack[-1], None)
            if configuration is None:
                stack.pop()
                continue
            self._budget.spend()
            place, position, path = configuration
            if (place, length(path)) > (best[0], length(best[2])):
                best = configuration
            if place == len(returns):
                return Progress(None, self._unwound(path))
            if is_new(seen[place], position):
                stack.append(self._successors(configuration))
        return Progress(returns[best[0]], self._unwound(best[2]))

    def _successors(self, configuration: Configuration) -> Iterator[Configuration]:
        place, position, path = configuration
        endless = self._table.endless[: self._table.endless_at[place]]
        for after, taken in self._moves.others(position, self._table.under_way[place], endless, self._table.returns[place]):
            yield self._settled(place, after, extended(path, taken))

    def _settled(self, place: int, position: Position, path: Path) -> Configuration:
        """The configuration after all queries that give their results now, and after passing every return that can be passed."""
        table = self._table
        while place < len(table.returns):
            position, taken = self._moves.queries(position, table.under_way[place])
            path = extended(path, taken)
            bit = table.bits[table.returns[place]]
            if not position[0] & bit:
                break
            position = (position[0] ^ bit, *position[1:])
            place += 1
        return place, position, path

    def _unwound(self, path: Path) -> list[int]:
        """The operations of a path in the order of their effects. A hidden one is placed before the last overwriting operation so far."""
        taken: list[int] = []
        while path is not None:
            taken.append(path[0])
            path = path[2]
        order: list[int] = []
        overwritten = 0
        for index in reversed(taken):
            if index < 0:
                order.insert(overwritten, ~index)
                overwritten += 1
            else:
                if self._moves.overwrites[index]:
                    overwritten = len(order)
                order.append(index)
        return order


def is_new(seen: dict[tuple[int, Any], list[tuple[int, int]]], position: Position) -> bool:
    """Whether no seen position covers this one. If so, the position is added to the seen ones."""
    mask, endless_mask, hideable, state = position
    like = seen.setdefault((mask, state), [])
    for other_endless, other_hideable in like:
        if other_endless & endless_mask == other_endless and other_hideable & hideable == hideable:
            return False
    like.append((endless_mask, hideable))
    return True


def _hidden(position: Position, bit: int) -> Position:
    """The position after the operation with this bit has been hidden."""
    mask, endless_mask, hideable, state = position
    return (mask | bit, endless_mask, hideable & ~bit, state)


def length(path: Path) -> int:
    """The number of operations of a path."""
    return 0 if path is None else path[1]


def extended(path: Path, taken: Iterable[int]) -> Path:
    """The path extended by these operations."""
    for index in taken:
        path = (index, length(path) + 1, path)
    return path
