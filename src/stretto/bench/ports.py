"""A port for nodes that are measured without a world."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from stretto.core.node import Address, Message


class IdlePort:
    """A port on which no timer fires, no time passes and nothing is kept. A subclass says what is done with messages that are sent."""

    address: Address = 0
    now_ns = 0
    wall_ns = None
    written = None
    late_ns = 0
    durable = False

    def __init__(self) -> None:
        self.random = Random(0)

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Not set."""

    def cancel_timer(self, name: str) -> None:
        """There is none."""

    def persist(self, record: Message) -> None:
        """Not kept."""

    def identify(self, first: Sequence[int]) -> None:
        """Not kept."""

    def compact(self, records: Sequence[Message]) -> None:
        """Not kept."""

    def stop(self, reason: str, *, distrust: bool = False) -> None:
        """No node has a reason to stop here."""
        raise AssertionError(reason)

    def report(self, event: str, **details: Any) -> None:
        """Told to nobody."""
