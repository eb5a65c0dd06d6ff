"""Containers: they behave like their plain twins, undo leaves what was there, and history cannot be seen."""

from __future__ import annotations

import bisect
import enum
from collections.abc import Callable
from random import Random
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.services import ordered
from stretto.services.containers import Cell, List, Map, SortedMap, SortedSet
from stretto.services.journal import Container, Journal, roll_back

Step = tuple[str, tuple[Any, ...]]


class Point(msgspec.Struct, frozen=True):
    x: int
    tags: tuple[str, ...] = ()


class Loose(msgspec.Struct):
    x: int


class Hollow(msgspec.Struct, frozen=True):
    items: list[int]


class Color(enum.Enum):
    RED = "red"


def attached(container: Any) -> tuple[Any, Journal]:
    journal: Journal = []
    container.attach("Test.it", journal)
    return container, journal


KEYS = st.sampled_from([b"", b"a", b"ab", b"b", b"\xff", b"\xff\xff"])
SHORT = st.binary(max_size=2)
NUMBERS = st.integers(-2, 3)
MAP_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("__setitem__"), st.tuples(KEYS, NUMBERS)),
        st.tuples(st.just("__delitem__"), st.tuples(KEYS)),
        st.tuples(st.just("pop"), st.tuples(KEYS, st.none())),
        st.tuples(st.just("setdefault"), st.tuples(KEYS, NUMBERS)),
        st.tuples(st.just("clear"), st.just(())),
    )
)
LIST_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.tuples(NUMBERS)),
        st.tuples(st.just("extend"), st.tuples(st.lists(NUMBERS, max_size=3))),
        st.tuples(st.just("insert"), st.tuples(st.integers(-6, 6), NUMBERS)),
        st.tuples(st.just("pop"), st.tuples(st.integers(-6, 6))),
        st.tuples(st.just("__setitem__"), st.tuples(st.integers(-6, 6), NUMBERS)),
        st.tuples(st.just("__delitem__"), st.tuples(st.integers(-6, 6))),
        st.tuples(st.just("clear"), st.just(())),
    )
)
SET_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.tuples(KEYS)),
        st.tuples(st.just("discard"), st.tuples(KEYS)),
        st.tuples(st.just("clear"), st.just(())),
    )
)


def apply(target: Any, step: Step) -> Any:
    """What a call gives, its exception included."""
    name, arguments = step
    try:
        return getattr(target, name)(*arguments)
    except (KeyError, IndexError) as error:
        return type(error)


def check_against(twin: Any, plain: Callable[[Any], Any], container: Container, steps: list[Step]) -> None:
    """The container gives and holds what its plain twin does, and undo passes all of its states again, the last first."""
    container, journal = attached(container)
    states = []
    for step in steps:
        states.append((plain(twin), len(journal)))
        assert apply(container, step) == apply(twin, step)
        assert container.state() == plain(twin)
    for state, length in reversed(states):
        roll_back(reversed(journal[length:]))
        del journal[length:]
        assert container.state() == state


@given(MAP_STEPS)
def test_map_is_a_dict_that_undoes_itself(steps: list[Step]) -> None:
    check_against({}, lambda twin: sorted(twin.items()), Map[bytes, int](), steps)


@given(MAP_STEPS)
def test_sorted_map_is_a_dict_that_undoes_itself(steps: list[Step]) -> None:
    container = SortedMap[bytes, int]()
    check_against({}, lambda twin: sorted(twin.items()), container, steps)
    assert container.keys() == list(container._items) == []


@given(LIST_STEPS)
def test_list_is_a_list_that_undoes_itself(steps: list[Step]) -> None:
    check_against([], list, List[int](), steps)


@given(SET_STEPS)
def test_sorted_set_is_a_set_that_undoes_itself(steps: list[Step]) -> None:
    check_against(set(), sorted, SortedSet[bytes](), steps)


def test_cell_undoes_itself() -> None:
    cell, journal = attached(Cell[int](3))
    cell.value += 4
    assert (cell.value, cell.state()) == (7, 7)
    roll_back(reversed(journal))
    assert cell.value == 3


@given(st.dictionaries(SHORT, st.integers(0, 9)), SHORT, SHORT, st.integers(0, 5), st.booleans())
def test_sorted_map_reads_in_order(content: dict[bytes, int], start: bytes, stop: bytes, limit: int, reverse: bool) -> None:
    container, _ = attached(SortedMap[bytes, int]())
    for key, value in content.items():
        container[key] = value
    pairs = sorted(content.items())
    between = [pair for pair in pairs if start <= pair[0] < stop]
    assert list(container) == container.keys() == [key for key, _ in pairs]
    assert list(reversed(container)) == container.keys()[::-1]
    assert container.items() == pairs
    assert container.values() == [value for _, value in pairs]
    assert container.range(start, stop) == between
    assert container.range(start, stop, limit=limit, reverse=reverse) == (between[::-1] if reverse else between)[:limit]
    assert container.range(start) == [pair for pair in pairs if start <= pair[0]]
    assert container.range(stop=stop) == [pair for pair in pairs if pair[0] < stop]
    assert container.prefix(start) == [pair for pair in pairs if pair[0].startswith(start)]
    assert container.prefix(start, limit=limit) == [pair for pair in pairs if pair[0].startswith(start)][:limit]
    assert container.first() == (pairs[0] if pairs else None)
    assert container.last() == (pairs[-1] if pairs else None)


def test_prefix_of_tuples() -> None:
    container, _ = attached(SortedSet[tuple[str, int]]())
    for member in [("b", 1), ("a", 2), ("a", 1)]:
        container.add(member)
    assert container.prefix(("a",)) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("seed", range(5))
