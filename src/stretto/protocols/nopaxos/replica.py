"""The replica of NOPaxos.

Normal case: two message delays and a sequencer; every replica executes at once, in the order of the sequencer's numbers.

    client       sequencer          r0 (leader)     r1              r2
      |--Request---->|---Stamped--------->|-------------->|-------------->|   (one multicast)  append, execute
      |<-----------------------------------<--------------|<--------------|   NoPaxosReply(view, position, hash, result)
      done, with f+1 equal answers, the leader's among them

`SequencerSession` finds the view a sequencer and watches it, `Ordering` turns stamps into a log and settles what was lost,
`Synchronisation` commits. When the leader or the sequencer is silent, the next view starts with the merged logs (`merging.merge`).

Why f+1 answers are enough: within a view the leader's log is append-only, and followers only ever change theirs towards it. So whatever
was accepted stands at f+1 replicas for as long as they are in the view, and one of them has a vote in the next.

Source: Li et al., OSDI 2016. docs/nopaxos.md says where this does otherwise, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.nopaxos.merging import merge
from stretto.protocols.nopaxos.messages import (
    NO_OP,
    GapCommit,
    GapRequest,
    NoPaxosReply,
    SequencerAlive,
    SessionOpened,
    Stamped,
    SuspectSequencer,
    Sync,
    SyncReply,
)
from stretto.protocols.nopaxos.ordering import Ordering
from stretto.protocols.nopaxos.session import SequencerSession
from stretto.protocols.nopaxos.synchronisation import Synchronisation
from stretto.replication.messages import OPEN_SESSION, Commit, DoViewChange, Request, StartView
from stretto.replication.peer import PeerReplica


class NoPaxosReplica(PeerReplica):
    """One replica. Its own parts are `session`, `ordering` and `sync`; the fields of a replica among peers are `PeerReplica`'s.

    `resumed`: it goes on from its disk in the view in which it ended.
    """

    repeats = True

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.resumed = any(isinstance(record, StartView) for record in start.records)
        self.session = session = SequencerSession(self, config)
        self.ordering = ordering = Ordering(self, config)
        self.sync = sync = Synchronisation(self, config)
        self.client_handlers = {
            Stamped: ordering.on_stamped,
            SequencerAlive: ordering.on_sequencer_alive,
            SessionOpened: session.on_session_opened,
        }
        self.handlers |= {
            Stamped: ordering.on_stamped,
            GapRequest: ordering.on_gap_request,
            GapCommit: ordering.on_gap_commit,
            SuspectSequencer: session.on_suspect_sequencer,
            Sync: sync.on_sync,
            SyncReply: sync.on_sync_reply,
            Commit: sync.on_commit,
        }
        self.timers |= {
            "session": session.on_session_timer,
            "watch": session.on_watch_timer,
            "gap": ordering.on_gap_timer,
            "sync": sync.on_sync_timer,
        }
        self.begin(start)

    # Normal case

    def append(self, request: Request) -> None:
        """Give the next stamped request its place in the log, and answer."""
        state = self.state
        result = state.append(request)
        log = state.log
        if result is None:
            self._answer(request, log.tip)
        else:
            told = result if self.is_leader else None
            place = (self.view, self.session.sequencer, log.tip, log.tip_hash)
            self.port.send(request.client, NoPaxosReply(*place, request.session, request.number, told, False))
        if log.tip >= self.sync.attention and self.is_leader:
            self.sync.begin_round()

    def _answer(self, request: Request, position: int) -> None:
        """Answer a request that stands at this position.

        If it stood in the log before, by its first place: the client may have answers about that already, and needs only the others.
        """
        result = self.result_at(position) if position > self.base else None
        if result is None:
            record = self.state.sessions.record_for(request)
            if record is not None and record.number == request.number:
                position, result = record.position, record.result
            elif request == NO_OP or record is not None or request.session == OPEN_SESSION:
                return self.ignore("a no-op, or a request that is superseded")
        committed = position <= self.committed
        summary = self.hash_at(position) if position >= self.base else b""
        told = result if committed or self.is_leader else None
        place = (self.view, self.session.sequencer, position, summary)
        return self.port.send(request.client, NoPaxosReply(*place, request.session, request.number, told, committed))

    def answer_from(self, first: int, last: int) -> None:
        """Answer the clients of all entries from position `first` to `last`."""
        for position in range(first, last + 1):
            self._answer(self.state.log.entry_at(position), position)

    def accept(self, request: Request) -> None:
        """A request that was rolled back has lost its number too: its client sends it again."""
        self.ignore("request without a stamp")

    # Views

    def begin_view(self) -> None:
        """See `PeerReplica`."""
        self.ordering.begin()
        self.sync.begin()
        self.session.begin()

    def leave_view(self) -> None:
        """See `PeerReplica`."""
        self.session.stop()
        self.ordering.stop()
        self.sync.stop()
        self.resumed = False

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """See `PeerReplica`."""
        return merge(votes)

    def on_entered(self, first: int, last: int) -> None:
        """Every replica answers: f+1 of these, with the leader's, complete a call."""
        self.answer_from(first, last)

    def on_committed(self, first: int, last: int) -> None:
        """One answer is enough for each."""
        self.answer_from(first, last)

    def on_repaired(self) -> None:
        """See `PeerReplica`."""
        self.sync.synced = max(self.sync.synced, self.committed)
        self.ordering.forget_placed()
        self.ordering.go_on()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {"sequencer": self.session.sequencer, "no_ops": self.ordering.no_ops}

    def own_state(self) -> dict[str, Any]:
        """See `PeerReplica`."""
        parts = {"session": self.session.snapshot(), "ordering": self.ordering.snapshot(), "sync": self.sync.snapshot()}
        return {"resumed": self.resumed, **parts}

    def check_invariants(self) -> None:
        """What the docstrings of the parts promise."""
        super().check_invariants()
        self.ordering.check_invariants()
        self.sync.check_invariants()
