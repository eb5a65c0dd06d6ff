"""A second checker, which tries every order of very small key-value histories. Tests compare the real checker with it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from stretto.apps.kv_model import KeyValueModel
from stretto.core.model import UNKNOWN
from stretto.verify.search import Step

Items = tuple[tuple[bytes, bytes], ...]
MODEL = KeyValueModel()


def execute(items: Items, operation: Any) -> tuple[Any, Items]:
    """Execute an operation, which may be a scan, on the whole store."""
    if operation[0] == "scan":
        _, prefix, limit = operation
        return tuple(item for item in items if item[0].startswith(prefix))[:limit], items
    values = dict(items)
    result, after = MODEL.step(values.pop(operation[1], None), operation)
    if after is not None:
        values[operation[1]] = after
    return result, tuple(sorted(values.items()))


def is_linearizable(steps: Sequence[Step]) -> bool:
    """Whether the store and real time allow an order of all operations that returned and any of the others."""
    everything = range(len(steps))
    ends = {(step.process, step.returned) for step in steps}
    before = {
        later: {
            index
            for index, step in enumerate(steps)
            if step.returned is not None and step.returned < steps[later].called + ((steps[later].process, steps[later].called) in ends)
        }
        for later in everything
    }
    seen: set[tuple[frozenset[int], Items]] = set()

    def can_go_on(done: frozenset[int], items: Items) -> bool:
        if all(step.returned is None or index in done for index, step in enumerate(steps)):
            return True
        if (done, items) in seen:
            return False
        seen.add((done, items))
        for index in everything:
            if index not in done and before[index] <= done:
                result, after = execute(items, steps[index].operation)
                if steps[index].result in (UNKNOWN, result) and can_go_on(done | {index}, after):
                    return True
        return False

    return can_go_on(frozenset(), ())


def shortest_failing(steps: Sequence[Step]) -> Step:
    """The operation with the first impossible return, in a history that is not linearizable."""
    for last in sorted((step for step in steps if step.returned is not None), key=lambda step: step.returned or 0):
        beginning = []
        for step in steps:
            if step.returned is not None and step.returned <= (last.returned or 0):
                beginning.append(step)
            elif step.called <= (last.returned or 0):
                beginning.append(Step(step.process, step.operation, step.called, None, UNKNOWN))
        if not is_linearizable(beginning):
            return last
    raise AssertionError("it is linearizable")


def small_history(random: Random) -> list[Step]:
    """Up to ten operations on up to three keys. The history is linearizable, except that up to three results may be changed."""
    keys = [b"a", b"b", b"c"][: random.randint(1, 3)]
    calls = _calls(random, keys)
    steps: list[Step] = []
    items: Items = ()
    for process, operation, called, _, returned in sorted(calls, key=lambda call: call[3]):
        result, items = execute(items, operation)
        answered = random.random() > 0.12
        steps.append(Step(process, operation, called, returned if answered else None, result if answered else UNKNOWN))
    for _ in range(random.choice([0, 2, 6])):
        index = random.randrange(len(steps))
        step = steps[index]
        if step.returned is not None:
            others = [other.result for other in steps if other.operation[0] == step.operation[0]]
            steps[index] = Step(step.process, step.operation, step.called, step.returned, random.choice(others))
    return sorted(steps, key=lambda step: step.called)


def _calls(random: Random, keys: Sequence[bytes]) -> list[tuple[int, Any, int, float, int]]:
    """Process, operation, and its times of call, effect and return. In half of the histories calls and returns may have equal times."""
    ends = [0] * random.randint(2, 4)
    pause = random.choice([0, 3])
    calls = []
    for _ in range(random.randint(2, 10)):
        process = random.randrange(len(ends))
        called = ends[process] + random.randint(0, pause)
        returned = called + random.randint(1, 7)
        ends[process] = returned + bool(pause)
        calls.append((process, _operation(random, random.choice(keys)), called, random.uniform(called, returned), returned))
    return calls


def _operation(random: Random, key: bytes) -> Any:
    value = random.choice([b"1", b"2"])
    draw = random.random()
    for share, operation in (
        (0.25, ("get", key)),
        (0.45, ("put", key, value)),
        (0.55, ("append", key, value)),
        (0.65, ("compare_and_set", key, random.choice([None, b"1", b"2"]), value)),
        (0.72, ("delete", key)),
        (0.80, ("increment", key, 1)),
    ):
        if draw < share:
            return operation
    return ("scan", b"", random.randint(1, 3))
