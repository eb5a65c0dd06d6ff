"""The replica of chain replication."""

from __future__ import annotations

from typing import Any

from chain.messages import Append, Stored
from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.messages import Reply, Request
from stretto.replication.records import Committed
from stretto.replication.replica import LoggingReplica

MAX_RESENT = 100
"""How many entries are sent again at a time."""


class ChainReplica(LoggingReplica):
    """One replica. What it has appended stays; it is committed when the tail has it.

    The timer "resend" is set while something is not committed.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.handlers = {Request: self.on_request, Append: self.on_append, Stored: self.on_stored}
        self._resend_ns = config.timeouts.ns("retransmit")
        if not start.bootstrap and not start.records:
            port.stop("a replica that has lost what was on its disk cannot take part again")
        self.replay(start.records)
        if start.bootstrap and port.durable:
            port.persist(Committed(0))  # so that there are records when the replica starts again
        if self.tip > self.committed:
            self._wait()

    @property
    def is_tail(self) -> bool:
        """Whether this is the last replica of the chain."""
        return self.index == self.n - 1

    # Down the chain

    def on_request(self, source: Address, request: Request) -> None:
        """The head gives a new request its place; it answers one that is committed already."""
        if self.index != 0:
            return self.ignore("not the head")
        record = self.state.sessions.record_for(request)
        if record is None or request.number > record.number:
            return self._append(request)
        if request.number < record.number:
            return self.ignore("superseded request")
        if record.position > self.committed:
            return self.ignore("request that is under way")
        return self._reply(request, record.result)

    def on_append(self, source: Address, message: Append) -> None:
        """Take over the next entry of the log before ours; say again what is stored if we have it."""
        if source != self.index - 1:
            return self.ignore("not from the replica before this one")
        if message.position > self.tip + 1:
            return self.ignore("an entry whose predecessor is not here yet")
        if message.position == self.tip + 1:
            return self._append(message.request)
        if message.position <= self.committed:
            self.port.send(source, Stored(self.committed))
        return None

    def _append(self, request: Request) -> None:
        result = self.state.append(request)
        if self.is_tail:
            self._commit(self.tip)
            self._reply(request, result)
        else:
            self.port.send(self.index + 1, Append(self.tip, request))
            self._wait()

    def _reply(self, request: Request, result: bytes | None) -> None:
        self.port.send(request.client, Reply(self.view, request.session, request.number, result))

    # Up the chain

    def on_stored(self, source: Address, message: Stored) -> None:
        """The tail has it, so all have it."""
        if source != self.index + 1 or message.position > self.tip:
            return self.ignore("not from the replica after this one")
        if message.position <= self.committed:
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
        """Send again what the tail may lack."""
        first = self.committed + 1
        for position, request in enumerate(self.state.log.entries(first)[:MAX_RESENT], first):
            self.port.send(self.index + 1, Append(position, request))
        if self.tip > self.committed:
            self._wait()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {"view_changes": 0, "reconciliations": 0}

    def check_invariants(self) -> None:
        """What the tail has is committed there."""
        super().check_invariants()
        assert not self.is_tail or self.committed == self.tip
