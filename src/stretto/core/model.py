"""The model contract: what a service does, one operation after the other, for the linearizability checker.

A model knows nothing of replicas. It is written beside its service, and not with the service's own code, since a mistake that both share
would never show.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias


class _Unknown(enum.Enum):
    UNKNOWN = enum.auto()


Unknown: TypeAlias = Literal[_Unknown.UNKNOWN]
UNKNOWN: Final[Unknown] = _Unknown.UNKNOWN
"""In place of a result: nobody knows what it was. Any would do."""

Query: TypeAlias = tuple[Any, Any]
"""A query of one key and its result."""


class Sequential(Protocol):
    """A deterministic sequential machine. Operations, results and states are hashable, and equal when they mean the same."""

    def initial(self) -> Any:
        """The state before the first operation."""
        ...

    def step(self, state: Any, operation: Any) -> tuple[Any, Any]:
        """The result that the operation gives in a state, and the state after it."""
        ...

    def is_query(self, operation: Any, result: Any) -> bool:
        """Whether the operation changes no state in which it gives this result, which may be UNKNOWN."""
        ...

    def overwrites(self, operation: Any, result: Any) -> bool:
        """Whether the operation gives this result in every state, or it is UNKNOWN, and leaves one and the same state.

        False is always right, but without this the search for an order of many concurrent writes may take too long.
        """
        ...


class Model(Sequential, Protocol):
    """The sequential machine of each key of a service: its keys are independent, and `initial`, `step` and `is_query` are about one.

    Every operation works on one key, but for queries of many keys at once, which must be the same as queries of those keys one by one at
    one instant. Keys are hashable and can be sorted. A result that stands for a failure is the class of the exception, without its text.
    """

    name: str

    def operation(self, name: str, arguments: Sequence[Any]) -> Any:
        """The operation of that name, as histories in text have it. Raises ValueError saying what is wrong with it."""
        ...

    def decode(self, operation: bytes, result: bytes | None) -> tuple[Any, Any]:
        """An operation and its result from what travels; without a result, UNKNOWN. Raises ValueError if they are none of the service."""
        ...

    def key(self, operation: Any) -> Hashable | None:
        """The key that the operation works on; None of a query of many keys."""
        ...

    def parts(self, operation: Any, result: Any, keys: Sequence[Any]) -> Mapping[Any, Query]:
        """What a query of many keys says about each: by key, a query of that key alone and its result.

        `keys`, sorted, are those that any operation of the history works on. All others keep their initial state. If no state at all gives
        the result of the whole, then none gives the result of one of its parts.
        """
        ...

    def describe(self, operation: Any, result: Any) -> str:
        """The operation and its result in a few words for people."""
        ...

    def describe_state(self, state: Any) -> str:
        """A key's state in a few words for people."""
        ...
