"""The replica of chain replication."""

from __future__ import annotations

from typing import Any

from chain.messages import Append, Stored
from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.messages import GetTime, Reply, Request, TimeReply
from stretto.replication.records import Committed
from stretto.replication.state import ReplicatedState

MAX_RESENT = 100
"""How many entries are sent again at a time."""


class ChainReplica:
    """One replica. Its log only grows, and an entry is committed when the tail has it.

    `state` has the log and the state after executing it. The timer "resend" is set while an entry is not committed.
    """

    view = 0
    leader = 0

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        limits = config.limits
        self.port = port
        self.index = index
        self.is_tail = index == config.n - 1
        self.state = ReplicatedState(machine, limits.max_sessions, limits.checkpoint_operations)
        self.ignored: dict[str, int] = {}
        self._resend_ns = config.timeouts.ns("retransmit")
        if not start.bootstrap and not start.records:
            port.stop("a replica that has lost what was on its disk cannot take part again")
        for record in start.records:
            self.state.replay(record)
        if port.durable:
            self.state.persist = port.persist
            self.state.compact = self._compact
            if start.bootstrap:
                port.persist(Committed(0))  # so that there are records when the replica starts again
        if self.state.log.last > self.state.committed:
            self._wait()

    def on_message(self, source: Address, message: Any) -> None:
        """Handle a message, or ignore it."""
        if isinstance(message, Request) and source == message.client:
            self.on_request(message)
        elif isinstance(message, GetTime) and self.port.wall_ns is not None:
            self.port.send(source, TimeReply(message.sent_ns, self.port.wall_ns))
        elif isinstance(message, Append):
            self.on_append(source, message)
        elif isinstance(message, Stored):
            self.on_stored(source, message)
        else:
            self.ignore("not for a replica")

    def _compact(self) -> None:
        self.port.compact(self.state.records())

    def ignore(self, reason: str) -> None:
        """Count a message that changes nothing."""
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    # Down the chain

    def on_request(self, request: Request) -> None:
        """The head appends a new request. It answers a request that is committed already."""
        if self.index != 0:
            return self.ignore("not the head")
        record = self.state.sessions.record_for(request)
        if record is None or request.number > record.number:
            return self._append(request)
        if request.number < record.number:
            return self.ignore("superseded request")
        if record.position > self.state.committed:
            return self.ignore("request that is in progress")
        return self._reply(request, record.result)

    def on_append(self, source: Address, message: Append) -> None:
        """Append the next entry of the log before ours in the chain. If we have it already, tell again what is stored."""
        if source != self.index - 1:
            return self.ignore("not from the replica before this one")
        if message.position > self.state.log.last + 1:
            return self.ignore("an entry whose predecessor is not here yet")
        if message.position == self.state.log.last + 1:
            return self._append(message.request)
        if message.position <= self.state.committed:
            self.port.send(source, Stored(self.state.committed))
        return None

    def _append(self, request: Request) -> None:
        result = self.state.append(request)
        if self.is_tail:
            self._commit(self.state.log.last)
            self._reply(request, result)
        else:
            self.port.send(self.index + 1, Append(self.state.log.last, request))
            self._wait()

    def _reply(self, request: Request, result: bytes | None) -> None:
        self.port.send(request.client, Reply(0, request.session, request.number, result))

    # Up the chain

    def on_stored(self, source: Address, message: Stored) -> None:
        """The tail has it, so all have it."""
        if source != self.index + 1 or message.position > self.state.log.last:
            return self.ignore("not from the replica after this one")
        if message.position <= self.state.committed:
            return self.ignore("committed already")
        return self._commit(message.position)

    def _commit(self, position: int) -> None:
        self.state.commit_up_to(position)
        if self.index > 0:
            self.port.send(self.index - 1, Stored(position))

    # Lost messages

    def _wait(self) -> None:
        self.port.set_timer("resend", self._resend_ns)

    def on_timer(self, name: str) -> None:
        """Send the entries again that the tail may lack."""
        first = self.state.committed + 1
        for position, request in enumerate(self.state.log.entries(first)[:MAX_RESENT], first):
            self.port.send(self.index + 1, Append(position, request))
        if self.state.log.last > self.state.committed:
            self._wait()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        state = self.state
        return {"status": "normal", "last_position": state.log.last, "committed": state.committed, "ignored_messages": dict(self.ignored)}

    def snapshot(self) -> Any:
        """The whole state as canonical plain data."""
        return [self.state.committed, self.state.log.last, self.state.log.last_hash.hex(), self.state.snapshot()]

    def check_invariants(self) -> None:
        """All entries of the tail are committed there."""
        self.state.check_invariants()
        assert not self.is_tail or self.state.committed == self.state.log.last
