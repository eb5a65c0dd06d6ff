"""Synchronisation: it commits speculative positions, and shows a replica whether its log is the committed one.

      r0 (leader) ---Sync(position)---> all ---SyncReply(hash there)---> r0 ---Commit---> all

A superquorum of equal hashes commits, whether the leader's own is one of them or not. Source: Ports et al., NSDI 2015, section 4.2.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.speculative.messages import Conflict, Sync, SyncReply
from stretto.replication.failure_detector import FailureDetector
from stretto.replication.group import Group
from stretto.replication.messages import Commit, Forward
from stretto.replication.outcomes import OutcomeComparison
from stretto.replication.part import Part
from stretto.replication.pending import PendingRequests
from stretto.replication.quorums import Outcome, Quorums, Tally
from stretto.replication.state import ReplicatedState
from stretto.replication.transfer import StateTransfer
from stretto.replication.view_change import ViewChange

NEVER = 1 << 62
"""A position that no log reaches."""

MAX_FORWARDED = 1_000
"""How many requests a follower forwards at a time."""

MAX_CONFLICTING_CLIENTS = 1_000
"""The number of clients whose conflicts are counted separately."""


class SyncRound:
    """The leader's question about one position, and the answers so far."""

    def __init__(self, position: int, quorums: Quorums, started_ns: int) -> None:
        self.position = position
        self.started_ns = started_ns
        self.tally: Tally[bytes] = Tally(quorums.n, quorums.superquorum)


