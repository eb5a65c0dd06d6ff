"""The journal of an operation, and the base class of the containers that write into it.

A step of the journal is a call that undoes one change: a function and its arguments. Running the steps, the last one first, restores the
state before the operation bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias, get_args

Step: TypeAlias = tuple[Any, ...]
"""A call that undoes one change: a function and its arguments."""

Journal: TypeAlias = list[Step]
"""The steps of the running operation, in the order of its changes."""


def roll_back(steps: Iterable[Step]) -> None:
    """Undo the changes of these steps. `steps` begins with the last change."""
    for function, *arguments in steps:
        function(*arguments)


class Unattached:
    """Stands for the declared types of a container that belongs to no service yet."""

    exact = type(None)

    def accept(self, value: Any) -> NoReturn:
        raise TypeError("this container belongs to no service yet: assign it to an attribute in __init__ before it is changed")


UNATTACHED: Any = Unattached()


class Container:
    """The base of all containers. A container is made with its types, as in `Map[bytes, int]()`. `attach` checks them.

    `since`, `until`: the versions of its service that have it, from `since` on and before `until`; None: all later ones.
    """

    __slots__ = ("__orig_class__", "_record", "_where", "since", "until")

    _example = "bytes"

    def __init__(self, *, since: int = 1, until: int | None = None) -> None:
        self.since = since
        self.until = until
        self._record: Callable[[Step], None] = UNATTACHED.accept
        self._where = ""

    def attach(self, where: str, journal: Journal) -> None:
        """Attach this container to the service that owns `journal`, as `where`. Raises TypeError if its types are not allowed."""
        if self._where:
            raise TypeError(f"{where}: this container is {self._where} already; make one for each attribute")
        declared = get_args(getattr(self, "__orig_class__", None))
        if not declared:
            name = type(self).__name__
            raise TypeError(f"{where}: a {name} is made with its types, as in {name}[{self._example}]()")
        self._declare(where, *declared)
        self._where = where
        self._record = journal.append

    def _declare(self, where: str, *declared: Any) -> None:
        raise NotImplementedError

    def state_type(self) -> Any:
        """The type of what `state` returns."""
        raise NotImplementedError

    def state(self) -> Any:
        """Return the contents as canonical plain data."""
        raise NotImplementedError

    def restore(self, state: Any) -> None:
        """Replace the contents by what `state` returned. This writes nothing into the journal."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}>"
