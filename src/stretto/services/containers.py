"""Containers that undo their changes: Map, SortedMap, SortedSet, List, Cell.

A container belongs to one service. For each change it writes into the service's journal how to undo it.

A replica that rolled back and a replica that did not have equal contents but different histories, so nothing that a service can observe
may depend on history. A plain dict iterates in the order of insertion, which undo does not restore. So a `Map` refuses iteration, since
sorting it in every loop would hide the cost; a `SortedMap` iterates in the order of its keys. Methods that read many items return a new
list: an iterator over an index that changes meanwhile would show how the index is divided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from operator import index as as_index
from typing import Any, Generic, TypeVar, overload

from stretto.services.journal import UNATTACHED, Container
from stretto.services.ordered import OrderedKeys
from stretto.services.values import ValueType

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_MISSING: Any = object()
_set_item = dict.__setitem__
_delete_item = dict.__delitem__


class Map(Container, Generic[K, V]):
    """A mapping without order, the fastest mapping. Keys are bytes, str, int, bool, or tuples of these; values are immutable."""

    __slots__ = ("_exact_key", "_exact_value", "_items", "_key_type", "_value_type")

    _example = "bytes, int"

    def __init__(self, *, since: int = 1, until: int | None = None) -> None:
        super().__init__(since=since, until=until)
        self._items: dict[K, V] = {}
        self._key_type: ValueType = UNATTACHED
        self._value_type: ValueType = UNATTACHED
        self._exact_key: type = UNATTACHED.exact
        self._exact_value: type = UNATTACHED.exact

    def _declare(self, where: str, *declared: Any) -> None:
        key, value = declared
        self._key_type = ValueType(key, where, "a key", key=True)
        self._value_type = ValueType(value, where, "a value")
        self._exact_key = self._key_type.exact
        self._exact_value = self._value_type.exact

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if it has none."""
        return self._items.get(key, default)

    def __iter__(self) -> Iterator[K]:
        raise TypeError(f"{self._where}: a Map has no order that is the same on all replicas, so it cannot be iterated; use a SortedMap")

    def __setitem__(self, key: K, value: V) -> None:
        if type(key) is not self._exact_key:
            key = self._key_type.accept(key)
        if type(value) is not self._exact_value:
            value = self._value_type.accept(value)
        items = self._items
        if key in items:
            self._record((_set_item, items, key, items[key]))
        else:
            self._record((_delete_item, items, key))
        items[key] = value

    def __delitem__(self, key: K) -> None:
        if type(key) is not self._exact_key:
            key = self._key_type.accept(key)
        items = self._items
        self._record((_set_item, items, key, items[key]))
        del items[key]

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: D) -> V | D: ...
    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Remove `key` and return its value. If it has none, return `default`, or raise KeyError if no default is given."""
        value = self._items.get(key, default)
        if value is _MISSING:
            raise KeyError(key)
        if key in self._items:
            del self[key]
        return value

    def setdefault(self, key: K, default: V) -> V:
        """Return the value of `key`, after setting it to `default` if it has none."""
        if key not in self._items:
            self[key] = default
        return self._items[key]

    def clear(self) -> None:
        """Remove everything."""
        self._record((self.restore, list(self._items.items())))
        self.restore([])

    def state_type(self) -> Any:
        return list[tuple[self._key_type.declared, self._value_type.declared]]  # type: ignore[name-defined]

    def state(self) -> Any:
        return sorted(self._items.items(), key=_first)

    def restore(self, state: Any) -> None:
        self._items.clear()
        self._items.update(state)


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


class SortedMap(Map[K, V], Generic[K, V]):
    """A mapping in the order of its keys. Methods that read many items return lists, so the map may change during a loop over them."""

    __slots__ = ("_order",)

    def __init__(self, *, since: int = 1, until: int | None = None) -> None:
        super().__init__(since=since, until=until)
        self._order = OrderedKeys()

    def __setitem__(self, key: K, value: V) -> None:
        if type(key) is not self._exact_key:
            key = self._key_type.accept(key)
        if type(value) is not self._exact_value:
            value = self._value_type.accept(value)
        items = self._items
        if key in items:
            self._record((_set_item, items, key, items[key]))
        else:
            self._record((SortedMap._remove, self, key))
            self._order.add(key)
        items[key] = value

    def __delitem__(self, key: K) -> None:
        if type(key) is not self._exact_key:
            key = self._key_type.accept(key)
        self._record((SortedMap._insert, self, key, self._items[key]))
        self._remove(key)

    def _insert(self, key: K, value: V) -> None:
        self._items[key] = value
        self._order.add(key)

    def _remove(self, key: K) -> None:
        del self._items[key]
        self._order.remove(key)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._order.span()))

    def __reversed__(self) -> Iterator[K]:
        return iter(list(self._order.span(reverse=True)))

    def keys(self) -> list[K]:
        """Return all keys in order."""
        return list(self._order.span())

    def values(self) -> list[V]:
        """Return all values in the order of their keys."""
        return [self._items[key] for key in self._order.span()]

    def items(self) -> list[tuple[K, V]]:
        """Return all pairs in the order of their keys."""
        return [(key, self._items[key]) for key in self._order.span()]

    def first(self) -> tuple[K, V] | None:
        """Return the pair with the least key; None if the map is empty."""
        return next(iter(self.range(limit=1)), None)

    def last(self) -> tuple[K, V] | None:
        """Return the pair with the greatest key; None if the map is empty."""
        return next(iter(self.range(limit=1, reverse=True)), None)

    def range(self, start: K | None = None, stop: K | None = None, *, limit: int | None = None, reverse: bool = False) -> list[tuple[K, V]]:
        """Return the first `limit` pairs with `start` <= key < `stop`, in ascending order, or with `reverse` in descending order."""
        return [(key, self._items[key]) for key in islice(self._order.span(start, stop, reverse), limit)]

    def prefix(self, prefix: K, *, limit: int | None = None) -> list[tuple[K, V]]:
        """Return the first `limit` pairs whose key (bytes, str or a tuple) begins with `prefix`, in order."""
        return [(key, self._items[key]) for key in _prefix(self._order, prefix, limit)]

    def state(self) -> Any:
        return self.items()

    def restore(self, state: Any) -> None:
        super().restore(state)
        self._order = OrderedKeys(self._items)


def _prefix(order: OrderedKeys, prefix: Any, limit: int | None) -> Iterator[Any]:
    size = len(prefix)
    return islice(takewhile(lambda key: key[:size] == prefix, order.span(prefix)), limit)


class SortedSet(Container, Generic[K]):
    """A set in the order of its members. Members are bytes, str, int, bool, or tuples of these."""

    __slots__ = ("_members", "_order", "_type")

    def __init__(self, *, since: int = 1, until: int | None = None) -> None:
        super().__init__(since=since, until=until)
        self._type: ValueType = UNATTACHED
        self._members: set[K] = set()
        self._order = OrderedKeys()

    def _declare(self, where: str, *declared: Any) -> None:
        self._type = ValueType(declared[0], where, "a member", key=True)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._order.span()))

    def __reversed__(self) -> Iterator[K]:
        return iter(list(self._order.span(reverse=True)))

    def add(self, member: K) -> None:
        """Add `member` if it is missing."""
        member = self._type.accept(member)
        if member not in self._members:
            self._record((SortedSet._remove, self, member))
            self._insert(member)

    def discard(self, member: K) -> None:
        """Remove `member` if it is there."""
        member = self._type.accept(member)
        if member in self._members:
            self._record((SortedSet._insert, self, member))
            self._remove(member)

    def _insert(self, member: K) -> None:
        self._members.add(member)
        self._order.add(member)

    def _remove(self, member: K) -> None:
        self._members.remove(member)
        self._order.remove(member)

    def range(self, start: K | None = None, stop: K | None = None, *, limit: int | None = None, reverse: bool = False) -> list[K]:
        """Return the first `limit` members with `start` <= member < `stop`, in ascending order, or with `reverse` in descending order."""
        return list(islice(self._order.span(start, stop, reverse), limit))

    def prefix(self, prefix: K, *, limit: int | None = None) -> list[K]:
        """Return the first `limit` members (bytes, str or tuples) that begin with `prefix`, in order."""
        return list(_prefix(self._order, prefix, limit))

    def clear(self) -> None:
        """Remove everything."""
        self._record((self.restore, list(self._order.span())))
        self.restore([])

    def state_type(self) -> Any:
        return list[self._type.declared]  # type: ignore[name-defined]

    def state(self) -> Any:
        return list(self._order.span())

    def restore(self, state: Any) -> None:
        self._members = set(state)
        self._order = OrderedKeys(state)


class List(Container, Generic[V]):
    """A list of immutable values."""

    __slots__ = ("_items", "_type")

    def __init__(self, *, since: int = 1, until: int | None = None) -> None:
        super().__init__(since=since, until=until)
        self._type: ValueType = UNATTACHED
        self._items: list[V] = []

    def _declare(self, where: str, *declared: Any) -> None:
        self._type = ValueType(declared[0], where, "an item")

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, value: object) -> bool:
        return value in self._items

    def __iter__(self) -> Iterator[V]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[V]:
        return reversed(self._items)

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> list[V]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._items[index]

    def __setitem__(self, index: int, value: V) -> None:
        index = as_index(index)
        value = self._type.accept(value)
        self._record((list.__setitem__, self._items, index, self._items[index]))
        self._items[index] = value

    def __delitem__(self, index: int) -> None:
        self.pop(index)

    def append(self, value: V) -> None:
        """Add `value` at the end."""
        value = self._type.accept(value)
        self._record((list.pop, self._items))
        self._items.append(value)

    def extend(self, values: Iterable[V]) -> None:
        """Add all of `values` at the end."""
        for value in values:
            self.append(value)

    def insert(self, index: int, value: V) -> None:
        """Insert `value` before the item at `index`."""
        value = self._type.accept(value)
        place = slice(as_index(index), None).indices(len(self._items))[0]
        self._record((list.pop, self._items, place))
        self._items.insert(place, value)

    def pop(self, index: int = -1) -> V:
        """Remove the item at `index` and return it."""
        value = self._items[as_index(index)]
        place = index if index >= 0 else index + len(self._items)
        self._record((list.insert, self._items, place, value))
        del self._items[place]
        return value

    def index(self, value: V) -> int:
        """Return the index of the first item equal to `value`. Raises ValueError if there is none."""
        return self._items.index(value)

    def clear(self) -> None:
        """Remove everything."""
        self._record((list.extend, self._items, list(self._items)))
        self._items.clear()

    def state_type(self) -> Any:
        return list[self._type.declared]  # type: ignore[name-defined]

    def state(self) -> Any:
        return self._items

    def restore(self, state: Any) -> None:
        self._items[:] = state


class Cell(Container, Generic[V]):
    """One immutable value, read and assigned as `cell.value`. It is made with its first value: `Cell[int](0)`."""

    __slots__ = ("_type", "_value")

    _example = "int"

    def __init__(self, value: V, *, since: int = 1, until: int | None = None) -> None:
        super().__init__(since=since, until=until)
        self._type: ValueType = UNATTACHED
        self._value = value

    def _declare(self, where: str, *declared: Any) -> None:
        self._type = ValueType(declared[0], where, "the value")
        self._value = self._type.accept(self._value)

    @property
    def value(self) -> V:
        """The value."""
        return self._value

    @value.setter
    def value(self, value: V) -> None:
        accepted = self._type.accept(value)
        self._record((setattr, self, "_value", self._value))
        self._value = accepted

    def state_type(self) -> Any:
        return self._type.declared

    def state(self) -> Any:
        return self._value

    def restore(self, state: Any) -> None:
        self._value = state
