"""The replica of Speculative Paxos.

Normal case: two message delays; every replica executes at once, in the order in which requests arrive.

    client          r0 (leader)     r1              r2
      |---Request----->|-------------->|-------------->|   (one multicast)  append, execute
      |<---------------|<--------------|<--------------|   SpeculativeReply(view, position, hash, result)
      done, with a superquorum of equal answers

`Synchronisation` makes positions committed, so that they need not be undoable any more. A replica that differs from what is committed
repairs itself inside the view. When no superquorum can agree, or the leader is silent, the logs are reconciled (`reconcile.merge`), and
the next view starts with the result.

Source: Ports et al., NSDI 2015, section 4. docs/speculative.md says where this does otherwise, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.speculative.messages import Conflict, SpeculativeReply, Sync, SyncReply
from stretto.protocols.speculative.reconcile import merge
from stretto.protocols.speculative.synchronisation import Synchronisation
from stretto.replication.messages import Commit, DoViewChange, Forward, Request
from stretto.replication.peer import PeerReplica


class SpeculativeReplica(PeerReplica):
    """One replica. Its own part is `sync`; the fields of a replica among peers are `PeerReplica`'s."""

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.sync = sync = Synchronisation(self, config)
        self.client_handlers[Conflict] = sync.on_conflict
        self.handlers |= {Sync: sync.on_sync, SyncReply: sync.on_sync_reply, Commit: sync.on_commit, Forward: sync.on_forward}
        self.timers |= {"sync": sync.on_sync_timer, "patience": sync.on_patience_timer, "overdue": sync.on_overdue_timer}
        self.begin(start)

    # Normal case

    def accept(self, request: Request) -> None:
        """Give a request its place in the log, if it has none, and answer."""
        state = self.state
        record = state.sessions.record_for(request)
        if record is not None and request.number <= record.number:
            if request.number < record.number:
                return self.ignore("superseded request")
            return self._answer(request, record.position, record.result)
        result = state.append(request)
        log = state.log
        reply = SpeculativeReply(self.view, log.tip, log.tip_hash, request.session, request.number, result, False)
        self.port.send(request.client, reply)
        if log.tip >= self.sync.attention:
            self.sync.on_attention()
        return None

    def _answer(self, request: Request, position: int, result: bytes | None) -> None:
        """Answer a request by its place in the log as it stands now."""
        committed = position <= self.committed
        summary = self.hash_at(position) if position >= self.base else b""
        reply = SpeculativeReply(self.view, position, summary, request.session, request.number, result, committed)
        self.port.send(request.client, reply)

    def _answer_from(self, first: int, last: int) -> None:
        """Answer the clients of all entries from position `first` to `last`."""
        for position in range(first, last + 1):
            self._answer(self.state.log.entry_at(position), position, self.result_at(position))

    # Views

    def begin_view(self) -> None:
        """See `PeerReplica`."""
        self.sync.begin()

    def leave_view(self) -> None:
        """See `PeerReplica`."""
        self.sync.stop()

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """Reconcile the logs."""
        return merge(votes, self.session_numbers(votes), self.quorums.merge_support)

    def on_entered(self, first: int, last: int) -> None:
        """Every replica answers: a superquorum of these may complete a call."""
        self._answer_from(first, last)

    def on_committed(self, first: int, last: int) -> None:
        """The clients concerned need no superquorum."""
        self._answer_from(first, last)

    def on_repaired(self) -> None:
        """See `PeerReplica`."""
        self.sync.resume()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {"conflicts_by_client": dict(self.sync.conflicts)}

    def own_state(self) -> dict[str, Any]:
        """See `PeerReplica`."""
        return self.sync.snapshot()

    def check_invariants(self) -> None:
        """What the docstrings of the parts promise."""
        super().check_invariants()
        self.sync.check_invariants()
