"""A service whose operations take as long as they are told to."""

from __future__ import annotations

import os
from time import monotonic, sleep

from stretto import Cell, Service, operation


class Slow(Service):
    def __init__(self) -> None:
        self.total = Cell[int](0)

    @operation
    def add(self, amount: int) -> int:
        self.total.value += amount
        return self.total.value

    @operation
    def compute(self, milliseconds: int) -> int:
        """Keep the processor for so long."""
        until = monotonic() + milliseconds / 1_000
        while monotonic() < until:
            sum(range(1_000))
        return self.total.value

    @operation
    def wait(self, milliseconds: int) -> int:
        """Do nothing for so long."""
        sleep(milliseconds / 1_000)
        return self.total.value

    @operation
    def wait_at(self, replica: int, milliseconds: int) -> int:
        """Do nothing for so long, at the replica whose environment has this NUMBER; at the others nothing at all."""
        if os.environ.get("NUMBER") == str(replica):
            sleep(milliseconds / 1_000)
        return self.total.value
