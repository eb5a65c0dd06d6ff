"""Synchronisation: what makes speculative positions committed, and how a replica learns that its log is not the committed one.

      r0 (leader) ---Sync(position)---> all ---SyncReply(hash there)---> r0 ---Commit---> all

A superquorum of equal hashes commits, the leader's own among them or not. Source: Ports et al., NSDI 2015, section 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.speculative.messages import Conflict, Sync, SyncReply
from stretto.replication.messages import Commit, Forward
from stretto.replication.quorums import Outcome, Quorums, Tally

if TYPE_CHECKING:
    from stretto.protocols.speculative.replica import SpeculativeReplica

NEVER = 1 << 62
"""A position that no log reaches."""

MAX_FORWARDED = 1_000
"""How many requests a follower forwards at a time."""

MAX_CONFLICTING_CLIENTS = 1_000
"""How many clients' conflicts are counted each by itself."""


class SyncRound:
    """The leader's question about one position, and the answers so far."""

    def __init__(self, position: int, quorums: Quorums, started_ns: int) -> None:
        self.position = position
        self.started_ns = started_ns
        self.tally: Tally[bytes] = Tally(quorums.n, quorums.superquorum)


class Synchronisation:
    """The part of a replica that commits.

    - `attention`: the position at which an append has more to do than to answer. Leader: a round is due. Follower: a Sync waits.
    - `round`: the leader's question that is open. `wanted`: another is to follow at once.
    - `awaited`: the position of a Sync that the follower has not answered yet.
    - `leader_had`: the position of the leader's last Sync, and our tip then.
    - `overdue`: a committed position, and its hash, that has not arrived here yet. `conflicts`: how many each client has told of.
    """

    def __init__(self, replica: SpeculativeReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.attention = NEVER
        self.round: SyncRound | None = None
        self.wanted = False
        self.awaited: int | None = None
        self.leader_had: tuple[int, int] | None = None
        self.overdue: tuple[int, bytes] | None = None
        self.conflicts: dict[Address, int] = {}
        self._last_round_ns = replica.port.now_ns
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._patience_ns = config.timeouts.ns("sync_patience")
        self._timeout_ns = config.timeouts.ns("sync_timeout")
        self._conflict_interval_ns = config.timeouts.ns("conflict_interval")
        self._operations = config.limits.sync_operations

    def begin(self) -> None:
        """A view has been entered: its leader asks, the others answer."""
        if self.replica.is_leader:
            self.attention = self._next_attention()
            self.port.set_timer("sync", self._interval_ns)

    def stop(self) -> None:
        """The view has been left."""
        self.attention = NEVER
        self.round = None
        self.wanted = False
        self.awaited = None
        self.leader_had = None
        self.overdue = None
        for name in ("sync", "patience", "overdue"):
            self.port.cancel_timer(name)

    def resume(self) -> None:
        """A repair has ended: ask, or answer what waits."""
        if self.replica.is_leader:
            self.begin_round()
        elif self.awaited is not None and self.state.log.tip >= self.awaited:
            self.answer_sync()

    def on_attention(self) -> None:
        """The log has reached the position at which something else is to be done."""
        if self.replica.is_leader:
            self.attention = NEVER
            self.wanted = True
            if not self._round_under_way():
                self.begin_round()
        else:
            self.answer_sync()

    # The leader's part

    def begin_round(self) -> None:
        """Ask all for their hash at the tip."""
        replica = self.replica
        self.wanted = False
        now = self._last_round_ns = self.port.now_ns
        self.round = SyncRound(self.state.log.tip, replica.quorums, now)
        self.attention = self._next_attention()
        self._send_sync(self.round)
        self._count_answer(self.round, replica.index, self.state.log.tip_hash)

    def _send_sync(self, round_: SyncRound) -> None:
        replica, committed = self.replica, self.state.committed
        summary = self.state.log.hash_at(committed)
        replica.send_to_peers(Sync(replica.incarnations, replica.view, round_.position, committed, summary))

    def _next_attention(self) -> int:
        """With so many absent that no superquorum is left, every commit takes a reconciliation: then the first operation asks for one."""
        replica = self.replica
        degraded = replica.n - len(replica.views.absent) < replica.quorums.superquorum
        return self.state.log.tip + (1 if degraded else self._operations)

    def _round_under_way(self) -> bool:
        """Whether a question is open whose answer can commit something. (One about what is committed is only a sign of life.)"""
        return self.round is not None and self.round.position > self.state.committed

    def on_sync_timer(self) -> None:
        """Synchronise at least this often: a new round, or the old one again; and notice that nobody answers."""
        self.port.set_timer("sync", self._interval_ns)
        replica, pending = self.replica, self.round
        if not replica.accepting or not replica.views.leader_may_go_on():
            return
        if pending is None or not self._round_under_way():
            self.begin_round()
            return
        self._send_sync(pending)
        if self.port.now_ns - pending.started_ns >= self._timeout_ns:
            replica.views.absent = set(replica.peers) - set(pending.tally.answers)
            self._judge(pending)

    def on_sync_reply(self, source: Address, message: SyncReply) -> None:
        """Count a follower's hash. Whoever answers is in the view."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return None
        if not replica.is_leader:
            return replica.ignore("not the leader")
        replica.views.note_entered(source, message.incarnations[source])
        if self.round is None or message.position != self.round.position:
            return replica.ignore("answer to another synchronisation")
        return self._count_answer(self.round, source, message.hash)

    def _count_answer(self, round_: SyncRound, voter: int, summary: bytes | None) -> None:
        if round_.tally.add(voter, summary) is Outcome.WON:
            assert summary is not None
            self.round = None
            self._commit(round_.position, summary, voter)
        else:
            self._judge(round_)

    def _commit(self, position: int, summary: bytes, voter: int) -> None:
        """A superquorum has this hash: it is committed, whatever stands in our own log."""
        replica = self.replica
        if position > self.state.committed:
            replica.send_to_peers(Commit(replica.incarnations, replica.view, position, summary))
            if not self.state.log.matches(position, summary):
                replica.repair(position, summary, voter)
                return
            self.state.commit_up_to(position)
        if self.wanted:
            self.begin_round()

    def _judge(self, round_: SyncRound) -> None:
        """DoViewChange if no superquorum can come of this round, but a majority is there to do it."""
        replica = self.replica
        if not self._round_under_way() or len(round_.tally) < replica.quorums.majority:
            return
        never = len(replica.views.absent - set(round_.tally.answers))
        if round_.tally.outcome(never) is Outcome.LOST:
            replica.views.start_next("no superquorum")

    def on_conflict(self, source: Address, message: Conflict) -> None:
        """A client saw answers that cannot agree any more: ask now, but not too often."""
        replica = self.replica
        if message.view != replica.view or not replica.accepting or not replica.is_leader:
            return replica.ignore("conflict told to the wrong replica or view")
        if message.position <= self.state.committed:
            return replica.ignore("conflict that is settled")
        if source in self.conflicts or len(self.conflicts) < MAX_CONFLICTING_CLIENTS:
            self.conflicts[source] = self.conflicts.get(source, 0) + 1
        self.wanted = True
        if not self._round_under_way():
            wait_ns = self._last_round_ns + self._conflict_interval_ns - self.port.now_ns
            if wait_ns <= 0:
                self.begin_round()
            else:
                self.port.set_timer("sync", wait_ns)
        return None

    # The follower's part

    def on_sync(self, source: Address, message: Sync) -> None:
        """Answer with the hash at that position, now or when the log gets there; learn what is committed."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return None
        if source != replica.leader:
            return replica.ignore("not from the leader")
        replica.views.hear_leader()
        self._learn_commit(message.committed, message.committed_hash)
        if message.position < self.state.log.base:
            return replica.ignore("about a position that is long settled")
        if self.awaited != message.position:
            self.awaited = message.position
            self.port.set_timer("patience", self._patience_ns)
        self.attention = message.position
        if replica.accepting and self.state.log.tip >= message.position:
            self.answer_sync()
            self._forward_what_the_leader_lacks(message)
        return None

    def _forward_what_the_leader_lacks(self, message: Sync) -> None:
        """The leader has committed all that it has, and what we hold behind that since its last Sync has not reached it: send it.

        Else the last request before a silence stays speculative, if it was the leader who lost it.
        """
        last, self.leader_had = self.leader_had, (message.position, self.state.log.tip)
        if message.position == message.committed and last is not None and last[0] == message.position < last[1]:
            requests = tuple(self.state.log.entries(message.position + 1, last[1])[:MAX_FORWARDED])
            self.port.send(self.replica.leader, Forward(self.replica.incarnations, self.replica.view, requests))

    def on_forward(self, source: Address, message: Forward) -> None:
        """Requests that were lost on their way here: they arrive now."""
        if not self.replica.views.counts(source, message):
            return None
        if not self.replica.is_leader or not self.replica.accepting:
            return self.replica.ignore("forwarded to the wrong replica")
        for request in message.requests:
            self.replica.accept(request)
        return None

    def answer_sync(self) -> None:
        """Tell the leader our hash at the position that it asked about."""
        assert self.awaited is not None
        if self.awaited >= self.state.log.base:  # else it is long committed
            self._reply(self.awaited, self.state.log.hash_at(self.awaited))
        self.awaited = None
        self.attention = NEVER
        self.port.cancel_timer("patience")

    def on_patience_timer(self) -> None:
        """Our log is still shorter than the Sync: say so. When it does get there, that is said too."""
        if self.awaited is not None:
            self._reply(self.awaited, None)

    def _reply(self, position: int, summary: bytes | None) -> None:
        replica = self.replica
        self.port.send(replica.leader, SyncReply(replica.incarnations, replica.view, position, summary))

    def on_commit(self, source: Address, message: Commit) -> None:
        """Commit, if our log agrees; repair it, if it does not."""
        if not self.replica.views.counts(source, message):
            return None
        if source != self.replica.leader:
            return self.replica.ignore("not from the leader")
        return self._learn_commit(message.position, message.hash)

    def _learn_commit(self, position: int, summary: bytes) -> None:
        """Everything up to `position` is committed, with that hash there. What has not arrived here may be on its way."""
        if position <= self.state.committed or not self.replica.accepting:
            return
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
        elif self.state.log.tip >= position:
            self.replica.repair(position, summary, self.replica.leader)
        elif self.overdue is None:
            self.overdue = (position, summary)
            self.port.set_timer("overdue", self._patience_ns)

    def on_overdue_timer(self) -> None:
        """What is committed had not arrived here; if it still has not, fetch it."""
        overdue, self.overdue = self.overdue, None
        if overdue is None or not self.replica.accepting:
            return
        position, summary = overdue
        if self.state.log.tip < position:
            self.replica.repair(position, summary, self.replica.leader)
        else:
            self._learn_commit(position, summary)

    # Watching

    def snapshot(self) -> dict[str, Any]:
        """The fields as canonical plain data."""
        now, pending = self.port.now_ns, self.round
        timed_out = pending is not None and now - pending.started_ns >= self._timeout_ns
        return {
            "attention": self.attention,
            "round": pending and [pending.position, sorted(pending.tally.answers.items()), timed_out],
            "may_ask_again": now - self._last_round_ns >= self._conflict_interval_ns,
            "wanted": self.wanted,
            "awaited": self.awaited,
            "leader_had": self.leader_had,
            "overdue": self.overdue,
        }

    def check_invariants(self) -> None:
        """Questions are the leader's, and about what it has; answers are the followers'."""
        if self.round is not None:
            assert self.replica.is_leader
            assert self.round.position <= self.state.log.tip
        assert self.awaited is None or not self.replica.is_leader
