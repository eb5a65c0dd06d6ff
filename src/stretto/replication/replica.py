"""What every replica that executes a log has: the state and its records, counted reasons for ignoring, and the window for observers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.state import ReplicatedState


class LoggingReplica:
    """The base of a replica whose state is a `ReplicatedState`.

    A subclass fills `handlers`, message type to method, and calls `replay` when it is built. `start` says how the replica begins.
    """

    repeats = False
    """Whether the log may have a request more than once; see `ReplicatedState`."""

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        self.port = port
        self.index = index
        self.n = config.n
        self.view = 0
        self.state = ReplicatedState(machine, config.limits.max_sessions, config.limits.checkpoint_operations, self.repeats)
        self.state.clock = self.now_ns
        self.handlers: dict[type[Message], Callable[[Address, Any], None]] = {}
        self.ignored: dict[str, int] = {}

    def now_ns(self) -> int:
        """What time it is."""
        return self.port.now_ns

    def replay(self, records: Sequence[Message]) -> None:
        """Be as the earlier life that persisted these records was, and persist from now on what changes."""
        for record in records:
            self.replay_record(record)
        if self.port.durable:
            self.state.persist = self.port.persist
            self.state.on_checkpoint = self._compact

    def replay_record(self, record: Message) -> None:
        """Do again what was done when this was persisted. For a subclass that has records of its own to extend."""
        self.state.replay(record)

    def records(self) -> list[Message]:
        """What, replayed, makes a replica what this one is. For a subclass that has records of its own to extend."""
        return self.state.records()

    def _compact(self) -> None:
        self.port.compact(self.records())

    def on_message(self, source: Address, message: Message) -> None:
        """Give a message to its handler."""
        handler = self.handlers.get(type(message))
        if handler is None:
            self.ignore("not for a replica")
        else:
            handler(source, message)

    def on_timer(self, name: str) -> None:
        """A replica without timers gets none."""
        raise AssertionError(f"no such timer: {name}")

    def ignore(self, reason: str) -> None:
        """Count a message that changes nothing, by a fixed phrase that says why."""
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    @property
    def leader(self) -> int:
        """The replica that leads the view."""
        return self.view % self.n

    @property
    def base(self) -> int:
        """The log holds the entries after this position."""
        return self.state.log.base

    @property
    def committed(self) -> int:
        """The last position that is known to stay for ever."""
        return self.state.committed

    @property
    def tip(self) -> int:
        """The last position of the log."""
        return self.state.log.tip

    @property
    def machine(self) -> StateMachine:
        """The replicated state machine, as the log up to the tip left it."""
        return self.state.machine

    def hash_at(self, position: int) -> bytes:
        """The summary hash at a position from `base` to `tip`."""
        return self.state.log.hash_at(position)

    def entry_at(self, position: int) -> Message:
        """The request at a position after `base` and up to `tip`."""
        return self.state.log.entry_at(position)

    def result_at(self, position: int) -> bytes | None:
        """What the entry at a position after `base` and up to `tip` resulted in."""
        return self.state.result_at(position)

    def executed_state(self) -> Any:
        """Application and sessions as plain data."""
        return self.state.snapshot()

    def replayed_state(self, machine: StateMachine) -> Any:
        """What `executed_state` would be if the log were executed from its checkpoint or its start on a fresh `machine`."""
        return self.state.replayed_on(machine)

    def snapshot(self) -> Any:
        """The whole state as canonical plain data."""
        return {
            "view": self.view,
            "committed": self.committed,
            "checkpoints": self.state.checkpoint_positions(),
            "log": [self.base, self.state.log.tip_hash, [self.hash_at(position) for position in range(self.base, self.tip + 1)]],
            **self.state.snapshot(),
        }

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return {
            "view": self.view,
            "leader": self.leader,
            "tip": self.tip,
            "committed": self.committed,
            "base": self.base,
            "checkpoint_bytes": 0 if self.state.checkpoint is None else len(self.state.checkpoint.state),
            "longest_checkpoint_pause_us": self.state.longest_pause_ns / 1_000,
            "sessions": len(self.state.sessions.records),
            "rolled_back_operations": self.state.rolled_back_operations,
            "ignored_messages": dict(self.ignored),
        }

    def check_invariants(self) -> None:
        """The state's own invariants."""
        self.state.check_invariants()
