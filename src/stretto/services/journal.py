"""The journal of an operation, and what every container that writes into it has in common.

A step of the journal is a call: a function and its arguments. Taking the steps back, the last first, leaves what was there before, bit
for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias, get_args

Step: TypeAlias = tuple[Any, ...]
"""What takes one change back: a function and its arguments."""

Journal: TypeAlias = list[Step]
"""The steps of the operation that is running, the first change first."""


def take_back(steps: Iterable[Step]) -> None:
    """Undo the changes that these steps were written for. `steps` begins with the last one."""
    for function, *arguments in steps:
        function(*arguments)


class Homeless:
    """The ValueType of a container that belongs to no service yet."""

    exact = type(None)

    def accept(self, value: Any) -> NoReturn:
        raise TypeError("this container belongs to no service yet: assign it to an attribute in __init__ before it is changed")


HOMELESS: Any = Homeless()
"""Stands in for each declared type until the container is attached."""


class Container:
    """The base of all containers. Made with its types, as in `Map[bytes, int]()`, which are checked when it is attached."""

    __slots__ = ("__orig_class__", "_record", "_where")

    _example = "bytes"

    def __init__(self) -> None:
        self._record: Callable[[Step], None] = HOMELESS.accept
        self._where = ""

    def attach(self, where: str, journal: Journal) -> None:
        """Belong to the service that owns `journal`, under the name `where`. Raises TypeError if the declared types do not fit."""
        if self._where:
            raise TypeError(f"{where}: this container is {self._where} already")
        declared = get_args(getattr(self, "__orig_class__", None))
        if not declared:
            name = type(self).__name__
            raise TypeError(f"{where}: a {name} is made with the types that it holds, as in {name}[{self._example}]()")
        self._declare(where, *declared)
        self._where = where
        self._record = journal.append

    def _declare(self, where: str, *declared: Any) -> None:
        raise NotImplementedError

    def state_type(self) -> Any:
        """The type of what `state` gives."""
        raise NotImplementedError

    def state(self) -> Any:
        """The contents as canonical plain data."""
        raise NotImplementedError

    def restore(self, state: Any) -> None:
        """Hold what `state` gave. Nothing is recorded."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}>"