class Synchronisation(Part):
    """The part of a replica that commits.

    - `next_sync_position`: when an append reaches this position, `on_sync_position` is called: at the leader, a round is due; at a
      follower, a Sync can be answered.
    - `round`: at the leader, the open round. `wanted`: whether another round is to follow at once.
    - `awaited`: at a follower, the position of a Sync that it has not answered yet.
    - `leader_had`: at a follower, the position of the leader's last Sync, and our last position at that time.
    - `overdue`: a committed position, and its hash, that our log has not reached yet. `conflicts`: how many each client has reported.
    """

    def __init__(
        self,
        group: Group,
        state: ReplicatedState,
        pending: PendingRequests,
        transfer: StateTransfer,
        detector: FailureDetector,
        view_change: ViewChange,
        outcomes: OutcomeComparison,
        config: ClusterConfig,
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.pending = pending
        self.transfer = transfer
        self.detector = detector
        self.view_change = view_change
        self.outcomes = outcomes
        self.next_sync_position = NEVER
        self.round: SyncRound | None = None
        self.wanted = False
        self.awaited: int | None = None
        self.leader_had: tuple[int, int] | None = None
        self.overdue: tuple[int, bytes] | None = None
        self.conflicts: dict[Address, int] = {}
        self._last_round_ns = self.port.now_ns
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._patience_ns = config.timeouts.ns("sync_patience")
        self._timeout_ns = config.timeouts.ns("sync_timeout")
        self._conflict_interval_ns = config.timeouts.ns("conflict_interval")
        self._operations = config.limits.sync_operations
        self.handlers = {
            Conflict: self.on_conflict,
            Sync: self.on_sync,
            SyncReply: self.on_sync_reply,
            Commit: self.on_commit,
            Forward: self.on_forward,
        }
        self.timers = {"sync": self.on_sync_timer, "patience": self.on_patience_timer, "overdue": self.on_overdue_timer}

    def begin_view(self) -> None:
        """See `Part`. The leader begins to synchronise."""
        if self.group.is_leader:
            self._set_next_sync_position()
            self.port.set_timer("sync", self._interval_ns)

    def leave_view(self) -> None:
        """See `Part`."""
        self.next_sync_position = NEVER
        self.round = None
        self.wanted = False
        self.awaited = None
        self.leader_had = None
        self.overdue = None
        for name in ("sync", "patience", "overdue"):
            self.port.cancel_timer(name)

    def on_repaired(self) -> None:
        """See `Part`. As the leader, ask; as a follower, answer the Sync that waits."""
        if self.group.is_leader:
            self._begin_round()
        elif self.awaited is not None and self.state.log.last >= self.awaited:
            self._answer_sync()

    def on_sync_position(self) -> None:
        """The log has reached `next_sync_position`: begin a round as the leader, answer the Sync as a follower."""
        if self.group.is_leader:
            self.next_sync_position = NEVER
            self.wanted = True
            if not self._round_in_progress():
                self._begin_round()
        else:
            self._answer_sync()

    # The leader's part

    def _begin_round(self) -> None:
        """Ask all for their hash at our last position."""
        group, log = self.group, self.state.log
        self.wanted = False
        now = self._last_round_ns = self.port.now_ns
        self.round = SyncRound(log.last, group.quorums, now)
        self._set_next_sync_position()
        self._send_sync(self.round)
        self._count_answer(self.round, group.index, log.last_hash)

    def _send_sync(self, round_: SyncRound) -> None:
        group, committed = self.group, self.state.committed
        summary = self.state.log.hash_at(committed)
        outcome = self.outcomes.agreed_outcome(committed)
        group.send_to_peers(Sync(group.incarnations, group.view, round_.position, committed, summary, outcome))

    def _set_next_sync_position(self) -> None:
        """Set when the next round is due. Without enough responsive replicas for a superquorum, every commit needs a reconciliation, so the
        next operation begins a round."""
        self.next_sync_position = self.state.log.last + (self._operations if self.detector.has_superquorum else 1)

    def _round_in_progress(self) -> bool:
        """Whether a round is open that can commit something. (A round about a committed position is only a sign of life.)"""
        return self.round is not None and self.round.position > self.state.committed

    def on_sync_timer(self) -> None:
        """Synchronise at least this often."""
        self.port.set_timer("sync", self._interval_ns)
        if self.group.accepting:
            self.detector.show_life(self._synchronise)

    def _synchronise(self) -> None:
        """Begin a new round, or send the open one's Sync again; notice if too few replicas answer."""
        pending = self.round
        if pending is None or not self._round_in_progress():
            self._begin_round()
            return
        self._send_sync(pending)
        if self.port.now_ns - pending.started_ns >= self._timeout_ns:
            self.detector.give_up_waiting_for(set(self.group.peers) - set(pending.tally.answers))
            self._reconcile_if_lost(pending)

    def on_sync_reply(self, source: Address, message: SyncReply) -> None:
        """Count a follower's hash. A follower that answers is in the view."""
        incarnation = message.incarnations[source]
        if message.hash is not None and message.outcome is not None and self.state.log.matches(message.position, message.hash):
            self.outcomes.note(source, incarnation, message.position, message.outcome)
        self.view_change.note_entered(source, incarnation)
        if self.round is None or message.position != self.round.position:
            return self.group.ignore("answer to another synchronisation")
        return self._count_answer(self.round, source, message.hash)

    def _count_answer(self, round_: SyncRound, voter: int, summary: bytes | None) -> None:
        if round_.tally.add(voter, summary) is Outcome.WON:
            assert summary is not None
            self.round = None
            self._commit(round_.position, summary, voter)
        else:
            self._reconcile_if_lost(round_)

    def _commit(self, position: int, summary: bytes, voter: int) -> None:
        """A superquorum has this hash, so it is committed, even if our own log differs."""
        group = self.group
        if position > self.state.committed:
            matches = self.state.log.matches(position, summary)
            if matches:
                self.state.commit_up_to(position)
            outcome = self.outcomes.agreed_outcome(position) if matches else None
            group.send_to_peers(Commit(group.incarnations, group.view, position, summary, outcome))
            if not matches:
                self.transfer.repair(position, summary, voter)
                return
        if self.wanted:
            self._begin_round()

    def _reconcile_if_lost(self, round_: SyncRound) -> None:
        """Start the next view if this round cannot reach a superquorum and we hear a majority."""
        if not self._round_in_progress() or len(round_.tally) < self.group.quorums.majority:
            return
        never = len(self.detector.unresponsive - set(round_.tally.answers))
        if round_.tally.outcome(never) is Outcome.LOST:
            self.view_change.start_next("no superquorum")

    def on_conflict(self, source: Address, message: Conflict) -> None:
        """A client got answers that can no longer agree: begin a round now, but not too often."""
        if message.position <= self.state.committed:
            return self.group.ignore("conflict about what is committed")
        if source in self.conflicts or len(self.conflicts) < MAX_CONFLICTING_CLIENTS:
            self.conflicts[source] = self.conflicts.get(source, 0) + 1
        self.wanted = True
        if not self._round_in_progress():
            wait_ns = self._last_round_ns + self._conflict_interval_ns - self.port.now_ns
            if wait_ns <= 0:
                self._begin_round()
            else:
                self.port.set_timer("sync", wait_ns)
        return None

    # The follower's part

    def on_sync(self, source: Address, message: Sync) -> None:
        """Answer with our hash at that position, now or when the log reaches it; learn what is committed."""
        group, log = self.group, self.state.log
        self.detector.hear_leader()
        self._learn_commit(message.committed, message.committed_hash, message.outcome)
        if message.position < log.start:
            return group.ignore("about a position that was compacted")
        if self.awaited != message.position:
            self.awaited = message.position
            self.port.set_timer("patience", self._patience_ns)
        self.next_sync_position = message.position
        if group.accepting and log.last >= message.position:
            self._answer_sync()
            self._forward_what_the_leader_lacks(message)
        return None

    def _forward_what_the_leader_lacks(self, message: Sync) -> None:
        """Forward our entries after the leader's last position, if the leader still lacks them one Sync later.

        Otherwise, if the leader misses the last request before an idle time, that request stays speculative.
        """
        group, log = self.group, self.state.log
        previous, self.leader_had = self.leader_had, (message.position, log.last)
        if message.position == message.committed and previous is not None and previous[0] == message.position < previous[1]:
            requests = tuple(log.entries(message.position + 1, previous[1])[:MAX_FORWARDED])
            self.port.send(group.leader, Forward(group.incarnations, group.view, requests))

    def on_forward(self, source: Address, message: Forward) -> None:
        """Accept requests that were lost on their way to the leader."""
        for request in message.requests:
            self.pending.accept(request)

    def _answer_sync(self) -> None:
        """Tell the leader our hash at the position that it asked about."""
        assert self.awaited is not None
        if self.awaited >= self.state.log.start:  # otherwise the position was committed before
            self._reply(self.awaited, self.state.log.hash_at(self.awaited), self.state.outcome_at(self.awaited))
        self.awaited = None
        self.next_sync_position = NEVER
        self.port.cancel_timer("patience")

    def on_patience_timer(self) -> None:
        """Our log has still not reached the Sync's position: answer so. When it does, another answer follows."""
        if self.awaited is not None:
            self._reply(self.awaited, None, None)

    def _reply(self, position: int, summary: bytes | None, outcome: int | None) -> None:
        group = self.group
        self.port.send(group.leader, SyncReply(group.incarnations, group.view, position, summary, outcome))

    def on_commit(self, source: Address, message: Commit) -> None:
        """Commit, if our log agrees; repair it, if it does not."""
        self._learn_commit(message.position, message.hash, message.outcome)

    def _learn_commit(self, position: int, summary: bytes, outcome: int | None) -> None:
        """Everything up to `position` is committed, with that hash there. If our log lacks it, wait for a while, then fetch it."""
        if self.state.log.matches(position, summary):
            self.outcomes.learn(position, outcome)
        if position <= self.state.committed or not self.group.accepting:
            return
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
        elif self.state.log.last >= position:
            self.transfer.repair(position, summary, self.group.leader)
        elif self.overdue is None:
            self.overdue = (position, summary)
            self.port.set_timer("overdue", self._patience_ns)

    def on_overdue_timer(self) -> None:
        """If the committed entries have still not arrived, fetch them."""
        overdue, self.overdue = self.overdue, None
        if overdue is None or not self.group.accepting:
            return
        position, summary = overdue
        if self.state.log.last < position:
            self.transfer.repair(position, summary, self.group.leader)
        else:
            self._learn_commit(position, summary, None)

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`."""
        return {"conflicts_by_client": dict(self.conflicts)}

    def snapshot(self) -> Any:
        """See `Part`."""
        now, pending = self.port.now_ns, self.round
        timed_out = pending is not None and now - pending.started_ns >= self._timeout_ns
        return {
            "next_sync_position": self.next_sync_position,
            "round": pending and [pending.position, sorted(pending.tally.answers.items()), timed_out],
            "may_ask_again": now - self._last_round_ns >= self._conflict_interval_ns,
            "wanted": self.wanted,
            "awaited": self.awaited,
            "leader_had": self.leader_had,
            "overdue": self.overdue,
        }

    def check_invariants(self) -> None:
        """See `Part`. Only the leader has a round, about a position of its log; only a follower has a Sync to answer."""
        if self.round is not None:
            assert self.group.is_leader
            assert self.round.position <= self.state.log.last
        assert self.awaited is None or not self.group.is_leader
