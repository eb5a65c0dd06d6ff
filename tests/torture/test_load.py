"""The load against a service in this process: what it records and counts, and that it detects lost and repeated tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from time import monotonic

import msgspec
import pytest

from stretto.apps import kv_torture
from stretto.apps.kv import KeyValueStore
from stretto.core.errors import RequestTimeout
from stretto.services.service import ServiceMachine
from stretto.torture.load import CONTENDING, PAGE, Load, Marks
from stretto.verify.history import Operation

RATE = 2_000


class Store:
    """A key-value store that answers at once. `tamper` says how often each call is executed: once by default."""

    def __init__(self, tamper: Callable[[list[object]], int] = lambda call: 1) -> None:
        self.machine = ServiceMachine(KeyValueStore)
        self.calls: list[list[object]] = []
        self.tamper = tamper

    async def execute(self, operation: bytes) -> bytes:
        call = msgspec.msgpack.decode(operation)
        self.calls.append(call)
        await asyncio.sleep(0)
        result = b"\xc0"
        for _ in range(self.tamper(call)):
            result, _undo = self.machine.execute(operation, 0, 0)
        return result


def run(execute: Callable[[bytes], Awaitable[bytes]], seconds: float = 0.5) -> tuple[Load, tuple[int, int] | None]:
    async def main() -> tuple[Load, tuple[int, int] | None]:
        load = Load(execute, kv_torture, seed=1, rate=RATE)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(seconds)
        load.end()
        await running
        return load, await load.read_back()

    return asyncio.run(main())


def is_mark(call: list[object]) -> bool:
    return call[0] == "append" and str(call[1]).startswith("b'marks")


def returned_ns(call: Operation) -> int:
    assert call.returned_ns is not None
    return call.returned_ns


def test_acknowledged_tokens_are_read_back_once_and_the_rate_is_kept() -> None:
    store = Store()
    began = monotonic()
    load, read_back = run(store.execute)
    seconds = monotonic() - began
    assert read_back == (0, 0)
    marks = sum(map(is_mark, store.calls))
    assert sum(sum(one.acknowledged) for one in load.marks) == marks
    assert 0.1 * RATE / 2 < marks < 1.5 * RATE * seconds
    assert load.service.unanswered == 0
    assert load.service.answered == marks + len(load.history)


def test_all_contending_calls_are_recorded_with_times_and_many_overlap() -> None:
    store = Store()
    load, _ = run(store.execute)
    assert len(load.history) > 10
    for call in load.history:
        assert call.result is not None
        assert 0 <= call.called_ns < returned_ns(call)
    by_process = [[call for call in load.history if call.process == process] for process in range(CONTENDING)]
    for calls in by_process:
        assert all(returned_ns(before) <= after.called_ns for before, after in pairwise(calls))
    overlaps = sum(
        one.called_ns < returned_ns(other) and other.called_ns < returned_ns(one)
        for one in load.history
        for other in load.history
        if one.process < other.process
    )
    assert overlaps > len(load.history) / 4


def test_tokens_that_are_lost_after_their_acknowledgement_are_counted() -> None:
    lost = 0

    def lose_some(call: list[object]) -> int:
        nonlocal lost
        lose = is_mark(call) and str(call[2]).endswith("3,'")
        lost += lose
        return 0 if lose else 1

    _, read_back = run(Store(lose_some).execute)
    assert lost > 0
    assert read_back == (lost, 0)


def test_tokens_that_are_appended_twice_are_counted() -> None:
    twice = 0

    def repeat_some(call: list[object]) -> int:
        nonlocal twice
        repeat = is_mark(call) and str(call[2]).endswith("7,'")
        twice += repeat
        return 2 if repeat else 1

    _, read_back = run(Store(repeat_some).execute)
    assert twice > 0
    assert read_back == (0, twice)


@pytest.mark.parametrize("happened", [False, True])
def test_a_token_of_a_call_with_unknown_outcome_may_be_present_or_missing(happened: bool) -> None:
    store = Store()
    failed = 0

    async def execute(operation: bytes) -> bytes:
        nonlocal failed
        if len(store.calls) % 10 == 5:
            failed += 1
            if happened:
                await store.execute(operation)
            store.calls.append(["failed"])
            raise RequestTimeout("no quorum")
        return await store.execute(operation)

    async def read_surely(operation: bytes) -> bytes:
        return await (store.execute if load_ended else execute)(operation)

    load_ended = False

    async def main() -> tuple[Load, tuple[int, int] | None]:
        nonlocal load_ended
        load = Load(read_surely, kv_torture, seed=1, rate=RATE)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(0.3)
        load.end()
        await running
        load_ended = True
        return load, await load.read_back()

    load, read_back = asyncio.run(main())
    assert failed > 0
    assert read_back == (0, 0)
    assert load.service.unanswered == failed
    unknown = [call for call in load.history if call.error is not None]
    assert unknown
    assert all(call.error == "RequestTimeout" and call.returned_ns is None and call.result is None for call in unknown)


def test_pages_that_cannot_be_read_do_not_count_as_lost() -> None:
    store = Store()

    async def execute(operation: bytes) -> bytes:
        if b"get" in operation and b"marks" in operation:
            raise RequestTimeout("no quorum")
        return await store.execute(operation)

    load, read_back = run(execute, 0.2)
    assert read_back is None
    assert load.service.last_error == "RequestTimeout: no quorum"


def test_the_longest_gap_includes_one_that_no_answer_has_ended() -> None:
    async def never(operation: bytes) -> bytes:
        await asyncio.sleep(0.4)
        raise RequestTimeout("no quorum")

    load, _ = run(never, 0.1)
    assert load.service.longest_gap_ns >= 400e6
    assert load.service.answered == 0


def test_marks_compare_page_by_page() -> None:
    marks = Marks(0)
    marks.acknowledged.extend([1] * PAGE + [1, 0, 1])
    assert marks.pages == range(2)
    assert marks.compare(0, range(PAGE)) == (0, 0)
    assert marks.compare(1, [PAGE, PAGE + 1, PAGE + 2]) == (0, 0)
    assert marks.compare(1, [PAGE + 2]) == (1, 0)
    assert marks.compare(1, [PAGE + 2, PAGE, PAGE, PAGE]) == (0, 2)
    assert marks.compare(1, []) == (2, 0)
