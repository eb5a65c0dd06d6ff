"""The replica of Adaptive Speculative Paxos.

Fast path, as in Speculative Paxos: two message delays, if replicas receive in one order.

    client          r0 (leader)     r1              r2
      |---Request---->|-------------->|-------------->|   (one multicast)  append, execute
      |<--------------|<--------------|<--------------|   AdaptiveReply(view, position, hash, result)
      done, with a superquorum of equal answers, including the leader's

Slow path, within the view: requests go to the leader, which sends its log, and followers take it over.

      |---Request---->|----Prepare--->|-------------->|   roll back to the first difference, execute
      |<--------------|<--------------|<--------------|   AdaptiveReply, level MATCHED
      done, with f+1 equal answers that are matched; the leader's always is

While the followers have the leader's log anyway, the leader only announces its position now and then (`Heartbeat`), and matching costs
almost nothing. When they do not, or a replica does not respond, `SlowPath` sends the log until that has not been needed for a while.

The leader's log only grows within its view, and every quorum includes the leader. So each completed operation is in the leader's log. It
survives the leader, because f+1 replicas have matched it, or ⌈f/2⌉+1 of any f+1 replicas have it (`merge_matched`). Views change only when
the leader fails or a replica recovers.
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.adaptive.messages import COMMITTED, MATCHED, SPECULATIVE, AdaptiveReply, Conflict
from stretto.protocols.adaptive.slow_path import SlowPath
from stretto.replication.gate import FROM_CLIENT, LEADER_LOG_RULES, PEER_RULES, REQUEST_RULES, Action, in_view
from stretto.replication.group import NORMAL
from stretto.replication.leader_log import LeaderLog, LogEvents
from stretto.replication.merging import merge_matched
from stretto.replication.messages import DoViewChange, Request
from stretto.replication.pipeline import PreparePipeline
from stretto.replication.replica import Replica
from stretto.replication.sessions import SessionRecord


class AdaptiveReplica(Replica):
    """One replica. `slow_path` is the part that chooses between the two paths at the leader."""

    rules = REQUEST_RULES | {Conflict: in_view(FROM_CLIENT, NORMAL, to_leader=True, higher=Action.IGNORE)} | LEADER_LOG_RULES | PEER_RULES

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine)
        group, state = self.group, self.state
        events = LogEvents(self.on_committed, self.on_matched, self.on_acknowledged, self.on_log_requested)
        self.leader_log = self.add(
            LeaderLog(
                group,
                state,
                self.pending,
                self.transfer,
                self.detector,
                self.view_change,
                self.outcomes,
                config,
                events,
                passive_followers=False,
            )
        )
        pipeline = self.add(PreparePipeline(port, state, self.leader_log, config))
        self.slow_path = self.add(
            SlowPath(group, state, self.detector, self.view_change, self.leader_log, pipeline, config, self.answer_range)
        )
        self.begin(start)

    # Normal case

    def place(self, request: Request) -> None:
        """Append a request to our log, and answer."""
        if self.leader_log.slow_path and not self.group.is_leader:
            return self.keep(request)  # the leader's order is on its way: one of our own would be rolled back
        state = self.state
        result = state.append(request)
        log, slow_path = state.log, self.slow_path
        reply = AdaptiveReply(
            self.group.view, log.last, log.last_hash, request.session, request.number, result, SPECULATIVE, slow_path.leader_only
        )
        self.port.send(request.client, reply)
        if log.last >= slow_path.next_sync_position:
            slow_path.on_sync_position()
        return None

    def on_retransmission(self, request: Request, record: SessionRecord) -> None:
        """Answer again. The client sent the request again because it lacks answers, so the slow path is needed."""
        self.slow_path.need()
        self.answer(request, record.position, record.result)

    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """Answer a request with its position in the log, and with what is known of that now."""
        level = COMMITTED if position <= self.state.agreed else MATCHED if position <= self.matched_in_last_view() else SPECULATIVE
        summary = self.state.log.hash_at(position) if position >= self.state.log.start else b""
        session, number, leader_only = request.session, request.number, self.slow_path.leader_only
        self.port.send(request.client, AdaptiveReply(self.group.view, position, summary, session, number, result, level, leader_only))

    def on_matched(self, first: int, last: int, is_awaited: bool) -> None:
        """We have matched entries that the leader sent: answer. A call completes with f such answers and the leader's."""
        if is_awaited:
            self.answer_range(max(first, self.state.committed + 1), last)

    def on_committed(self, first: int, last: int) -> None:
        """A majority has these entries. Its answers complete the calls; the next Prepares may be sent."""
        self.slow_path.on_committed()

    # What tells the leader whether the slow path is needed

    def on_log_requested(self) -> None:
        """A follower's log differs from ours, or lacks something."""
        self.slow_path.need()

    def on_acknowledged(self, diverged: bool) -> None:
        """A follower has our log. It may have had another order before."""
        self.slow_path.on_acknowledged(diverged)

    # Views

    def on_placed(self, first: int, last: int) -> None:
        """Answer: a replica that enters a view has matched the log with which it starts."""
        self.answer_range(first, last)

    def matched_in_last_view(self) -> int:
        """See `Replica`."""
        return self.leader_log.matched_in_last_view()

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """See `merge_matched`."""
        return merge_matched(votes, self.session_numbers(votes), self.group.quorums.merge_support)
