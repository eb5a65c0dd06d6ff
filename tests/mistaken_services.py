"""Services as people write them by mistake: their operations use what replicas do not share, or end otherwise than with a result."""

from __future__ import annotations

import os
import time

from stretto import Cell, Service, operation, query

RUNS = 0


class Mistaken(Service):
    def __init__(self) -> None:
        self.value = Cell[int](0)

    @operation
    def set(self, value: int) -> int:
        self.value.value = value
        return value

    @operation
    def set_to_process_id(self) -> int:
        self.value.value = os.getpid()
        return self.value.value

    @operation
    def set_to_hash(self) -> int:
        self.value.value = hash("a word") % 1_000
        return self.value.value

    @operation
    def set_to_clock(self) -> int:
        self.value.value = time.perf_counter_ns()
        return self.value.value

    @operation
    def set_to_environment(self) -> int:
        """One replica has another environment than the other two."""
        self.value.value = int(os.environ.get("NUMBER", "0"))
        return self.value.value

    @operation
    def ask_for_memory(self) -> int:
        self.value.value = len(bytes(1 << 60))
        return self.value.value

    @operation
    def leave(self) -> int:
        raise SystemExit(3)

    @operation
    def interrupt(self) -> int:
        raise KeyboardInterrupt

    @query
    def read(self) -> int:
        return self.value.value
