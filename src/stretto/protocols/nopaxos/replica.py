"""The replica of NOPaxos.

Normal case: two message delays and a sequencer; every replica executes at once, in the order of the sequencer's numbers.

    client       sequencer          r0 (leader)     r1              r2
      |--Request---->|---Stamped--------->|-------------->|-------------->|   (one multicast)  append, execute
      |<-----------------------------------<--------------|<--------------|   NoPaxosReply(view, position, hash, result)
      done, with f+1 equal answers, including the leader's

`SequencerSession` finds a sequencer for the view and watches it. `Ordering` makes a log of the stamped requests and decides about lost
ones. `Synchronisation` commits. When the leader or the sequencer is silent, the next view starts with the merged logs (`merging.merge`).

Why f+1 answers are enough: within a view, the leader's log only grows, and a follower changes its log only to the leader's. So an accepted
request stays in the logs of f+1 replicas as long as they are in the view, and at least one of them has a vote in the next.

Source: Li et al., OSDI 2016. docs/nopaxos.md lists the differences from the paper, and the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine, checksum
from stretto.protocols.nopaxos.merging import merge
from stretto.protocols.nopaxos.messages import (
    NO_OP,
    GapCommit,
    GapRequest,
    NoPaxosReply,
    SequencerAlive,
    SessionOpened,
    Stamped,
    StampRequest,
    SuspectSequencer,
    Sync,
    SyncReply,
)
from stretto.protocols.nopaxos.ordering import Ordering
from stretto.protocols.nopaxos.session import SequencerSession
from stretto.protocols.nopaxos.synchronisation import Synchronisation
from stretto.replication.gate import FROM_LEADER, PEER_RULES, Action, Rules, Sender, in_view
from stretto.replication.group import NORMAL
from stretto.replication.messages import OPEN_SESSION, Commit, DoViewChange, Request
from stretto.replication.replica import Replica
from stretto.replication.sessions import SessionRecord


class NoPaxosReplica(Replica):
    """One replica. Its own parts are `session`, `ordering` and `sync`."""

    rules: ClassVar[Rules] = {
        Stamped: in_view((Sender.SEQUENCER, Sender.REPLICA), higher=Action.IGNORE),
        SequencerAlive: in_view((Sender.SEQUENCER,), higher=Action.IGNORE),
        SessionOpened: in_view((Sender.SEQUENCER,), NORMAL, to_leader=True, higher=Action.IGNORE),
        Sync: in_view(FROM_LEADER),
        SyncReply: in_view(to_leader=True),
        Commit: in_view(FROM_LEADER, NORMAL),
        GapRequest: in_view(to_leader=True),
        StampRequest: in_view(FROM_LEADER),
        GapCommit: in_view(FROM_LEADER, NORMAL),
        SuspectSequencer: in_view(),
        **PEER_RULES,
    }
    repeats = True

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine)
        group, state, views = self.group, self.state, self.view_change
        self.session = self.add(SequencerSession(group, views, config, self._on_session_opened))
        self.ordering = self.add(Ordering(group, state, views, self.session, config, self.place, self.answer_range))
        self.sync = self.add(
            Synchronisation(group, state, self.transfer, self.detector, views, self.outcomes, self.session, self.ordering, config)
        )
        self.begin(start)

    def _on_session_opened(self) -> None:
        self.sync.begin_round()

    # Normal case

    def place(self, request: Request) -> None:
        """Append the next stamped request to the log, and answer."""
        state = self.state
        result = state.append(request)
        log = state.log
        if result is None:
            self.answer(request, log.last, None)
        else:
            announced = result if self.group.is_leader else None
            place = (self.group.view, self.session.sequencer, log.last, log.last_hash)
            reply = NoPaxosReply(*place, request.session, request.number, checksum(result), announced, False)
            self.port.send(request.client, reply)
        if log.last >= self.sync.next_sync_position and self.group.is_leader:
            self.sync.begin_round()

    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """Answer a request that the log has at this position.

        If the log has the request twice, the answer gives its first position: the client may already have other answers about that.
        """
        if result is None:
            record = self.state.sessions.record_for(request)
            if record is not None and record.number == request.number:
                position, result = record.position, record.result
            elif self.tell_of_other_life(request):
                return None
            elif request == NO_OP or record is not None or request.session == OPEN_SESSION:
                return self.group.ignore("a no-op, or a request that is superseded")
        committed = position <= self.state.agreed
        summary = self.state.log.hash_at(position) if position >= self.state.log.start else b""
        announced = result if committed or self.group.is_leader else None
        place = (self.group.view, self.session.sequencer, position, summary)
        outcome = checksum(result)
        return self.port.send(request.client, NoPaxosReply(*place, request.session, request.number, outcome, announced, committed))

    def on_retransmission(self, request: Request, record: SessionRecord) -> None:
        """Not called: clients send to the sequencer, and a request that was stamped again is placed again."""

    # Views

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """See `merging.merge`."""
        return merge(votes)

    def on_placed(self, first: int, last: int) -> None:
        """Each replica answers: f+1 of these answers, including the leader's, complete a call."""
        self.answer_range(first, last)

    def on_committed(self, first: int, last: int) -> None:
        """Answer the clients: one committed answer completes a call."""
        self.answer_range(first, last)
