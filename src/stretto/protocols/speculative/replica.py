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

from collections.abc import Sequence
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
from stretto.replication.messages import Recover, Request
from stretto.replication.peer import PeerReplica
from stretto.replication.records import Checkpoint
from stretto.replication.sessions import identity, slot


class SpeculativeReplica(PeerReplica):
    """One replica. The fields, with their invariants:

    - `view` never goes down.
    - `accepting`: whether requests are appended as they come: NORMAL and no repair under way. Else they wait in `held`.
    - `transfer.current`: committed entries on their way: for a repair (NORMAL), or before a view can be entered or its logs merged.
      Our log is shorter than they are, or another: so nothing that it loses by them can have completed.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.accepting = False
        self.held: dict[tuple[int, int], Request] = {}
        self.repairs = 0
        self._max_held_requests = config.limits.max_held_requests
        self.views = Views(self, config)
        self.sync = Synchronisation(self, config)
        self._name_handlers()
        self.begin(start)

    def _name_handlers(self) -> None:
        views, sync = self.views, self.sync
        self.client_handlers = {Request: self.on_request, Conflict: sync.on_conflict}
        self.joining_handlers[StartView] = views.on_start_view
        self.handlers |= {
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
        }
        self.timers |= {
            "sync": sync.on_sync_timer,
            "patience": sync.on_patience_timer,
            "overdue": sync.on_overdue_timer,
            "leader": views.on_leader_timer,
            "reconcile": views.on_reconcile_timer,
            "escalate": views.on_escalate_timer,
        }

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads the view."""
        return self.view % self.n == self.index

    # Coming into service

    def begin_empty(self) -> None:
        """All start for the first time: view 0 begins with an empty log."""
        self.views.enter_first()

    def replay_record(self, record: Message) -> None:
        """See `PeerReplica`."""
        if isinstance(record, StartReconciliation):
            self.view = record.view
        elif isinstance(record, StartView):
            self.view = record.view
            self.views.start_view = record
            self.views.last_normal_view = record.view
        else:
            super().replay_record(record)

    def records(self) -> list[Message]:
        """See `PeerReplica`."""
        views = self.views
        left = [StartReconciliation(self.incarnations, self.view)] if self.view > views.last_normal_view else []
        return [*super().records(), views.start_view, *left] if self.serving else super().records()

    def resume(self) -> bool:
        """As if we had been paused: in our view, or on the way to it."""
        return self.views.resume()

    def on_recover(self, source: Address, message: Recover) -> None:
        """A replica lost its memory: start a view for it, unless we are in one for which all who voted know of that."""
        self.views.on_recover(source, message)

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

    # Repair inside the view, and state transfer

    def repair(self, position: int, summary: bytes, source: Address) -> None:
        """Our log is not the committed one: get that, and append our own operations behind it."""
        self.port.report("repair", view=self.view, committed=self.committed, position=position)
        self.repairs += 1
        self.accepting = False
        self.transfer.begin(position, summary, source)

    def has_committed(self, position: int, summary: bytes, source: Address) -> bool:
        """Whether we have everything up to `position`, which is committed with that hash; if not, it is fetched, from `source` first."""
        if position <= self.committed:
            return True
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
            return True
        current = self.transfer.current
        if current is None or current.target > position:  # who alone knew of a later target may be gone
            self.transfer.begin(position, summary, source)
        return False

    def forget_superseded(self) -> None:
        """Of the requests that wait, keep the newest of each session. (For a new view; within one, others may have the older ones too.)

        Its client has gone on from an older one: that was answered, and so is in the log that the view started with, or it was given up.
        """
        newest: dict[tuple[int, int], int] = {}
        for request in self.held.values():
            newest[slot(request)] = max(request.number, newest.get(slot(request), 0))
        self.held = {key: request for key, request in self.held.items() if request.number == newest[slot(request)]}

    def adopt(self, position: int, entries: Sequence[Request]) -> None:
        """Make the log, equal to the group's up to `position`, continue with exactly `entries`. What of ours is not among them waits."""
        self._hold_before_others(self.state.adopt(position, entries), {identity(request) for request in entries})

    def install(self, checkpoint: Checkpoint) -> None:
        """Make the log begin with a checkpoint. Our own requests wait: they may be behind it, or in it."""
        self._hold_before_others(self.state.install(checkpoint), set())

    def _hold_before_others(self, removed: list[Request], placed: set[tuple[int, int]]) -> None:
        waiting = [*removed, *self.held.values()]
        self.held = {identity(request): request for request in waiting if identity(request) not in placed}

    def on_transferred(self, source: Address) -> None:
        """Go on with what the committed entries were for."""
        if self.views.status is Status.NORMAL:
            self.accept_held()
            self.sync.resume()
        else:
            self.views.go_on(source)

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | ({"status": self.views.status.value} if self.serving else {}) | {
            "reconciliations": self.views.reconciliations,
            "view_changes": self.views.view_changes,
            "repairs": self.repairs,
            "held_requests": len(self.held),
            "absent": sorted(self.sync.absent),
            "conflicts_by_client": dict(self.sync.conflicts),
        }

    def snapshot(self) -> Any:
        """The whole state as canonical plain data."""
        own = {"accepting": self.accepting, "held": list(self.held.values())}
        return msgspec.to_builtins({**super().snapshot(), **own, **self.sync.snapshot(), **self.views.snapshot()})

    def check_invariants(self) -> None:
        """What the docstrings of the parts promise."""
        super().check_invariants()
        self.sync.check_invariants()
        self.views.check_invariants()
        assert self.accepting == (self.views.status is Status.NORMAL and self.transfer.current is None)
