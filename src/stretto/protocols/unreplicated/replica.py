"""The server.

client          server
  |---Request---->|  append, execute, commit
  |<----Reply-----|
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.gate import CLOCK_RULES, REQUEST_RULES
from stretto.replication.messages import DoViewChange, Reply, Request
from stretto.replication.replica import Replica
from stretto.replication.sessions import SessionRecord


class Server(Replica):
    """A group of one: executes requests in the order of their arrival, and commits each at once."""

    rules = REQUEST_RULES | CLOCK_RULES

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine)
        self.begin(start)

    def place(self, request: Request) -> None:
        """Execute a new request."""
        state = self.state
        result = state.append(request)
        state.commit_up_to(state.log.last)
        self.answer(request, state.log.last, result)

    def on_retransmission(self, request: Request, record: SessionRecord) -> None:
        """Answer again."""
        self.answer(request, record.position, record.result)

    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """See `Replica`."""
        self.port.send(request.client, Reply(self.group.view, request.session, request.number, result))

    def merge(self, votes: Mapping[int, DoViewChange]) -> tuple[Request, ...]:
        """See `Replica`. There is only one log, so nothing is merged."""
        return votes[self.group.index].entries
