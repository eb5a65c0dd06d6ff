"""The replica of Adaptive Speculative Paxos.

Fast way, as in Speculative Paxos: two message delays, if replicas receive in one order.

    client          r0 (leader)     r1              r2
      |---Request---->|-------------->|-------------->|   (one multicast)  append, execute
      |<--------------|<--------------|<--------------|   AdaptiveReply(view, position, hash, result)
      done, with a superquorum of equal answers, the leader's among them

Slow way, inside the view: requests go to the leader, which sends its log, and followers take it over.

      |---Request---->|----Prepare--->|-------------->|   roll back to the difference, execute
      |<--------------|<--------------|<--------------|   AdaptiveReply, the followers' confirmed
      done, with f+1 equal answers that are confirmed; the leader's always is

While followers have the leader's log by themselves, it says only now and then how far they should be (`Heartbeat`), and confirming costs
nothing. When they have not, or a replica is missing, `Ordering` chooses the slow way, until it has not been needed for a while.

The leader's log only grows in its view, and every quorum has the leader in it. So what has completed stands in its log, and survives it, as
f+1 have confirmed it, or ⌈f/2⌉+1 of any f+1 have it (`leader_merge`). Views change for a dead leader or a recovering replica alone.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.adaptive.messages import COMMITTED, CONFIRMED, SPECULATIVE, AdaptiveReply, Conflict
from stretto.protocols.adaptive.ordering import Ordering
from stretto.replication.led_replica import LedReplica
from stretto.replication.messages import GetLog, Request


class AdaptiveReplica(LedReplica):
    """One replica. `ordering` is the leader's part that chooses between the two ways."""

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.ordering = Ordering(self, config)
        self.client_handlers[Conflict] = self.ordering.on_conflict
        self.handlers[GetLog] = self.on_get_log
        self.timers |= {"order": self.ordering.on_timer, "cut": self.ordering.on_cut_timer}
        self.begin(start)

    # Normal case

    def accept(self, request: Request) -> None:
        """Give a request the next place in our log, if it has none, and answer."""
        state = self.state
        record = state.sessions.record_for(request)
        if record is not None and request.number <= record.number:
            if request.number < record.number:
                return self.ignore("superseded request")
            self.ordering.needed()  # for lack of answers it was sent again
            return self._answer(request, record.position, record.result)
        if self.leader_log.ordered and not self.is_leader:
            return self._wait_for_order(request)
        result = state.append(request)
        log = state.log
        reply = AdaptiveReply(
            self.view, log.tip, log.tip_hash, request.session, request.number, result, SPECULATIVE, self.ordering.inviting
        )
        self.port.send(request.client, reply)
        if log.tip >= self.ordering.attention:
            self.ordering.on_attention()
        return None

    def _wait_for_order(self, request: Request) -> None:
        """Our own order would not hold: the leader's is on its way, or lacks this request."""
        if not self.held.add(request):
            self.ignore("request beyond max_held_requests")

    def _answer(self, request: Request, position: int, result: bytes | None) -> None:
        """Answer a request by its place in the log, and what is known of that now."""
        level = COMMITTED if position <= self.committed else CONFIRMED if position <= self.confirmed else SPECULATIVE
        summary = self.hash_at(position) if position >= self.base else b""
        session, number, inviting = request.session, request.number, self.ordering.inviting
        self.port.send(request.client, AdaptiveReply(self.view, position, summary, session, number, result, level, inviting))

    def answer_from(self, first: int, last: int) -> None:
        """Answer the clients of all entries from position `first` to `last`."""
        for position in range(first, last + 1):
            self._answer(self.state.log.entry_at(position), position, self.result_at(position))

    def on_confirmed(self, first: int, last: int, is_awaited: bool) -> None:
        """The leader's log has come: f such answers, and its own, complete a call."""
        if is_awaited:
            self.answer_from(max(first, self.committed + 1), last)

    def on_committed(self, first: int, last: int) -> None:
        """A majority has it. Clients know by the answers of those; with the round over, the next may begin."""
        self.ordering.on_committed()

    # What tells the leader whether its log is needed

    def on_get_log(self, source: Address, message: GetLog) -> None:
        """A follower has another log than we, or lacks something."""
        self.leader_log.on_get_log(source, message)
        self.ordering.needed()

    def on_acknowledged(self, source: Address, moved: bool) -> None:
        """A follower has our log, and may have needed to be sent it."""
        self.ordering.on_acknowledged(source, moved)

    # Views

    def begin_view(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.begin()
        self.ordering.begin()

    def leave_view(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.stop()
        self.ordering.stop()

    def on_entered(self, first: int, last: int) -> None:
        """To enter a view is to confirm what it starts with."""
        super().on_entered(first, last)
        self.answer_from(first, last)

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | self.ordering.metrics()

    def own_state(self) -> dict[str, Any]:
        """See `PeerReplica`."""
        return {**self.leader_log.snapshot(), **self.ordering.snapshot()}

    def check_invariants(self) -> None:
        """See `PeerReplica`."""
        super().check_invariants()
        self.ordering.check_invariants()
