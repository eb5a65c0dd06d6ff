"""The replica of Speculative Paxos.

Normal case: two message delays; every replica executes at once, in the order in which requests arrive.

    client          r0 (leader)     r1              r2
      |---Request----->|-------------->|-------------->|   (one multicast)  append, execute
      |<---------------|<--------------|<--------------|   SpeculativeReply(view, position, hash, result)
      done, with a superquorum of equal answers

`Synchronisation` makes positions committed, so that they need not be undoable any more. A replica that differs from what is committed
repairs itself inside the view, here. When no superquorum can agree, or the leader is silent, `Views` reconciles the logs and starts the
next view with the result.

Source: Ports et al., NSDI 2015, section 4. docs/speculative.md says where this does otherwise, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.speculative.messages import (
    Commit,
    Conflict,
    Forward,
    GetStartView,
    Reconcile,
    SpeculativeReply,
    StartReconciliation,
    StartView,
    Suspect,
    Sync,
    SyncReply,
    ViewEntered,
)
from stretto.protocols.speculative.synchronisation import Synchronisation
from stretto.protocols.speculative.views import Status, Views
from stretto.replication.messages import Entries, Fetch, Request
from stretto.replication.quorums import Quorums
from stretto.replication.replica import LoggingReplica
from stretto.replication.sessions import identity
from stretto.replication.transfer import Transfer, piece_of


class SpeculativeReplica(LoggingReplica):
    """One replica. The fields, with their invariants:

    - `view` never goes down.
    - `accepting`: whether requests are appended as they come: NORMAL and no repair under way. Else they wait in `held`.
    - `transfer`: committed entries on their way: for a repair (NORMAL), or before a view can be entered or its logs merged (RECONCILING).
      Our log is shorter than they are, or another: so nothing that it loses by them can have completed.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.quorums = Quorums.of(config.n)
        self.peers = [peer for peer in range(config.n) if peer != index]
        self.incarnations = (0,) * config.n
        self.accepting = True
        self.held: dict[tuple[int, int], Request] = {}
        self.transfer: Transfer | None = None
        self.repairs = 0
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self._max_held_requests = config.limits.max_held_requests
        self._max_transfer_bytes = config.limits.max_transfer_bytes
        self.views = Views(self, config)
        self.sync = Synchronisation(self, config)
        self._name_handlers()
        self.sync.begin()

    def _name_handlers(self) -> None:
        views, sync = self.views, self.sync
        self.client_handlers: dict[type[Message], Callable[[Address, Any], None]] = {
            Request: self.on_request,
            Conflict: sync.on_conflict,
        }
        self.handlers = {
            Sync: sync.on_sync,
            SyncReply: sync.on_sync_reply,
            Commit: sync.on_commit,
            Forward: sync.on_forward,
            Suspect: views.on_suspect,
            StartReconciliation: views.on_start_reconciliation,
            Reconcile: views.on_reconcile,
            StartView: views.on_start_view,
            GetStartView: views.on_get_start_view,
            ViewEntered: views.on_view_entered,
            Fetch: self.on_fetch,
            Entries: self.on_entries,
        }
        self.timers = {
            "sync": sync.on_sync_timer,
            "patience": sync.on_patience_timer,
            "overdue": sync.on_overdue_timer,
            "leader": views.on_leader_timer,
            "reconcile": views.on_reconcile_timer,
            "escalate": views.on_escalate_timer,
            "fetch": self.on_fetch_timer,
        }

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads the view."""
        return self.view % self.n == self.index

    # Dispatch

    def on_message(self, source: Address, message: Message) -> None:
        """Give a message to its handler, if whoever sent it may send such a one."""
        handler = (self.handlers if source < self.n else self.client_handlers).get(type(message))
        if handler is None:
            self.ignore("not for a replica" if source < self.n else "not from a client")
        else:
            handler(source, message)

    def on_timer(self, name: str) -> None:
        """Give a timer to its handler."""
        self.timers[name]()

    def send_to_peers(self, message: Message) -> None:
        """One message to every other replica."""
        for peer in self.peers:
            self.port.send(peer, message)

    # Normal case

    def on_request(self, source: Address, request: Request) -> None:
        """Append, execute, answer; or keep it until that is possible again."""
        if source != request.client:
            self.ignore("request that names another client")
        elif self.accepting:
            self.accept(request)
        elif len(self.held) < self._max_held_requests:
            self.held[identity(request)] = request
        else:
            self.ignore("request beyond max_held_requests")

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

    def answer_from(self, first: int, last: int) -> None:
        """Answer the clients of all entries from position `first` to `last`."""
        for position in range(first, last + 1):
            self._answer(self.state.log.entry_at(position), position, self.result_at(position))

    def stop_accepting(self) -> None:
        """The view has been left: requests wait. (What is being fetched goes on: committed entries are the same in every view.)"""
        self.accepting = False
        self.sync.stop()

    def accept_held(self) -> None:
        """Append, as if it arrived now, what was rolled back and has no place any more, and then what has been kept meanwhile."""
        self.accepting = True
        held, self.held = self.held, {}
        for request in held.values():
            self.accept(request)

    def adopt(self, position: int, entries: Sequence[Request]) -> None:
        """Make the log, equal to the group's up to `position`, continue with exactly `entries`. What of ours is not among them waits."""
        placed = {identity(request) for request in entries}
        waiting = [*self.state.adopt(position, entries), *self.held.values()]
        self.held = {identity(request): request for request in waiting if identity(request) not in placed}

    # Repair inside the view, and state transfer

    def repair(self, position: int, summary: bytes, source: Address) -> None:
        """Our log is not the committed one: get that, and append our own operations behind it."""
        self.port.report("repair", view=self.view, committed=self.committed, position=position)
        self.repairs += 1
        self.accepting = False
        self._begin_transfer(position, summary, source)

    def has_committed(self, position: int, summary: bytes, source: Address) -> bool:
        """Whether we have everything up to `position`, which is committed with that hash; if not, it is fetched, from `source` first."""
        if position <= self.committed:
            return True
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
            return True
        if self.transfer is None or self.transfer.target > position:  # who alone knew of a later target may be gone
            self._begin_transfer(position, summary, source)
        return False

    def _begin_transfer(self, target: int, summary: bytes, source: Address) -> None:
        self.transfer = Transfer(self.committed + 1, target, summary, source)
        self._send_fetch(self.transfer)

    def end_transfer(self) -> None:
        """Nothing is lacking any more."""
        self.transfer = None
        self.port.cancel_timer("fetch")

    def _send_fetch(self, transfer: Transfer) -> None:
        """Ask for the next piece; the timer asks another replica if nothing comes."""
        self.port.send(transfer.source, transfer.fetch)
        self.port.set_timer("fetch", self._retransmit_ns)

    def on_fetch_timer(self) -> None:
        """Nothing came: ask the next replica."""
        assert self.transfer is not None
        self.transfer.next_source(self.n, self.index)
        self._send_fetch(self.transfer)

    def on_fetch(self, source: Address, message: Fetch) -> None:
        """Send committed entries. They are the same in every view, so neither view nor status matters."""
        piece = piece_of(self.state.log, self.committed, message, self._max_transfer_bytes)
        if piece is None:
            self.ignore("asks for entries that are not committed here")
        else:
            self.port.send(source, piece)

    def on_entries(self, source: Address, message: Entries) -> None:
        """Take a piece; with the last one, go on with what it was for."""
        transfer = self.transfer
        if transfer is None or not transfer.add(message):
            return self.ignore("entries that were not asked for")
        if not transfer.complete:
            return self._send_fetch(transfer)
        assert transfer.verified(self.state.log), "two replicas have committed different entries"
        self.end_transfer()
        self.adopt(transfer.first - 1, transfer.entries)
        self.state.commit_up_to(transfer.target)
        if self.views.status is Status.NORMAL:
            self.accept_held()
            return self.sync.resume()
        return self.views.go_on(source)

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {
            "status": self.views.status.value,
            "reconciliations": self.views.reconciliations,
            "view_changes": self.views.view_changes,
            "repairs": self.repairs,
            "held_requests": len(self.held),
            "absent": sorted(self.sync.absent),
            "conflicts_by_client": dict(self.sync.conflicts),
        }

    def snapshot(self) -> Any:
        """The whole state as canonical plain data."""
        transfer = self.transfer and [self.transfer.fetch, self.transfer.target_hash, self.transfer.source]
        own = {"accepting": self.accepting, "held": list(self.held.values()), "transfer": transfer}
        return msgspec.to_builtins({**super().snapshot(), **own, **self.sync.snapshot(), **self.views.snapshot()})

    def check_invariants(self) -> None:
        """What the docstrings of the parts promise."""
        super().check_invariants()
        self.sync.check_invariants()
        self.views.check_invariants()
        assert self.accepting == (self.views.status is Status.NORMAL and self.transfer is None)
