"""Splits a history into parts that can be checked separately. A part has one key, or several keys that multi-key queries connect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from stretto.core.model import UNKNOWN, Model, Query
from stretto.verify.instants import InstantSearch
from stretto.verify.search import Budget, KeySearch, Progress, Step


class Entry(msgspec.Struct, gc=False, frozen=True):
    """One operation: its number in the whole history, the step, and for each of its keys the single-key operation and its result."""

    number: int
    step: Step
    about: Mapping[Any, Query]


class Part:
    """Entries in the order of their calls, and the keys of these entries."""

    def __init__(self, model: Model, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.keys = sorted({key for entry in entries for key in entry.about})
        self._model = model

    def up_to(self, end: int) -> Part:
        """The prefix of the part up to and including the return at time `end`. Operations that had not returned by then have no result."""
        beginning: list[Entry] = []
        for entry in self.entries:
            step = entry.step
            if step.returned is not None and step.returned <= end:
                beginning.append(entry)
            elif step.called < end and not self._model.is_query(step.operation, UNKNOWN):
                about = {key: (operation, UNKNOWN) for key, (operation, _) in entry.about.items()}
                under_way = Step(step.process, step.operation, step.called, None, UNKNOWN)
                beginning.append(Entry(entry.number, under_way, about))
        return Part(self._model, beginning)

    def narrowed(self, keys: Collection[Any]) -> Part:
        """The part restricted to these keys."""
        narrow = [
            Entry(entry.number, entry.step, {key: query for key, query in entry.about.items() if key in keys}) for entry in self.entries
        ]
        return Part(self._model, [entry for entry in narrow if entry.about])

    def search(self, budget: Budget) -> int | None:
        """The index of the entry whose return is impossible; None if there is a linearization. Raises GaveUp."""
        if len(self.keys) == 1:
            return self.ordered(budget).stuck_at
        steps = [_about_one(entry) if len(entry.about) == 1 else entry.step for entry in self.entries]
        keys = [next(iter(entry.about)) if len(entry.about) == 1 else None for entry in self.entries]
        reads = {index: entry.about for index, entry in enumerate(self.entries) if len(entry.about) > 1}
        return InstantSearch(steps, keys, reads, self._model, budget).run()

    def ordered(self, budget: Budget) -> Progress:
        """Search all keys together for an order of the entries. Slower than `search` if there are several keys. Raises GaveUp."""
        if len(self.keys) == 1:
            return KeySearch([_about_one(entry) for entry in self.entries], self._model, budget).run()
        joint = JointModel(self._model, self.keys)
        return KeySearch([joint.step_of(entry) for entry in self.entries], joint, budget).run()


class JointModel:
    """Several keys as one: the state is a tuple of the keys' states, and an operation is a tuple of single-key operations."""

    def __init__(self, model: Model, keys: Sequence[Any]) -> None:
        self._model = model
        self._places = {key: place for place, key in enumerate(keys)}

    def step_of(self, entry: Entry) -> Step:
        """The entry for this model."""
        step = entry.step
        operation = tuple((self._places[key], operation) for key, (operation, _) in entry.about.items())
        results = tuple(result for _, result in entry.about.values())
        return Step(step.process, operation, step.called, step.returned, UNKNOWN if UNKNOWN in results else results)

    def initial(self) -> tuple[Any, ...]:
        """See Model."""
        return (self._model.initial(),) * len(self._places)

    def step(self, state: tuple[Any, ...], operation: Any) -> tuple[Any, tuple[Any, ...]]:
        """See Model."""
        states = list(state)
        results = []
        for place, own in operation:
            result, states[place] = self._model.step(states[place], own)
            results.append(result)
        return tuple(results), tuple(states)

    def is_query(self, operation: Any, result: Any) -> bool:
        """See Model."""
        results = (result,) * len(operation) if result is UNKNOWN else result
        return all(self._model.is_query(own, own_result) for (_, own), own_result in zip(operation, results, strict=True))

    def overwrites(self, operation: Any, result: Any) -> bool:
        """See Model."""
        return False


def by_call(steps: Iterable[Step]) -> list[Step]:
    """The steps by the time of the call, and then of the return."""
    return sorted(steps, key=lambda step: (step.called, step.called if step.returned is None else step.returned))


def in_sequence(steps: Sequence[Step]) -> list[Step]:
    """The steps by the time of the call, with all times replaced by distinct numbers in the same order.

    If a call and a return have the same time, the call comes first, so the two operations are concurrent. The exception is a call at the
    time of the same process's previous return: a process makes one call after the other, so this call comes after all returns at that time.
    """
    steps = by_call(steps)
    events: list[tuple[int, int, int]] = []
    ends: dict[Any, tuple[int, int]] = {}
    for index, step in enumerate(steps):
        time, rank = ends.get(step.process, (step.called, -1))
        rank = rank + 1 if time == step.called else 0
        events.append((step.called, rank, index))
        if step.returned is not None:
            ends[step.process] = (step.returned, rank + 1 if step.returned == step.called else 1)
            events.append((*ends[step.process], index))
    numbers: list[list[int]] = [[] for _ in steps]
    for number, (_, _, index) in enumerate(sorted(events)):
        numbers[index].append(number)
    return [
        Step(step.process, step.operation, called, returned[0] if returned else None, step.result)
        for step, (called, *returned) in zip(steps, numbers, strict=True)
    ]


def partitioned(steps: Sequence[Step], model: Model) -> list[Part]:
    """The parts of a history whose steps are `in_sequence`. Queries with unknown results are left out."""
    keys: list[Any] = [model.key(step.operation) for step in steps]
    known = sorted({key for key in keys if key is not None})
    entries: list[Entry] = []
    ties = _Ties()
    for number, (step, key) in enumerate(zip(steps, keys, strict=True)):
        if step.result is UNKNOWN and model.is_query(step.operation, UNKNOWN):
            continue
        if key is not None:
            entries.append(Entry(number, step, {key: (step.operation, step.result)}))
        elif about := model.parts(step.operation, step.result, known):
            ties.tie(about)
            entries.append(Entry(number, step, about))
    parts: dict[Any, list[Entry]] = {}
    for entry in entries:
        parts.setdefault(ties.root(next(iter(entry.about))), []).append(entry)
    return [Part(model, own) for own in parts.values()]


class _Ties:
    """The connected keys, as a union-find forest: each tree is one part."""

    def __init__(self) -> None:
        self._parents: dict[Any, Any] = {}

    def root(self, key: Any) -> Any:
        while (parent := self._parents.get(key, key)) != key:
            self._parents[key] = self._parents.get(parent, parent)
            key = parent
        return key

    def tie(self, keys: Iterable[Any]) -> None:
        first, *others = map(self.root, keys)
        for other in others:
            if (root := self.root(other)) != first:
                self._parents[root] = first


def _about_one(entry: Entry) -> Step:
    [(operation, result)] = entry.about.values()
    step = entry.step
    return Step(step.process, operation, step.called, step.returned, result)
