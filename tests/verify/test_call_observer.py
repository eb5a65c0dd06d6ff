"""The call observer detects every kind of wrong or lost answer to a client."""

from __future__ import annotations

from typing import Any

import pytest

from stretto.core.state_machine import Undo
from stretto.verify.calls import CallObserver
from stretto.verify.history import Operation
from stretto.verify.violation import Violation


class Counter:
    """Every operation returns the number of operations so far."""

    def __init__(self) -> None:
        self.count = 0

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        self.count += 1
        return b"%d" % self.count, True

    def undo(self, undo: Undo) -> None:
        self.count -= 1

    def snapshot(self) -> bytes:
        return b"%d" % self.count

    def restore(self, snapshot: bytes) -> None:
        self.count = int(snapshot)


class Entry:
    session = 1
    number = 1
    entropy = 0

    def __init__(self, stamp: int, operation: bytes) -> None:
        self.time_ns = stamp
        self.operation = operation


class Watched:
    """An observer, and calls by timestamp at times that the test chooses."""

    def __init__(self) -> None:
        self.observer = CallObserver(Counter)
        self.calls: dict[int, Operation] = {}
        self.position = 0

    def call(self, stamp: int, at: int) -> None:
        self.calls[stamp] = Operation(stamp, b"op %d" % stamp, at)
        self.observer.called(stamp, self.calls[stamp])

    def answer(self, stamp: int, at: int, result: bytes | None) -> None:
        operation = self.calls[stamp]
        if result is not None:
            operation.returned_ns, operation.result = at, result
        self.observer.returned(stamp, operation)

    def commit(self, stamp: int, result: bytes | None, operation: bytes | None = None) -> None:
        self.position += 1
        self.observer.committed(self.position, Entry(stamp, operation or b"op %d" % stamp), result)


def expect(kind: str) -> Any:
    return pytest.raises(Violation, match=f"^{kind}:")


def test_correct_calls_pass() -> None:
    watched = Watched()
    watched.call(1, at=0)
    watched.call(2, at=0)
    watched.call(3, at=1)
    watched.answer(2, at=5, result=b"1")
    watched.commit(2, b"1")
    watched.commit(1, b"2")
    watched.answer(1, at=6, result=b"2")
    watched.answer(3, at=7, result=None)
    watched.call(4, at=8)
    watched.commit(9, None)  # refused because of its session, so not an operation
    watched.commit(4, b"3")
    watched.commit(3, b"4")  # its outcome was unknown, so it may be committed late
    watched.answer(4, at=9, result=b"3")
    watched.observer.finish()
    assert watched.observer.history == [watched.calls[stamp] for stamp in (1, 2, 3, 4)]


def test_an_accepted_result_that_is_never_committed() -> None:
    watched = Watched()
    watched.call(1, at=0)
    watched.answer(1, at=1, result=b"1")
    assert watched.observer.uncommitted == 1
    with expect("accepted result lost"):
        watched.observer.finish()


def test_an_accepted_result_that_is_missing_before_a_later_call() -> None:
    watched = Watched()
    watched.call(1, at=0)
    watched.answer(1, at=1, result=b"1")
    watched.call(2, at=2)
    with expect("accepted result lost"):
        watched.commit(2, b"1")


def test_an_accepted_result_that_differs_from_the_later_commit() -> None:
    watched = Watched()
    watched.call(1, at=0)
    watched.call(2, at=0)
    watched.answer(1, at=1, result=b"1")
    watched.commit(2, b"1")
    with expect("accepted result lost"):
        watched.commit(1, b"2")


def test_a_result_that_differs_from_the_committed_one() -> None:
    watched = Watched()
    watched.call(1, at=0)
    watched.commit(1, b"1")
    with expect("wrong result"):
        watched.answer(1, at=1, result=b"2")


def test_a_result_that_differs_from_executing_the_log() -> None:
    watched = Watched()
    watched.call(1, at=0)
    with expect("wrong result"):
        watched.commit(1, b"2")


def test_a_call_that_takes_effect_twice() -> None:
    watched = Watched()
    watched.call(1, at=0)
    watched.commit(1, b"1")
    with expect("executed twice"):
        watched.commit(1, b"2")


def test_an_order_that_violates_real_time() -> None:
    watched = Watched()
    watched.call(1, at=0)
    watched.call(2, at=5)
    watched.commit(2, b"1")
    watched.calls[1].returned_ns = 3  # returned before the other was called, and committed after it
    with expect("real-time order broken"):
        watched.commit(1, b"2")


@pytest.mark.parametrize("operation", [b"op 2", b"another"])
def test_an_operation_that_no_client_called(operation: bytes) -> None:
    watched = Watched()
    watched.call(1, at=0)
    with expect("invented operation"):
        watched.commit(2 if operation == b"op 2" else 1, b"1", operation)