def test_ordered_keys_over_many_chunks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "_MOST", 4)
    random = Random(seed)
    plain = list(range(0, 60, 3))
    keys = ordered.OrderedKeys(plain)
    for turn in range(600):
        key = random.randrange(60)
        if key not in plain and random.random() < (0.8 if turn % 200 < 100 else 0.2):
            keys.add(key)
            bisect.insort(plain, key)
        elif key in plain:
            keys.remove(key)
            plain.remove(key)
        check_chunks(keys)
        start, stop = random.randrange(60), random.randrange(60)
        assert list(keys.span()) == plain
        assert list(keys.span(reverse=True)) == plain[::-1]
        assert list(keys.span(start, stop)) == [key for key in plain if start <= key < stop]
        assert list(keys.span(start, stop, True)) == [key for key in reversed(plain) if start <= key < stop]
    for key in plain:
        keys.remove(key)
        check_chunks(keys)


def check_chunks(keys: ordered.OrderedKeys) -> None:
    """The invariant that the class states."""
    chunks, bounds = keys._chunks, keys._bounds
    assert chunks == [[]] or all(0 < len(chunk) <= 4 for chunk in chunks)
    assert len(bounds) == len(chunks) - 1
    assert all(lower[-1] < bound <= upper[0] for lower, bound, upper in zip(chunks, bounds, chunks[1:], strict=False))


def test_a_sorted_map_may_change_while_it_is_walked() -> None:
    container, _ = attached(SortedMap[int, int]())
    for key in range(2000):
        container[key] = key
    for key in container:
        del container[key]
    assert len(container) == 0


def test_a_map_shows_no_order() -> None:
    container, _ = attached(Map[bytes, int]())
    container[b"a"] = 1
    walks: list[Callable[[Any], object]] = [iter, list, sorted, set, dict]
    for walk in walks:
        with pytest.raises(TypeError, match=r"Test\.it: a Map has no order"):
            walk(container)
    assert b"a" in container
    assert bool(container)


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        (bytes, b"x", ["x", 1, None, [1]]),
        (int, 5, [True, 1.0, "5", 2**64, -(2**63) - 1]),
        (float, 0.5, ["0.5", True]),
        (bool, True, [1, 0, None]),
        (str, "x", [b"x", "\ud800"]),
        (int | None, None, [b"", 1.5]),
        (tuple[int, ...], (1, 2), [[1, 2], (1, "2"), {1, 2}]),
        (tuple[str, float], ("a", 0.5), [("a",), ["a", 0.5]]),
        (Point, Point(1, ("a",)), [Loose(1), Point(1, ["a"]), Point("1"), {"x": 1}]),  # type: ignore[arg-type]
        (Color, Color.RED, ["red", None]),
        (Annotated[int, msgspec.Meta(ge=0)], 3, [-1]),
    ],
)
def test_values_are_of_the_declared_type(declared: Any, good: Any, bad: list[Any]) -> None:
    container, journal = attached(Map[int, declared]())
    container[1] = good
    assert container[1] == good
    for value in bad:
        with pytest.raises(TypeError, match=r"Test\.it: a value must be .*, not " + type(value).__name__):
            container[1] = value
    assert len(journal) == 1
    encoded = msgspec.msgpack.encode(container.state())
    assert msgspec.msgpack.decode(encoded, type=container.state_type()) == [(1, good)]


def test_a_value_is_kept_as_a_snapshot_would_restore_it() -> None:
    container, _ = attached(Map[int, tuple[float, ...]]())
    container[1] = (1, 2)
    assert [type(number) for number in container[1]] == [float, float]
    cell, _ = attached(Cell[float](0.0))
    cell.value = float("nan")
    assert cell.value != cell.value


@pytest.mark.parametrize("declared", [list[int], dict[str, int], bytearray, Loose, Hollow, tuple[list[int], ...], Point | list[int]])
def test_types_that_change_in_place_are_refused(declared: Any) -> None:
    with pytest.raises(TypeError, match=r"Test\.it: .* can change in place"):
        attached(Map[bytes, declared]())


@pytest.mark.parametrize("declared", [frozenset[int], tuple[frozenset[str], ...]])
def test_types_without_order_are_refused(declared: Any) -> None:
    with pytest.raises(TypeError, match=r"Test\.it: .* has no order"):
        attached(List[declared]())


@pytest.mark.parametrize("declared", [Any, object, Callable[[], None]])
def test_types_that_cannot_be_encoded_are_refused(declared: Any) -> None:
    with pytest.raises(TypeError, match=r"Test\.it: .* does not define how it is encoded"):
        attached(List[declared]())


@pytest.mark.parametrize("declared", [float, int | None, Point, tuple[float, int], list[int]])
def test_keys_have_an_order(declared: Any) -> None:
    with pytest.raises(TypeError, match=r"Test\.it: .* is no key"):
        attached(SortedMap[declared, int]())


def test_a_key_that_only_equals_another_is_refused() -> None:
    container, _ = attached(Map[int, str]())
    container[1] = "one"
    with pytest.raises(TypeError, match="a key must be int, not bool"):
        del container[True]
    with pytest.raises(TypeError, match="a key must be int, not float"):
        container[1.0] = "one"


def test_containers_say_what_they_hold_and_where_they_belong() -> None:
    with pytest.raises(TypeError, match=r"Test\.it: a Map is made with its types, as in Map\[bytes, int\]\(\)"):
        attached(Map())
    container, _ = attached(Map[bytes, int]())
    with pytest.raises(TypeError, match=r"Test\.it: this container is Test\.it already"):
        attached(container)
    changes: list[Callable[[], object]] = [
        lambda: List[int]().append(1),
        lambda: Map[int, int]().clear(),
        lambda: setattr(Cell[int](0), "value", 1),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="belongs to no service yet"):
            change()
