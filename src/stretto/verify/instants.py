"""The search over several keys that multi-key queries connect: is there an order of all their operations that the model allows?

A multi-key query reads its keys at one instant between its call and its return. Once these instants are fixed, the keys are independent
again. The search uses this: it goes through the returns in order and keeps a set of *worlds*. A world records which open queries have had
their instant and, for each key separately, all configurations (see `stretto.verify.search`) that the key may be in. The numbers of
configurations of different keys are therefore added and never multiplied.

An instant is chosen as late as possible: just before the return of an operation on a key that the query reads, before the query's own
return, or before the return of another query that shares a key with it. If its result holds in every configuration of a world the query has
its instant at once. Worlds that differ in one key only are merged into one world with the configurations of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from stretto.core.model import Model, Query
from stretto.verify.search import Budget, Moves, Position, Step, Timetable, is_new


class World:
    """The set of open queries that have had their instant, as bits, and for each key the positions that it may be in."""

    __slots__ = ("done", "keys")

    def __init__(self, done: int, keys: dict[Any, frozenset[Position]]) -> None:
        self.done = done
        self.keys = keys


class InstantSearch:
    """The search over the operations of several keys. Raises GaveUp.

    Parameters: `steps`; `keys`, the key of each step, None for a multi-key query; `reads`, for each multi-key query its single-key query
    and result for each key; the `model`; the `budget`, of which each position takes one.
    """

    def __init__(
        self, steps: Sequence[Step], keys: Sequence[Any], reads: Mapping[int, Mapping[Any, Query]], model: Model, budget: Budget
    ) -> None:
        self._steps = steps
        self._keys = keys
        self._reads = reads
        self._model = model
        self._budget = budget
        self._table = table = Timetable(steps)
        self._moves = Moves(steps, model, budget, table)
        self._reached: dict[tuple[int, Any, frozenset[Position]], frozenset[Position]] = {}
        self._endless: dict[Any, list[int]] = {}
        for index in table.endless:
            self._endless.setdefault(keys[index], []).append(index)

    def run(self) -> int | None:
        """Search, return by return. Returns the operation that cannot return, as `Progress.stuck_at`; None if there is a linearization."""
        start: frozenset[Position] = frozenset([(0, 0, 0, self._model.initial())])
        all_keys = {key for key in self._keys if key is not None}.union(*self._reads.values())
        worlds = [World(0, dict.fromkeys(sorted(all_keys), start))]
        for place, index in enumerate(self._table.returns):
            self._reached.clear()
            worlds = self._with_instants(worlds, place, index)
            after = self._after_query if index in self._reads else self._after_operation
            following = list(after(worlds, place, index))
            if not following:
                return index
            worlds = merged(following)
        return None

    def _with_instants(self, worlds: list[World], place: int, index: int) -> list[World]:
        """The possible worlds if open queries may have their instants now, in any order, before `index` returns."""
        touched = self._reads.get(index, (self._keys[index],))
        open_queries = [other for other in self._table.under_way[place] if other in self._reads]
        queries = [query for query in open_queries if not self._reads[query].keys().isdisjoint(touched)]
        if not queries:
            return worlds
        found: list[World] = []
        stack = worlds[::-1]
        while stack:
            world = stack.pop()
            taken = [self._take_instant(world, query, place) for query in queries]
            branches = [branch for branch in taken if branch is not None]
            certain = next((branch for branch in branches if branch.keys == world.keys), None)
            if certain is None:
                found.append(world)
                stack += branches
            else:
                stack.append(certain)
        return merged(found)

    def _take_instant(self, world: World, query: int, place: int) -> World | None:
        """The world after the query has had its instant; None if it has had it already, or cannot have it now."""
        bit = self._table.bits[query]
        if world.done & bit:
            return None
        keys = dict(world.keys)
        for key, read in self._reads[query].items():
            reached = self._reach(world.keys[key], key, place, query, self._sees(read))
            if not reached:
                return None
            keys[key] = reached
        return World(world.done | bit, keys)

    def _sees(self, read: Query) -> Callable[[Position], bool]:
        """A test of whether the query gives its result in a position."""
        operation, result = read

        def sees(position: Position) -> bool:
            return bool(self._model.step(position[3], operation)[0] == result)

        return sees

    def _after_query(self, worlds: Iterable[World], _: int, index: int) -> Iterator[World]:
        bit = self._table.bits[index]
        for world in worlds:
            if world.done & bit:
                yield World(world.done ^ bit, world.keys)

    def _after_operation(self, worlds: Iterable[World], place: int, index: int) -> Iterator[World]:
        bit = self._table.bits[index]
        key = self._keys[index]
        for world in worlds:
            reached = self._reach(world.keys[key], key, place, index, lambda position: bool(position[0] & bit))
            if reached:
                passed = frozenset((mask ^ bit, *others) for mask, *others in reached)
                yield World(world.done, {**world.keys, key: passed})

    def _reach(
        self, positions: frozenset[Position], key: Any, place: int, goal: int, is_there: Callable[[Position], bool]
    ) -> frozenset[Position]:
        """The first position that satisfies `is_there` on each path from the given positions of the key.

        `goal` is the operation of the key, or the multi-key query, for which this is needed. Worlds often share the positions of a key, so
        results are cached until the next return.
        """
        if all(map(is_there, positions)):
            return positions
        known = self._reached.get((goal, key, positions))
        if known is None:
            known = self._reached[goal, key, positions] = self._searched(positions, key, place, goal, is_there)
        return known

    def _searched(
        self, positions: frozenset[Position], key: Any, place: int, goal: int, is_there: Callable[[Position], bool]
    ) -> frozenset[Position]:
        moves = self._moves
        candidates = [index for index in self._table.under_way[place] if self._keys[index] == key]
        called = 1 << self._table.endless_at[place]
        endless = [index for index in self._endless.get(key, ()) if self._table.bits[index] < called]
        found: list[Position] = []
        seen: dict[tuple[int, Any], list[tuple[int, int]]] = {}
        reached = list(positions)
        for start in reached:
            self._budget.spend()
            position, _ = moves.queries(start, candidates)
            if not is_new(seen, position):
                continue
            if is_there(position):
                found.append(position)
            else:
                own_goal = None if goal in self._reads else goal
                reached += (after for after, _ in moves.others(position, candidates, endless, own_goal, is_there))
        return frozenset(found)


def merged(worlds: list[World]) -> list[World]:
    """The worlds without duplicates. Worlds that differ in the positions of one key only are united."""
    kept: list[World] = []
    for world in worlds:
        for place, other in enumerate(kept):
            united = _united(other, world)
            if united is not None:
                kept[place] = united
                break
        else:
            kept.append(world)
    return kept


def _united(one: World, other: World) -> World | None:
    different = [key for key, positions in one.keys.items() if positions != other.keys[key]]
    if not different and one.done | other.done in (one.done, other.done):
        # The world with more finished queries covers the other: a query changes nothing, and needs only one instant.
        return one if one.done | other.done == one.done else other
    if len(different) == 1 and one.done == other.done:
        [key] = different
        return World(one.done, {**one.keys, key: one.keys[key] | other.keys[key]})
    return None
