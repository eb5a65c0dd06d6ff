"""Distinct keys in order that are cheap to change: the index of the sorted containers.

Adding a key is on the hot path of every service that scans. The library `sortedcontainers` would do the same, but takes twice the time,
since it also counts positions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Any

_MOST = 512


class OrderedKeys:
    """Distinct keys in order, in chunks of at most `_MOST`.

    Invariant: `_chunks[i]` holds, in order, the keys that are at least `_bounds[i - 1]` and less than `_bounds[i]`, where these exist. A
    chunk is empty only if it is the only one. How the keys are divided into chunks depends on their history; no result does.
    """

    __slots__ = ("_bounds", "_chunks")

    def __init__(self, keys: Iterable[Any] = ()) -> None:
        ordered = sorted(keys)
        half = _MOST // 2
        self._chunks: list[list[Any]] = [ordered[start : start + half] for start in range(0, len(ordered), half)] or [[]]
        self._bounds: list[Any] = [chunk[0] for chunk in self._chunks[1:]]

    def add(self, key: Any) -> None:
        """Add `key`, which must be missing."""
        place = bisect_right(self._bounds, key)
        chunk = self._chunks[place]
        insort(chunk, key)
        if len(chunk) > _MOST:
            upper = chunk[_MOST // 2 :]
            del chunk[_MOST // 2 :]
            self._chunks.insert(place + 1, upper)
            self._bounds.insert(place, upper[0])

    def remove(self, key: Any) -> None:
        """Remove `key`, which must be there."""
        place = bisect_right(self._bounds, key)
        chunk = self._chunks[place]
        del chunk[bisect_left(chunk, key)]
        if not chunk and self._bounds:
            del self._chunks[place]
            del self._bounds[max(place - 1, 0)]

    def span(self, start: Any = None, stop: Any = None, reverse: bool = False) -> Iterator[Any]:
        """The keys with `start` <= key < `stop`, in ascending or descending order. The keys must not change during the iteration."""
        chunks = self._chunks
        first, low = (0, 0) if start is None else self._find(start)
        last, high = (len(chunks) - 1, len(chunks[-1])) if stop is None else self._find(stop)
        places = range(first, last + 1)
        for place in reversed(places) if reverse else places:
            piece = chunks[place][low if place == first else 0 : high if place == last else None]
            yield from reversed(piece) if reverse else piece

    def _find(self, key: Any) -> tuple[int, int]:
        place = bisect_right(self._bounds, key)
        return place, bisect_left(self._chunks[place], key)
