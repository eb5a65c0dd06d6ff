"""Ordering: stamped requests are appended in the order of their numbers, and requests that do not come are replaced by no-ops.

      sequencer ---Stamped(number)---> all                                       number k has position origin + k

      r1 ---GapRequest---> r0 (leader) ---GapCommit(entries)---> r1              a follower lacks a request: the leader's log decides
      r0 ---StampRequest---> all ---Stamped---> r0                               the leader lacks a request: another may have it
      r0 ---GapCommit(no-op)---> all                                             no replica has it: a no-op replaces it

The leader's log only grows within its view, so a follower may take entries from it without a vote. In the paper, the leader waits for
acknowledgements of a no-op. Here it does not: the hashes of all later positions cover the no-op, so f+1 equal answers acknowledge it.
Source: Li et al., OSDI 2016, section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.nopaxos.messages import NO_OP, GapCommit, GapRequest, SequencerAlive, Stamped, StampRequest
from stretto.protocols.nopaxos.session import SequencerSession
from stretto.replication.group import Group
from stretto.replication.messages import Commit, Request
from stretto.replication.part import Part
from stretto.replication.state import ReplicatedState
from stretto.replication.transfer import chunk_of
from stretto.replication.view_change import ViewChange

_MOST_AT_ONCE = 1_000
"""How many positions one GapRequest is about."""

_REORDERINGS = 20
"""A reordered request comes soon: a replica waits for it for a fraction, 1 / this number, of the time that it waits for a lost one."""


class Ordering(Part):
    """The part of a replica that makes a log of the stamped requests.

    - `origin`: the last position of the log with which the view started; the next one belongs to number 1;
    - `known`: the highest position for which a request was stamped, as far as we know; at or before our last position if none is missing;
    - `out_of_order`: stamped requests after a gap, by position;
    - `asked`: at the leader, the last position that it has asked the others for;
    - `matched`: the position up to which our log is known to be that of our view's leader. It never goes down within the view.

    Parameters: `append` appends the next request; `answer_range` answers the clients of a range of entries.
    """

    def __init__(
        self,
        group: Group,
        state: ReplicatedState,
        view_change: ViewChange,
        session: SequencerSession,
        config: ClusterConfig,
        append: Callable[[Request], None],
        answer_range: Callable[[int, int], None],
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.view_change = view_change
        self.session = session
        self.origin = 0
        self.known = 0
        self.out_of_order: dict[int, Request] = {}
        self.asked = 0
        self.matched = 0
        self.no_ops = 0
        self._append = append
        self._answer_range = answer_range
        self._waiting = False
        self._limit = config.limits.max_pending_requests
        self._max_bytes = config.limits.max_transfer_bytes
        self._loss_ns = config.timeouts.ns("sync_patience")
        self._reordering_ns = self._loss_ns // _REORDERINGS
        self.handlers = {
            Stamped: self.on_stamped,
            SequencerAlive: self.on_sequencer_alive,
            GapRequest: self.on_gap_request,
            StampRequest: self.on_stamp_request,
            GapCommit: self.on_gap_commit,
        }
        self.timers = {"gap": self.on_gap_timer}

    def begin_view(self) -> None:
        """See `Part`."""
        start_view = self.view_change.start_view
        self.origin = start_view.commit_base + len(start_view.entries)
        self.known = self.state.log.last
        self.matched = self.view_change.start_last

    def leave_view(self) -> None:
        """See `Part`."""
        self.out_of_order.clear()
        self.known = self.asked = 0
        self._close()

    def on_repaired(self) -> None:
        """See `Part`."""
        self.match(self.state.committed)
        self._forget_placed()
        self.go_on()

    def match(self, position: int) -> None:
        """Up to `position`, our log is the leader's."""
        self.matched = max(self.matched, position)

    # What the sequencer says

    def on_stamped(self, source: Address, message: Stamped) -> None:
        """Append a request at the position of its number, or keep it until all requests before it have come."""
        group = self.group
        if message.incarnation != self.session.incarnation:
            return group.ignore("stamp of another session")
        if source >= group.n:
            self.session.hear()
        position = self.origin + message.number
        next_position = self.state.log.last + 1
        if position < next_position:
            return group.ignore("stamp for a place that is taken")
        if position == next_position and group.accepting:
            self._append(message.request)
            if self._waiting:
                self.go_on()
            return None
        if len(self.out_of_order) < self._limit:
            self.out_of_order[position] = message.request
        else:
            group.ignore("stamp beyond max_pending_requests")
        return self.notice(position)

    def on_sequencer_alive(self, source: Address, message: SequencerAlive) -> None:
        """The sequencer's sign of life. We may lack the request with its last number."""
        if message.incarnation != self.session.incarnation:
            return self.group.ignore("stamp of another session")
        self.session.hear()
        return self.notice(self.origin + message.number)

    def notice(self, position: int) -> None:
        """A request was stamped for this position. If it does not come soon, ask for it.

        A leader without a session that learns of one has been started again, and ends the view.
        """
        if not self.session.is_open:
            return
        self.known = max(self.known, position)
        if self.known > self.state.log.last and not self._waiting and self.group.accepting:
            self._wait(self._reordering_ns)

    def go_on(self) -> None:
        """The log has grown, or we accept requests again: append the requests that follow now, and wait for missing ones.

        If requests were appended, the missing ones are later than requests that have arrived, and the replica asks for them at once.
        """
        log = self.state.log
        former = log.last
        while (request := self.out_of_order.pop(log.last + 1, None)) is not None:
            self._append(request)
        if self.known <= log.last:
            self._close()
        elif log.last > former and self.group.accepting:
            self._wait(0)
        else:
            self.notice(self.known)

    def _forget_placed(self) -> None:
        """The log has grown by other entries: drop the waiting requests for positions that it now has."""
        for position in [position for position in self.out_of_order if position <= self.state.log.last]:
            del self.out_of_order[position]

    def _wait(self, delay_ns: int) -> None:
        self._waiting = True
        self.port.set_timer("gap", delay_ns)

    def _close(self) -> None:
        if self._waiting:
            self._waiting = False
            self.port.cancel_timer("gap")

    # Gaps

    def on_gap_timer(self) -> None:
        """Requests are still missing. A follower asks the leader. The leader asks all, or, if it has asked before, appends no-ops."""
        group = self.group
        self._waiting = False
        first, last = self._gap()
        if not group.accepting or last < first:
            return
        if not group.is_leader:
            self.ask_leader(first, last)
            self._wait(self._reordering_ns)
        elif self.asked >= first:
            self._fill_with_no_ops(first)
        else:
            self.asked = last
            group.send_to_peers(StampRequest(group.incarnations, group.view, first, last))
            self._wait(self._loss_ns)

    def _gap(self) -> tuple[int, int]:
        """The first and the last position of the first gap."""
        first = self.state.log.last + 1
        last = min(self.out_of_order) - 1 if self.out_of_order else self.known
        return first, min(last, first + _MOST_AT_ONCE - 1)

    def ask_leader(self, first: int, last: int) -> None:
        """Ask the leader for the entries at these positions."""
        group = self.group
        self.port.send(group.leader, GapRequest(group.incarnations, group.view, first, last))

    def _fill_with_no_ops(self, first: int) -> None:
        """As the leader, replace the stamped requests that no replica has sent by no-ops, and tell all."""
        group = self.group
        log = self.state.log
        while log.last < self.asked:
            request = self.out_of_order.pop(log.last + 1, None)
            self.no_ops += request is None
            self._append(NO_OP if request is None else request)
        self.port.report("no-op", view=group.view, first=first, last=log.last)
        group.send_to_peers(GapCommit(group.incarnations, group.view, first, tuple(log.entries(first))))
        self.go_on()

    def on_stamp_request(self, source: Address, message: StampRequest) -> None:
        """Send the leader the stamped requests that it lacks."""
        if not self.session.is_open:
            return self.group.ignore("before the leader has announced a session")
        log = self.state.log
        for position in range(max(message.first, self.origin + 1, log.start + 1), min(message.last, message.first + _MOST_AT_ONCE) + 1):
            request = log.entry_at(position) if position <= log.last else self.out_of_order.get(position)
            if request is not None:
                stamped = Stamped(self.group.view, self.session.incarnation, position - self.origin, request)
                self.port.send(source, stamped)
        return None

    def on_gap_request(self, source: Address, message: GapRequest) -> None:
        """As the leader, send a follower the entries of our log, requests or no-ops."""
        group, log = self.group, self.state.log
        self.notice(message.last)
        if message.first <= log.start:  # what it lacks has been compacted
            committed = self.state.committed
            self.port.send(source, Commit(group.incarnations, group.view, committed, log.hash_at(committed), None))
        elif message.first <= log.last:
            entries = chunk_of(log.entries(message.first, message.last), self._max_bytes)
            self.port.send(source, GapCommit(group.incarnations, group.view, message.first, tuple(entries)))

    def on_gap_commit(self, source: Address, message: GapCommit) -> None:
        """Take over entries of the leader's log. Our entries at later positions keep their positions."""
        group, log = self.group, self.state.log
        last = message.first + len(message.entries) - 1
        if message.first > log.last + 1 or last <= self.matched:
            return group.ignore("a gap that is not open here")
        former = log.last
        behind = log.entries(last + 1) if last < former else []
        removed = self.state.adopt(message.first - 1, [*message.entries, *behind])
        if message.first - 1 <= self.matched:
            self.matched = last
        self._answer_range(former - len(removed) + 1, log.last)
        self._forget_placed()
        return self.go_on()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`."""
        return {"no_ops": self.no_ops}

    def snapshot(self) -> Any:
        """See `Part`."""
        return [self.origin, self.known, sorted(self.out_of_order.items()), self.asked, self.matched, self._waiting]

    def check_invariants(self) -> None:
        """See `Part`. If requests wait, there is a gap before them, and the timer for it runs."""
        last = self.state.log.last
        assert not self.out_of_order or self.known >= max(self.out_of_order)
        if self.group.accepting:
            assert all(position > last + 1 for position in self.out_of_order)
            assert self.matched <= last
            assert self._waiting == (self.known > last)
