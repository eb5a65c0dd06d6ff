"""A service without a cluster: its calls are those of a cluster, and its clock is the test's."""

from __future__ import annotations

from typing import Any

import pytest

from stretto import ApplicationError, Cell, Service, operation, query
from stretto.testing import Local, local


class Lease(Service):
    """Granted until a time; what a test needs a clock for."""

    def __init__(self) -> None:
        self.until_ns = Cell[int](0)

    @operation
    def take(self, seconds: int) -> int:
        if self.now_ns < self.until_ns.value:
            raise ApplicationError("taken")
        self.until_ns.value = self.now_ns + seconds * 1_000_000_000
        return self.random.randrange(1_000_000)

    @query
    def clock(self) -> int:
        return self.now_ns


class Race(Service):
    """Has an operation called as the method that moves the clock."""

    def __init__(self) -> None:
        self.lap = Cell[int](0)

    @operation
    def advance(self, laps: int) -> int:
        self.lap.value += laps
        return self.now_ns


def test_it_answers_as_a_cluster_does() -> None:
    lease = local(Lease, seed=3)
    number = lease.take(seconds=5)
    with pytest.raises(ApplicationError, match="taken"):
        lease.take(5)
    with pytest.raises(TypeError, match=r"Lease\.take: seconds: Expected `int`"):
        lease.take("5")
    with pytest.raises(AttributeError, match="Lease has no operation 'give'; it has clock, take"):
        lease.give()
    assert local(Lease, seed=3).take(5) == number != local(Lease, seed=4).take(5)


def test_the_clock_moves_when_the_test_says_so() -> None:
    lease = local(Lease)
    lease.take(60)
    lease.advance(59)
    with pytest.raises(ApplicationError):
        lease.take(60)
    lease.advance(1)
    lease.take(60)
    before = lease.clock()
    lease.advance(0.25)
    assert lease.clock() - before == 251_000_000, "a call takes a millisecond"


@pytest.mark.parametrize(
    ("seconds", "error", "text"),
    [
        (-1, ValueError, "moves only forward, by a finite time: not by -1 seconds"),
        (float("nan"), ValueError, "finite time"),
        (float("inf"), ValueError, "finite time"),
        ("1", TypeError, "takes seconds as a number, not '1'"),
    ],
)
def test_the_clock_moves_only_forward(seconds: float, error: type[Exception], text: str) -> None:
    lease = local(Lease)
    before = lease.clock()
    with pytest.raises(error, match=text):
        lease.advance(seconds)
    assert lease.clock() == before + 1_000_000


def test_an_operation_may_be_called_advance() -> None:
    race: Any = local(Race)
    began = race.advance(1)
    Local.advance(race, 2)
    assert race.advance(1) == began + 2_001_000_000


def test_a_class_that_is_no_service_is_refused() -> None:
    with pytest.raises(TypeError, match="not a subclass"):
        local(int)  # type: ignore[arg-type]
