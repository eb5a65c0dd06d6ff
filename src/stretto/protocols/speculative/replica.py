"""The replica of Speculative Paxos.

Normal case: two message delays; every replica executes at once, in the order in which requests arrive.

    client          r0 (leader)     r1              r2
      |---Request----->|-------------->|-------------->|   (one multicast)  append, execute
      |<---------------|<--------------|<--------------|   SpeculativeReply(view, position, hash, result)
      done, with a superquorum of equal answers

`Synchronisation` commits positions, so that the data to undo them can be dropped. A replica whose log differs from the committed one
repairs it within the view. When no superquorum can agree, or the leader is silent, the logs are reconciled (`merge_supported`), and the
next view starts with the result.

Source: Ports et al., NSDI 2015, section 4. docs/speculative.md lists the differences from the paper, and the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.speculative.messages import Conflict, SpeculativeReply, Sync, SyncReply
from stretto.protocols.speculative.synchronisation import Synchronisation
from stretto.replication.gate import FROM_CLIENT, FROM_LEADER, PEER_RULES, REQUEST_RULES, Action, Rules, in_view
from stretto.replication.group import NORMAL
from stretto.replication.merging import merge_supported
from stretto.replication.messages import Commit, DoViewChange, Forward, Request
from stretto.replication.replica import Replica
from stretto.replication.sessions import SessionRecord


class SpeculativeReplica(Replica):
    """One replica. Its own part is `sync`."""

    rules: ClassVar[Rules] = {
        **REQUEST_RULES,
        Conflict: in_view(FROM_CLIENT, NORMAL, to_leader=True, higher=Action.IGNORE),
        Sync: in_view(FROM_LEADER),
        SyncReply: in_view(to_leader=True),
        Commit: in_view(FROM_LEADER),
        Forward: in_view(statuses=NORMAL, to_leader=True),
        **PEER_RULES,
    }

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine)
        self.sync = self.add(
            Synchronisation(self.group, self.state, self.pending, self.transfer, self.detector, self.view_change, self.outcomes, config)
        )
        self.begin(start)

    # Normal case

    def place(self, request: Request) -> None:
        """Append a request to the log, and answer."""
        state = self.state
        result = state.append(request)
        log = state.log
        reply = SpeculativeReply(self.group.view, log.last, log.last_hash, request.session, request.number, result, False)
        self.port.send(request.client, reply)
        if log.last >= self.sync.next_sync_position:
            self.sync.on_sync_position()

    def on_retransmission(self, request: Request, record: SessionRecord) -> None:
        """Answer again, with the request's present position."""
        self.answer(request, record.position, record.result)

    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """See `Replica`."""
        committed = position <= self.state.agreed
        summary = self.state.log.hash_at(position) if position >= self.state.log.start else b""
        reply = SpeculativeReply(self.group.view, position, summary, request.session, request.number, result, committed)
        self.port.send(request.client, reply)

    # Views

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """See `merge_supported`."""
        return merge_supported(votes, self.session_numbers(votes), self.group.quorums.merge_support)

    def on_placed(self, first: int, last: int) -> None:
        """Each replica answers: a superquorum of these answers may complete a call."""
        self.answer_range(first, last)

    def on_committed(self, first: int, last: int) -> None:
        """Answer the clients: one committed answer completes a call."""
        self.answer_range(first, last)
