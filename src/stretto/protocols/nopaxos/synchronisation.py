"""Synchronisation: it commits positions, and shows a follower whether its log is the leader's.

      r0 (leader) ---Sync(position, hash)---> all ---SyncReply(position)---> r0       committed, with f+1 in all

Source: Li et al., OSDI 2016, section 5.4. In the paper, followers execute only after a synchronisation.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.nopaxos.messages import Sync, SyncReply
from stretto.protocols.nopaxos.ordering import Ordering
from stretto.protocols.nopaxos.session import SequencerSession
from stretto.replication.failure_detector import FailureDetector
from stretto.replication.group import Group
from stretto.replication.messages import Commit
from stretto.replication.outcomes import OutcomeComparison
from stretto.replication.part import Part
from stretto.replication.state import ReplicatedState
from stretto.replication.transfer import StateTransfer
from stretto.replication.view_change import ViewChange


class Synchronisation(Part):
    """The part of a replica that commits.

    - `next_sync_position`: at the leader, the position at which the next Sync is due;
    - `acknowledged`: at the leader, the position up to which each follower's log is ours, and the incarnation in which it said so.
    """

    def __init__(
        self,
        group: Group,
        state: ReplicatedState,
        transfer: StateTransfer,
        detector: FailureDetector,
        view_change: ViewChange,
        outcomes: OutcomeComparison,
        session: SequencerSession,
        ordering: Ordering,
        config: ClusterConfig,
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.transfer = transfer
        self.detector = detector
        self.view_change = view_change
        self.outcomes = outcomes
        self.session = session
        self.ordering = ordering
        self.next_sync_position = 0
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._operations = config.limits.sync_operations
        self.handlers = {Sync: self.on_sync, SyncReply: self.on_sync_reply, Commit: self.on_commit}
        self.timers = {"sync": self.on_sync_timer}

    def begin_view(self) -> None:
        """See `Part`."""
        self.next_sync_position = self.state.log.last + self._operations
        if self.group.is_leader:
            self.port.set_timer("sync", self._interval_ns)

    def leave_view(self) -> None:
        """See `Part`."""
        self.acknowledged = {}
        self.port.cancel_timer("sync")

    # The leader's part

    def on_sync_timer(self) -> None:
        """Synchronise at least this often. A leader without a sequencer cannot work, so it sends no sign of life."""
        self.port.set_timer("sync", self._interval_ns)
        if self.session.is_open:
            self.detector.show_life(self.begin_round)

    def begin_round(self) -> None:
        """Send all followers the hash of our log."""
        group, log, session = self.group, self.state.log, self.session
        self.next_sync_position = log.last + self._operations
        session_id = session.sequencer, session.incarnation
        committed = self.state.committed
        outcome = self.outcomes.agreed_outcome(committed)
        group.send_to_peers(Sync(group.incarnations, group.view, *session_id, log.last, log.last_hash, committed, outcome))
        self._commit()  # this replica alone may be a majority

    def on_sync_reply(self, source: Address, message: SyncReply) -> None:
        """Note the position that a follower has. A follower that answers is in the view."""
        if message.position > self.state.log.last:
            return self.group.ignore("answer to no question of ours")
        incarnation = message.incarnations[source]
        self.outcomes.note(source, incarnation, message.position, message.outcome)
        self.view_change.note_entered(source, incarnation)
        former = self.acknowledged.get(source)
        if former is None or former < (incarnation, message.position):
            self.acknowledged[source] = (incarnation, message.position)
            self._commit()
        return None

    def _commit(self) -> None:
        """Commit the entries that f+1 replicas have, including this one."""
        group = self.group
        spoken = {follower: incarnation for follower, (incarnation, _) in self.acknowledged.items()}
        positions = sorted((self.acknowledged[follower][1] for follower in group.current_voters(spoken)), reverse=True)
        everyone = [self.state.log.last, *positions]
        if len(everyone) >= group.quorums.majority:
            self.state.commit_up_to(max(self.state.committed, everyone[group.quorums.f]))

    # The follower's part

    def on_sync(self, source: Address, message: Sync) -> None:
        """Compare the logs, ask for entries that differ or are missing, and answer with the position up to which they are equal."""
        group, log, ordering = self.group, self.state.log, self.ordering
        self.detector.hear_leader()
        self.session.learn(message.sequencer, message.sequencer_incarnation)
        if group.accepting and message.position > ordering.matched:
            if log.matches(message.position, message.hash):
                ordering.match(message.position)
            elif log.last >= message.position:
                ordering.ask_leader(ordering.matched + 1, message.position)
            else:
                ordering.notice(message.position)
        if group.accepting and self.state.committed < message.committed <= ordering.matched:
            self.state.commit_up_to(message.committed)
        if message.committed <= ordering.matched:
            self.outcomes.learn(message.committed, message.outcome)
        self.port.send(source, SyncReply(group.incarnations, group.view, ordering.matched, self.state.outcome_at(ordering.matched)))

    def on_commit(self, source: Address, message: Commit) -> None:
        """Commit, if our log agrees; fetch what is committed, if it does not."""
        if message.position <= self.state.committed:
            return self.group.ignore("a commit that is known")
        if not self.state.log.matches(message.position, message.hash):
            return self.transfer.repair(message.position, message.hash, source)
        self.state.commit_up_to(message.position)
        self.outcomes.learn(message.position, message.outcome)
        return self.ordering.match(message.position)

    # Watching

    def snapshot(self) -> Any:
        """See `Part`."""
        return [self.next_sync_position, sorted(self.acknowledged.items())]

    def check_invariants(self) -> None:
        """See `Part`. Entries that were committed in our view are in the leader's log; only the leader has acknowledgements."""
        if self.group.accepting:
            last = self.state.log.last if self.group.is_leader else 0
            assert self.state.committed <= max(self.ordering.matched, last)
        assert not self.acknowledged or self.group.is_leader
