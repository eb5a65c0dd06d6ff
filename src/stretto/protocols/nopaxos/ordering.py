"""Stamped requests into the order of their numbers, and what to do about a number that does not come.

      sequencer ---Stamped(number)---> all                                       number k stands at position origin + k

      r1 ---GapRequest---> r0 (leader) ---GapCommit(entries)---> r1              a follower lacks it: the leader's log decides
      r0 ---GapRequest---> all ---Stamped---> r0                                 the leader lacks it: somebody may have it
      r0 ---GapCommit(no-op)---> all                                             nobody does: a no-op takes its place

The leader's log is append-only within its view, so a follower may take from it what it lacks, and what differs, without any vote. The
leader does not wait for acknowledgements of a no-op, as it does in the paper: the hash of everything behind it covers the no-op too,
so that f+1 equal answers are acknowledgements. Source: Li et al., OSDI 2016, section 5.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.nopaxos.messages import NO_OP, NO_SESSION, GapCommit, GapRequest, SequencerAlive, Stamped
from stretto.replication.messages import Commit, Request
from stretto.replication.transfer import piece_of

if TYPE_CHECKING:
    from stretto.protocols.nopaxos.replica import NoPaxosReplica

_MOST_AT_ONCE = 1_000
"""How many positions one GapRequest is about."""

_REORDERINGS = 20
"""What is only reordered comes in a fraction of the patience that is for what nobody may have: in one of so many parts."""


class Ordering:
    """The part of a replica that makes a log of stamps.

    - `origin`: the position before that of number 1: the end of what the view started with;
    - `known`: the last position that something was stamped for, as far as we have heard; at or before our tip if nothing is missing;
    - `early`: stamped requests behind a gap, by position;
    - `asked`: the leader's: the last position that it has asked the others for.
    """

    def __init__(self, replica: NoPaxosReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.session = replica.session
        self.origin = 0
        self.known = 0
        self.early: dict[int, Request] = {}
        self.asked = 0
        self.no_ops = 0
        self._waiting = False
        self._limit = config.limits.max_held_requests
        self._max_bytes = config.limits.max_transfer_bytes
        self._loss_ns = config.timeouts.ns("sync_patience")
        self._reordering_ns = self._loss_ns // _REORDERINGS

    def begin(self) -> None:
        """A view has been entered."""
        start_view = self.replica.views.start_view
        self.origin = start_view.base + len(start_view.entries)
        self.known = self.state.log.tip

    def stop(self) -> None:
        """The view has been left."""
        self.early.clear()
        self.known = self.asked = 0
        self._close()

    # What the sequencer says

    def on_stamped(self, source: Address, message: Stamped) -> None:
        """Append a request at the place that its number gives it, or keep it until what comes before it is there."""
        replica = self.replica
        if message.view != replica.view or message.life != self.session.life:
            return replica.ignore("stamp of another session")
        if source >= replica.n:
            self.session.hear()
        position = self.origin + message.number
        next_position = self.state.log.tip + 1
        if position < next_position:
            return replica.ignore("stamp for a place that is taken")
        if position == next_position and replica.accepting:
            replica.append(message.request)
            if self._waiting:
                self.go_on()
            return None
        if len(self.early) < self._limit:
            self.early[position] = message.request
        else:
            replica.ignore("stamp beyond max_held_requests")
        return self.notice(position)

    def on_sequencer_alive(self, source: Address, message: SequencerAlive) -> None:
        """Its last number may be one that we lack."""
        replica = self.replica
        if message.view != replica.view or message.life != self.session.life:
            return replica.ignore("stamp of another session")
        self.session.hear()
        return self.notice(self.origin + message.number)

    def notice(self, position: int) -> None:
        """Something was stamped for this position. If it does not come by itself, ask for it.

        A leader without a session is one that has been started again: whatever was stamped for its view, it ends it.
        """
        if self.session.life == NO_SESSION:
            return
        self.known = max(self.known, position)
        if self.known > self.state.log.tip and not self._waiting and self.replica.accepting:
            self._wait(self._reordering_ns)

    def go_on(self) -> None:
        """The log has grown, or accepts again: append what was only waiting for that, and wait for what still lacks.

        That has been lacking for a while if there was something between it and what has come.
        """
        log = self.state.log
        former = log.tip
        while (request := self.early.pop(log.tip + 1, None)) is not None:
            self.replica.append(request)
        if self.known <= log.tip:
            self._close()
        elif log.tip > former and self.replica.accepting:
            self._wait(0)
        else:
            self.notice(self.known)

    def forget_placed(self) -> None:
        """The log has grown otherwise: what it has by now waits no more."""
        for position in [position for position in self.early if position <= self.state.log.tip]:
            del self.early[position]

    def _wait(self, delay_ns: int) -> None:
        self._waiting = True
        self.port.set_timer("gap", delay_ns)

    def _close(self) -> None:
        if self._waiting:
            self._waiting = False
            self.port.cancel_timer("gap")

    # Gaps

    def on_gap_timer(self) -> None:
        """It has not come. A follower asks the leader; the leader asks all, and if it asked before, gives up."""
        replica = self.replica
        self._waiting = False
        first, last = self._gap()
        if not replica.accepting or last < first:
            return
        if not replica.is_leader:
            self.ask_leader(first, last)
            self._wait(self._reordering_ns)
        elif self.asked >= first:
            self._give_up(first)
        else:
            self.asked = last
            replica.send_to_peers(GapRequest(replica.incarnations, replica.view, first, last))
            self._wait(self._loss_ns)

    def _gap(self) -> tuple[int, int]:
        """The first positions that are missing: from, to."""
        first = self.state.log.tip + 1
        last = min(self.early) - 1 if self.early else self.known
        return first, min(last, first + _MOST_AT_ONCE - 1)

    def ask_leader(self, first: int, last: int) -> None:
        """Ask for what stands at these positions in the leader's log."""
        replica = self.replica
        self.port.send(replica.leader, GapRequest(replica.incarnations, replica.view, first, last))

    def _give_up(self, first: int) -> None:
        """The leader lets no-ops stand where nobody has what was stamped, and tells all."""
        replica = self.replica
        log = self.state.log
        while log.tip < self.asked:
            request = self.early.pop(log.tip + 1, None)
            self.no_ops += request is None
            replica.append(NO_OP if request is None else request)
        self.port.report("no-op", view=replica.view, first=first, last=log.tip)
        replica.send_to_peers(GapCommit(replica.incarnations, replica.view, first, tuple(log.entries(first))))
        self.go_on()

    def on_gap_request(self, source: Address, message: GapRequest) -> None:
        """The leader answers with its log, whatever it is; a follower with the stamps that it has."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return None
        if replica.is_leader:
            return self._answer_follower(source, message)
        if source != replica.leader or self.session.life == NO_SESSION:
            return replica.ignore("not from the leader, or before it has told of a session")
        log = self.state.log
        for position in range(max(message.first, self.origin + 1, log.base + 1), min(message.last, message.first + _MOST_AT_ONCE) + 1):
            request = log.entry_at(position) if position <= log.tip else self.early.get(position)
            if request is not None:
                self.port.send(source, Stamped(replica.view, self.session.life, position - self.origin, request))
        return None

    def _answer_follower(self, source: Address, message: GapRequest) -> None:
        replica, log = self.replica, self.state.log
        self.notice(message.last)
        if message.first <= log.base:  # what it lacks has been given up to a checkpoint
            committed = self.state.committed
            self.port.send(source, Commit(replica.incarnations, replica.view, committed, log.hash_at(committed)))
        elif message.first <= log.tip:
            entries = piece_of(log.entries(message.first, message.last), self._max_bytes)
            self.port.send(source, GapCommit(replica.incarnations, replica.view, message.first, tuple(entries)))

    def on_gap_commit(self, source: Address, message: GapCommit) -> None:
        """Take over what the leader's log has. What was stamped for later positions keeps its place behind it."""
        replica, log = self.replica, self.state.log
        if not replica.views.counts(source, message):
            return None
        if source != replica.leader or not replica.accepting:
            return replica.ignore("a gap that is not open here")
        last = message.first + len(message.entries) - 1
        if message.first > log.tip + 1 or last <= replica.sync.synced:
            return replica.ignore("a gap that is not open here")
        tip = log.tip
        behind = log.entries(last + 1) if last < tip else []
        removed = self.state.adopt(message.first - 1, [*message.entries, *behind])
        if message.first - 1 <= replica.sync.synced:
            replica.sync.synced = last
        replica.answer_from(tip - len(removed) + 1, log.tip)
        self.forget_placed()
        return self.go_on()

    # Watching

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return [self.origin, self.known, sorted(self.early.items()), self.asked]

    def check_invariants(self) -> None:
        """What waits, waits for something; and that is being waited for."""
        tip = self.state.log.tip
        assert not self.early or self.known >= max(self.early)
        if self.replica.accepting:
            assert all(position > tip + 1 for position in self.early)
            assert self._waiting == (self.known > tip)
