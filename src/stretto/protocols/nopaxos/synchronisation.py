"""Synchronisation: what makes positions committed, and how a follower learns that its log is not the leader's.

      r0 (leader) ---Sync(position, hash)---> all ---SyncReply(position)---> r0       f+1 with the leader commit

Source: Li et al., OSDI 2016, section 5.4. There, followers execute only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.nopaxos.messages import NO_SESSION, Sync, SyncReply
from stretto.replication.messages import Commit

if TYPE_CHECKING:
    from stretto.protocols.nopaxos.replica import NoPaxosReplica


class Synchronisation:
    """The part of a replica that commits.

    - `attention`: the leader's: a Sync is due when its log gets there;
    - `synced`: up to there, our log is known to be that of the leader of our view. It never goes down within the view;
    - `confirmed`: the leader's: the same of each follower, with the incarnation in which it said so.
    """

    def __init__(self, replica: NoPaxosReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.attention = 0
        self.synced = 0
        self.confirmed: dict[int, tuple[int, int]] = {}
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._operations = config.limits.sync_operations

    def begin(self) -> None:
        """A view has been entered, with the log that its leader has."""
        self.synced = self.replica.views.start_tip
        self.confirmed = {}
        self.attention = self.state.log.tip + self._operations
        if self.replica.is_leader:
            self.port.set_timer("sync", self._interval_ns)

    def stop(self) -> None:
        """The view has been left."""
        self.confirmed = {}
        self.port.cancel_timer("sync")

    # The leader's part

    def on_sync_timer(self) -> None:
        """Synchronise at least this often. Without a sequencer, the leader is of no use, and shows no life."""
        self.port.set_timer("sync", self._interval_ns)
        if self.replica.session.life != NO_SESSION and self.replica.views.leader_may_go_on():
            self.begin_round()

    def begin_round(self) -> None:
        """Tell all what our log is."""
        replica, log = self.replica, self.state.log
        self.attention = log.tip + self._operations
        session, committed = replica.session, self.state.committed
        incarnations, view = replica.incarnations, replica.view
        replica.send_to_peers(Sync(incarnations, view, session.sequencer, session.life, log.tip, log.tip_hash, committed))
        self._commit()  # a majority may be we alone

    def on_sync_reply(self, source: Address, message: SyncReply) -> None:
        """Count what a follower has. Whoever answers is in the view."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return None
        if not replica.is_leader or message.position > self.state.log.tip:
            return replica.ignore("answer to no question of ours")
        incarnation = message.incarnations[source]
        replica.views.note_entered(source, incarnation)
        former = self.confirmed.get(source)
        if former is None or former < (incarnation, message.position):
            self.confirmed[source] = (incarnation, message.position)
            self._commit()
        return None

    def _commit(self) -> None:
        """Commit what f+1 have, we among them."""
        replica = self.replica
        spoken = {follower: incarnation for follower, (incarnation, _) in self.confirmed.items()}
        positions = sorted((self.confirmed[follower][1] for follower in replica.standing(spoken)), reverse=True)
        everyone = [self.state.log.tip, *positions]
        if len(everyone) >= replica.quorums.majority:
            self.state.commit_up_to(max(self.state.committed, everyone[replica.quorums.f]))

    # The follower's part

    def on_sync(self, source: Address, message: Sync) -> None:
        """Compare the logs, ask for what differs or lacks, and say how far they are equal."""
        replica, log = self.replica, self.state.log
        if not replica.views.counts(source, message):
            return None
        if source != replica.leader:
            return replica.ignore("not from the leader")
        replica.views.hear_leader()
        replica.session.learn(message.sequencer, message.life)
        if replica.accepting and message.position > self.synced:
            if log.matches(message.position, message.hash):
                self.synced = message.position
            elif log.tip >= message.position:
                replica.ordering.ask_leader(self.synced + 1, message.position)
            else:
                replica.ordering.notice(message.position)
        if replica.accepting and self.state.committed < message.committed <= self.synced:
            self.state.commit_up_to(message.committed)
        return self.port.send(source, SyncReply(replica.incarnations, replica.view, self.synced))

    def on_commit(self, source: Address, message: Commit) -> None:
        """Commit, if our log agrees; fetch what is committed, if it does not."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return None
        if source != replica.leader or not replica.accepting or message.position <= self.state.committed:
            return replica.ignore("a commit that is known, or not the leader's")
        if not self.state.log.matches(message.position, message.hash):
            return replica.repair(message.position, message.hash, source)
        self.state.commit_up_to(message.position)
        self.synced = max(self.synced, message.position)
        return None

    # Watching

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return [self.attention, self.synced, sorted(self.confirmed.items())]

    def check_invariants(self) -> None:
        """What is committed in our view is in the leader's log; only it counts what others have."""
        if self.replica.accepting:
            assert self.state.committed <= max(self.synced, self.state.log.tip if self.replica.is_leader else 0)
            assert self.synced <= self.state.log.tip
        assert not self.confirmed or self.replica.is_leader
