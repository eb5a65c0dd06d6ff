"""A port without a world: it records what a node asks for, so that a test of one node needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from stretto.core.node import Address, Message


class RecordingPort:
    """A `stretto.core.node.Port` that records everything and lets nothing happen.

        port = RecordingPort(address=0, replicas=3)
        node = MyReplica(port, config, 0, NullMachine(), BOOTSTRAP)
        node.on_message(CLIENT, request)
        assert port.take_sent() == [(1, Append(1, request))]

    Parameters: `address`, of the node; `replicas`, the size of the group, to which `multicast` sends a copy each; `durable`, whether the
    node is to persist; `seed`, of `random`.

    - `sent`: destination and message, in the order of sending;
    - `timers`: when each timer that is set is due, in nanoseconds, by its name. The test decides when `on_timer` is called;
    - `records`: what was persisted, after the last `compact`;
    - `reports`: event and details;
    - `stopped`: the reason that the node gave when it stopped itself, or None.
    """

    def __init__(self, address: Address = 0, replicas: int = 3, *, durable: bool = False, seed: int = 0) -> None:
        self.address = address
        self.durable = durable
        self.random = Random(seed)
        self.sent: list[tuple[Address, Message]] = []
        self.timers: dict[str, int] = {}
        self.records: list[Message] = []
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.stopped: str | None = None
        self._replicas = replicas
        self._now_ns = 0

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the port was made, as `advance` moved them."""
        return self._now_ns

    @property
    def wall_ns(self) -> int | None:
        """There is no wall clock."""
        return None

    @property
    def late_ns(self) -> int:
        """No timer is late."""
        return 0

    @property
    def written(self) -> int | None:
        """Not known."""
        return None

    def advance(self, duration_ns: int) -> None:
        """Let time pass. No timer fires by this. Raises ValueError if the duration is negative."""
        if duration_ns < 0:
            raise ValueError(f"time moves only forward, not by {duration_ns} ns")
        self._now_ns += duration_ns

    def take_sent(self) -> list[tuple[Address, Message]]:
        """What was sent since the last call of this, and forget it."""
        sent, self.sent = self.sent, []
        return sent

    def send(self, destination: Address, message: Message) -> None:
        """Record it in `sent`."""
        self.sent.append((destination, message))

    def multicast(self, message: Message) -> None:
        """Send a copy to each replica, the node itself included if it is one."""
        for index in range(self._replicas):
            self.send(index, message)

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Record in `timers` when it is due."""
        self.timers[name] = self.now_ns + delay_ns

    def cancel_timer(self, name: str) -> None:
        """Remove it from `timers`."""
        self.timers.pop(name, None)

    def persist(self, record: Message) -> None:
        """Record it in `records`."""
        self.records.append(record)

    def identify(self, first: Sequence[int]) -> None:
        """Nothing is kept."""

    def compact(self, records: Sequence[Message]) -> None:
        """Replace `records`."""
        self.records = list(records)

    def stop(self, reason: str, *, distrust: bool = False) -> None:
        """Record the reason in `stopped`, and forget what was persisted if it is not to be trusted."""
        self.stopped = reason
        if distrust:
            self.records = []

    def report(self, event: str, **details: Any) -> None:
        """Record it in `reports`."""
        self.reports.append((event, details))
