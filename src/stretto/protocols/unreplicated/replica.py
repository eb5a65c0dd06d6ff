"""The server.

client          server
  |---Request---->|  append, execute, commit
  |<----Reply-----|
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.messages import Reply, Request
from stretto.replication.records import Committed
from stretto.replication.replica import LoggingReplica


class Server(LoggingReplica):
    """Executes requests in the order of their arrival; every one is committed at once."""

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.handlers = {Request: self.on_request}
        if not start.bootstrap and not start.records:
            port.stop("a single server that has lost its memory has lost everything; --bootstrap starts anew, empty")
        self.replay(start.records)
        if start.bootstrap and port.durable:
            port.persist(Committed(0))  # so that a later life knows that there was this one

    def on_request(self, source: Address, request: Request) -> None:
        """Execute a new request; answer one that was executed already."""
        record = self.state.sessions.record_for(request)
        if record is None or request.number > record.number:
            result = self.state.append(request)
            self.state.commit_up_to(self.state.log.tip)
        elif request.number == record.number:
            result = record.result
        else:
            return self.ignore("superseded request")
        self.port.send(request.client, Reply(self.view, request.session, request.number, result))
        return None

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {"view_changes": 0, "reconciliations": 0}
