"""The contract of models: what a service does, one operation after the other, for the linearizability checker.

A model knows nothing of replicas. It is written without the code of its service, because the checker cannot find a mistake that both share.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias


class _Unknown(enum.Enum):
    UNKNOWN = enum.auto()


Unknown: TypeAlias = Literal[_Unknown.UNKNOWN]
UNKNOWN: Final[Unknown] = _Unknown.UNKNOWN
"""Stands for the result of an operation whose result is not known. Every result agrees with it."""

Query: TypeAlias = tuple[Any, Any]
"""A query of one key, and its result."""


class Sequential(Protocol):
    """A deterministic sequential machine. Operations, results and states are hashable, and equal if they mean the same."""

    def initial(self) -> Any:
        """The state before the first operation."""
        ...

    def step(self, state: Any, operation: Any) -> tuple[Any, Any]:
        """Return the result of the operation in a state, and the state after it."""
        ...

    def is_query(self, operation: Any, result: Any) -> bool:
        """Whether the operation leaves every state unchanged in which it gives this result. `result` may be UNKNOWN."""
        ...

    def overwrites(self, operation: Any, result: Any) -> bool:
        """Whether the operation gives this result in every state, and leads from every state to the same one. `result` may be UNKNOWN.

        False is always correct, but then the search for an order of many concurrent writes may take too long.
        """
        ...


class Model(Sequential, Protocol):
    """A service whose keys are independent, as one sequential machine for each key: `initial`, `step` and `is_query` are about one key.

    Every operation works on one key. The exception is a query of many keys, which must be equivalent to queries of each of these keys at
    one instant. Keys are hashable and can be sorted. The result of a failed operation is the class of the exception, without its text.
    """

    name: str

    def operation(self, name: str, arguments: Sequence[Any]) -> Any:
        """Return the operation of that name, as text histories contain it. Raises ValueError that says what is wrong."""
        ...

    def decode(self, operation: bytes, result: bytes | None) -> tuple[Any, Any]:
        """Decode an operation and its result; no result gives UNKNOWN. Raises ValueError if the bytes do not belong to the service."""
        ...

    def key(self, operation: Any) -> Hashable | None:
        """Return the key that the operation works on; None for a query of many keys."""
        ...

    def parts(self, operation: Any, result: Any, keys: Sequence[Any]) -> Mapping[Any, Query]:
        """Split a query of many keys: return, by key, a query of that key alone and its result.

        `keys`, sorted, are the keys of all operations in the history. All other keys keep their initial state. If no state gives the result
        of the whole query, then no state gives the result of one of its parts.
        """
        ...

    def describe(self, operation: Any, result: Any) -> str:
        """The operation and its result in a few words for human readers."""
        ...

    def describe_state(self, state: Any) -> str:
        """The state of a key in a few words for human readers."""
        ...
