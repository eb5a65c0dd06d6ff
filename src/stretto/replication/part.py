"""What a part of a replica is told, and what it adds to the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from stretto.core.node import Address, Message

Handler: TypeAlias = Callable[[Address, Any], None]
Timer: TypeAlias = Callable[[], None]


def ignore_event(*_: object) -> None:
    """What a protocol does with an event that it has no use for."""


class Part:
    """The base of a replica's parts. A part is built with the group, with other parts, and with named callbacks; it never sees the replica.

    `handlers`: by message type, the method that takes such messages once the gate has let them in. `timers`: by name.
    """

    def __init__(self) -> None:
        self.handlers: dict[type[Message], Handler] = {}
        self.timers: dict[str, Timer] = {}

    def begin_view(self) -> None:
        """The view has been entered: begin its normal operation."""

    def leave_view(self) -> None:
        """The view has been left: forget what was under way, and cancel the timers."""

    def on_log_adopted(self) -> None:
        """The log is the one that the view starts with, and the view is about to begin."""

    def on_repaired(self) -> None:
        """A repair inside the view has ended."""

    def replay(self, record: Message) -> None:
        """Do again what was done when an earlier start of this replica persisted `record`."""

    def records(self) -> Sequence[Message]:
        """What, replayed behind the state's records, makes this part what it is."""
        return ()

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return {}

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return None

    def check_invariants(self) -> None:
        """Raise AssertionError if the fields contradict the docstring of the class."""
