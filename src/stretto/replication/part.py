"""The base of a replica's parts: the events that a part is informed of, and what it contributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from stretto.core.node import Address, Message

Handler: TypeAlias = Callable[[Address, Any], None]
Timer: TypeAlias = Callable[[], None]


def ignore_event(*_: object) -> None:
    """Do nothing: for an event that a protocol does not need."""


class Part:
    """The base of a replica's parts. A part is built with the group, with other parts, and with named callbacks; it never sees the replica.

    `handlers`: by message type, the method that is called for messages that count. `timers`: by name, the method that is called when the
    timer fires.
    """

    def __init__(self) -> None:
        self.handlers: dict[type[Message], Handler] = {}
        self.timers: dict[str, Timer] = {}

    def enter_view(self) -> None:
        """The view has been entered. It begins now, or, if it is sealed, once its configuration is committed."""

    def begin_view(self) -> None:
        """The view has been entered: begin its normal operation."""

    def leave_view(self) -> None:
        """The view has been left: forget its work in progress, and cancel the timers."""

    def on_log_adopted(self) -> None:
        """The log is now the one with which the view starts, and the view is about to begin."""

    def on_repaired(self) -> None:
        """A repair within the view has ended."""

    def replay(self, record: Message) -> None:
        """Redo the change that an earlier start of this replica persisted as `record`."""

    def records(self) -> Sequence[Message]:
        """The records that restore this part when they are replayed after the state's records."""
        return ()

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return {}

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return None

    def check_invariants(self) -> None:
        """Raise AssertionError if the fields contradict the docstring of the class."""
