"""One key: is there an order of its operations that its model allows? The search of Wing and Gong with Lowe's memoisation.

J. M. Wing, C. Gong: Testing and Verifying Concurrent Objects (1993), section 4. G. Lowe: Testing for Linearizability (2017), sections 4, 5.

A configuration is how far a linearization has come: the first return that it has not passed yet, which of the operations that are under
way there have taken effect, and the state. From each, one more of those takes effect. A return can be passed when its operation has taken
effect. No configuration is gone into twice. Six things keep it small, none of which can miss a linearization:

- a query that gives its result right now takes effect right now: whatever comes after can come after it;
- an operation that overwrites the state takes effect only when it returns, or right before one that is no overwriting itself. One that
  another overwrites at once need not be tried: when it returns, it is taken to have been *hidden*, right before an overwriting that took
  effect while it was under way;
- an operation that never returns takes effect only right before one that returns and would give another result or state without it;
- of equal operations that never return, the one that was called first takes effect first;
- of two configurations that differ only in which operations without a return have taken effect and in which may be hidden, the one with
  fewer of the former and more of the latter can do all that the other can.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from stretto.core.model import UNKNOWN, Sequential

Path: TypeAlias = "tuple[int, int, Path] | None"
"""Operations in the order in which they took effect, the last first: its index (of one that was hidden, ~index), how many there are, and
those before it."""

Position: TypeAlias = tuple[int, int, int, Any]
"""Sets as bits: which operations have taken effect, of those under way that return, and of those that never return; which of those under
way may be hidden. And the state."""

Configuration: TypeAlias = tuple[int, Position, Path]
"""The return to be passed next; the position; how it was reached."""


class Step(msgspec.Struct, gc=False, frozen=True):
    """One operation. Times are of any clock that all processes share, finer than an operation takes.

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
    """How much may be searched.

    Parameters: `give_up`, asked now and then with the number of configurations seen so far.
    """

    interval = 256

    def __init__(self, give_up: Callable[[int], bool]) -> None:
        self._give_up = give_up
        self.spent = 0
        self.limit: int | None = None
        """What `spent` may be at most for the time being."""

    def spend(self) -> None:
        """One more configuration. Raises GaveUp."""
        self.spent += 1
        if not self.spent % self.interval and (self._give_up(self.spent) or (self.limit is not None and self.spent > self.limit)):
            raise GaveUp


class Progress(msgspec.Struct, gc=False, frozen=True):
    """How far a search came.

    - `stuck_at`: the operation that no order lets return, of all those the one that returned first; None if there is a linearization;
    - `order`: the operations in the order of a linearization; if there is none, the longest order that leads up to that return.
    """

    stuck_at: int | None
    order: list[int]


class Timetable:
    """The returns of a history in order, and what is under way at each.

    - `returns`: the operations that return, in that order;
    - `under_way`: for each of them, the operations under way when it returns that return themselves, the next to return first;
    - `endless`: operations that never return, in the order of their calls; `endless_at`: how many of them had been called, for each return;
    - `bits`: each operation's bit in the set of those which have taken effect: one set for those that return, whose bits are used again,
      and one for those that do not;
    - `after`: for each operation, the one that must take effect before it, as they are equal.
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
        """Whether the one that must take effect before this operation, if there is one, has."""
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
        """Equal operations that never return could change places."""
        latest: dict[Any, int] = {}
        for index in self.endless:
            before = latest.get(steps[index].operation)
            latest[steps[index].operation] = index
            self.after[index] = before


class Moves:
    """What may take effect next in a position.

    Parameters: as of `KeySearch`, and the `table` of the steps. In the methods, `candidates` are the operations of the key that return and
    are under way. What took effect is given as in a Path.
    """

    def __init__(self, steps: Sequence[Step], model: Sequential, budget: Budget, table: Timetable) -> None:
        self._steps = steps
        self._model = model
        self._budget = budget
        self._table = table
        self._is_query = [model.is_query(step.operation, step.result) for step in steps]
        self.overwrites = [model.overwrites(step.operation, step.result) for step in steps]
        """Which steps leave a state that does not depend on the one before them."""

    def queries(self, position: Position, candidates: Iterable[int]) -> tuple[Position, list[int]]:
        """The position after all queries that give their results in it, and these queries."""
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
        """The positions after one more operation that is no query, and what took effect on the way.

        `goal` is an operation that must take effect now. One that never returns or that overwrites may come before another one, before a
        query that then gives its result, and alone if the position `is_wanted`.
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
            # What follows need not follow the run if it would be the same without, unless the run gets something over with.
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
        """Where operations lead that never return or that overwrite, with as few of them as will do: an overwriting one is the first."""
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
        """The position after this operation, which leaves this state."""
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
    """The search over the operations of one key, which may be queries. Raises GaveUp.

    Parameters: `steps`; the `model`; the `budget`, from which each configuration takes one.
    """

    def __init__(self, steps: Sequence[Step], model: Sequential, budget: Budget) -> None:
        self._initial = model.initial()
        self._budget = budget
        self._table = Timetable(steps)
        self._moves = Moves(steps, model, budget, self._table)

    def run(self) -> Progress:
        """Search, depth first."""
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
        """The configuration after all queries that give their results now, with all returns passed that can be."""
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
        """The operations of a path, the first to take effect first; those that were hidden before the last that overwrites by then."""
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
    """Whether nothing seen can do all that this position can; then it counts as seen."""
    mask, endless_mask, hideable, state = position
    like = seen.setdefault((mask, state), [])
    for other_endless, other_hideable in like:
        if other_endless & endless_mask == other_endless and other_hideable & hideable == hideable:
            return False
    like.append((endless_mask, hideable))
    return True


def _hidden(position: Position, bit: int) -> Position:
    """The position after the operation with this bit, which may be hidden, has been."""
    mask, endless_mask, hideable, state = position
    return (mask | bit, endless_mask, hideable & ~bit, state)


def length(path: Path) -> int:
    """How many operations a path has."""
    return 0 if path is None else path[1]


def extended(path: Path, taken: Iterable[int]) -> Path:
    """The path with these operations after it."""
    for index in taken:
        path = (index, length(path) + 1, path)
    return path
