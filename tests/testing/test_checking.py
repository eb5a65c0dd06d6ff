"""The check of services finds each kind of mistake that it is there for, and lets a good service pass."""

from __future__ import annotations

import enum
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from stretto.core.errors import ApplicationError
from stretto.services.containers import Cell, Map
from stretto.services.service import Service, operation, query
from stretto.testing import check_service
from stretto.testing.drawing import strategy_for


class Counter(Service):
    def __init__(self) -> None:
        self.total = Cell[int](0)
        self.last_ns = Cell[int](0)

    @operation
    def add(self, amount: Annotated[int, Meta(ge=0, lt=1000)]) -> int:
        self.total.value += amount + self.random.randrange(3)
        self.last_ns.value = self.now_ns
        if amount == 13:
            raise ApplicationError("not this one")
        return self.total.value

    @query
    def read(self) -> int:
        return self.total.value


class HidesState(Counter):
    def __init__(self) -> None:
        super().__init__()
        self.hidden: tuple[list[int]] = ([],)

    @operation
    def hide(self) -> int:
        self.hidden[0].append(1)
        return len(self.hidden[0])


class SharesState(Counter):
    calls = 0

    @operation
    def share(self) -> int:
        SharesState.calls += 1
        return SharesState.calls


class UsesGlobalRandom(Counter):
    @operation
    def roll(self) -> None:
        self.total.value = random.getrandbits(60)


class UsesClock(Counter):
    @operation
    def stamp(self) -> int:
        return time.time_ns()


class WalksSet(Counter):
    @operation
    def walk(self, names: list[str]) -> list[str]:
        return list({*names, "x", "y", "z"})


class UsesHash(Counter):
    @operation
    def digest(self, name: str) -> None:
        self.total.value = hash(f"{name}?") % 1_000_003


K = TypeVar("K")
V = TypeVar("V")


class CatchesRecursion(Counter):
    @operation
    def dig(self) -> int:
        """As deep as it goes: how far that is depends on the caller."""
        try:
            return 1 + self.dig()
        except RecursionError:
            return 0


class ForgetfulCell(Cell[V]):
    __slots__ = ()

    def forget(self) -> None:
        self._value = None  # type: ignore[assignment]


class ForgetsUndo(Service):
    def __init__(self) -> None:
        self.cell = ForgetfulCell[int | None](0)

    @operation
    def act(self) -> None:
        self.cell.value = 5

    @operation
    def forget(self) -> None:
        self.cell.forget()


class LeakyMap(Map[K, V]):
    __slots__ = ()

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)


class ShowsHistory(Service):
    def __init__(self) -> None:
        self.map = LeakyMap[int, int]()

    @operation
    def put(self, key: Literal[1, 2]) -> None:
        self.map[key] = 0

    @operation
    def delete(self, key: Literal[1, 2]) -> None:
        self.map.pop(key, 0)

    @query
    def first(self) -> int | None:
        return next(iter(self.map), None)


class QueryWrites(Counter):
    @query
    def write(self) -> None:
        self.total.value += 1


class HasBug(Counter):
    @operation
    def divide(self, by: int) -> int:
        return 100 // by


class Misreports(Counter):
    @operation
    def lie(self) -> int:
        return None  # type: ignore[return-value]


class CountsInAttribute(Counter):
    @operation
    def count(self) -> None:
        self.calls = 1


def test_a_good_service_passes() -> None:
    check_service(Counter, max_examples=30)


@pytest.mark.parametrize(
    ("service", "text"),
    [
        (HidesState, "operation 1 gave 1 at first, and 2 again, after all were undone\n  1. hide()"),
        (SharesState, r"operation 1 gave \d+ at first, and \d+ again"),
        (UsesGlobalRandom, "operation 1 does not leave the same state again, after all were undone"),
        (UsesClock, "operation 1 gave .* at first|equal operations do not always have equal effects"),
        (WalksSet, r"operation 1 gave .* at first, and .* in a process with another hash seed\n  1. walk\(names="),
        (CatchesRecursion, r"operation 1 gave .* at first, and .* on a deeper stack\n  1. dig\(\)"),
        (UsesHash, "operation . leaves another state in a process with another hash seed"),
        (QueryWrites, "operation 1 failed by a mistake in the service.* write is a query and changed the state"),
        (HasBug, r"operation . failed by a mistake in the service.* ZeroDivisionError: (.|\n)*divide\(by=0\)"),
        (Misreports, "operation 1 failed by a mistake in the service.* gave a result that is not of its annotated type"),
        (CountsInAttribute, "operation 1 failed by a mistake in the service.* make it a Cell"),
        (ForgetsUndo, "operation . was undone, and the state is not what it was before"),
        (ShowsHistory, "operation . gave . at first, and . "),
    ],
)
def test_what_cannot_be_replicated_is_found(service: type[Service], text: str) -> None:
    with pytest.raises(AssertionError, match=text) as caught:
        check_service(service)
    assert str(caught.value).startswith(service.__name__)
    assert f"seed 0: check_service({service.__name__}, seed=0) finds it again" in caught.value.__notes__


def test_arguments_can_be_given() -> None:
    check_service(HasBug, arguments={"divide": {"by": st.integers(1, 5)}}, max_examples=20)
    with pytest.raises(ValueError, match="Counter has no operation 'sub'"):
        check_service(Counter, arguments={"sub": {}})
    with pytest.raises(ValueError, match=r"Counter\.add has no parameter 'amout'"):
        check_service(Counter, arguments={"add": {"amout": st.just(1)}})


def test_a_class_inside_a_function_is_refused() -> None:
    class Inner(Counter):
        pass

    with pytest.raises(TypeError, match="stands inside a function"):
        check_service(Inner)


WITHOUT_HYPOTHESIS = """
import sys

sys.modules["hypothesis"] = None
from stretto import Cell, Service, operation
from stretto.testing import Stage, check_service, local

class Counter(Service):
    def __init__(self):
        self.total = Cell[int](0)

    @operation
    def add(self, amount: int) -> int:
        self.total.value += amount
        return self.total.value

print(local(Counter).add(2))
try:
    check_service(Counter)
except ImportError as error:
    print(error)
"""


def test_without_hypothesis_all_else_works() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_HYPOTHESIS], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    needed = "check_service needs hypothesis, which is not installed; get it with: pip install 'stretto[testing]'"
    assert done.stdout.splitlines() == ["2", needed]


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Tree(msgspec.Struct):
    size: Annotated[int, Meta(gt=3, le=9, multiple_of=3)]
    leaves: tuple["Tree", ...] = ()  # noqa: UP037


@settings(suppress_health_check=list(HealthCheck), max_examples=10)
@given(st.data())
@pytest.mark.parametrize(
    "declared",
    [
        *(None, bool, int, float, str, bytes, int | None, list[int], tuple[int, ...], tuple[str, bytes], dict[str, int], Color, Tree),
        *(Literal["a", 3], Annotated[str, Meta(min_length=3)], Annotated[bytes, Meta(max_length=1)], Annotated[str, Meta(pattern="^x+$")]),
        *(Annotated[float, Meta(gt=0, le=1)], Annotated[list[int], Meta(min_length=2)], Annotated[int, Meta(lt=-5)]),
    ],
)
def test_arguments_fit_their_annotations(declared: Any, data: st.DataObject) -> None:
    value = data.draw(strategy_for(declared))
    encoded = msgspec.msgpack.encode(value)
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(encoded, type=declared)) == encoded
