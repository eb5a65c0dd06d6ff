"""The replica of Speculative Paxos.

Normal case: two message delays, every replica executes at once, in the order in which requests arrive.

    client          r0 (leader)     r1              r2
      |---Request----->|-------------->|-------------->|   (one multicast)  append, execute
      |<---------------|<--------------|<--------------|   SpeculativeReply(view, position, hash, result)
      done, with a superquorum of equal answers

Synchronisation: what makes positions committed, so that they need not be undoable any more.

      r0 ---Sync(position)---> all ---SyncReply(hash)---> r0 ---Commit---> all

A follower that differs from what is committed repairs itself inside the view (roll back, fetch, append its own again). When no
superquorum can agree, or the leader is silent, the replicas reconcile their logs, and that starts the next view:

      all ---StartReconciliation(view)---> all
      each, having it from a majority ---Reconcile(log)---> leader of the view    merges f+1 logs
      leader ---StartView(log)---> all ---ViewEntered---> leader                  with a majority, all of it is committed

Source: Ports et al., NSDI 2015, section 4. Where this does otherwise, docs/speculative.md says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message, Port
from stretto.core.state_machine import StateMachine
from stretto.protocols.speculative import reconcile
from stretto.protocols.speculative.messages import (
    Commit,
    Conflict,
    GetStartView,
    PeerMessage,
    Reconcile,
    SpeculativeReply,
    StartReconciliation,
    StartView,
    Suspect,
    Sync,
    SyncReply,
    ViewEntered,
)
from stretto.replication.log import EMPTY_HASH
from stretto.replication.messages import Entries, Fetch, Request
from stretto.replication.quorums import Outcome, Quorums, Tally
from stretto.replication.replica import LoggingReplica
from stretto.replication.sessions import identity
from stretto.replication.transfer import Transfer, piece_of

NEVER = 1 << 62
"""A position that no log reaches."""

MAX_CONFLICTING_CLIENTS = 1_000
"""How many clients' conflicts are counted each by itself."""


class Status(Enum):
    """NORMAL: in its view, executing requests. RECONCILING: it has stopped, and tries to enter its view."""

    NORMAL = "normal"
    RECONCILING = "reconciling"


class SyncRound:
    """The leader's question about one position, and the answers so far."""

    def __init__(self, position: int, quorums: Quorums, started_ns: int) -> None:
        self.position = position
        self.started_ns = started_ns
        self.tally: Tally[bytes] = Tally(quorums.n, quorums.superquorum)


class SpeculativeReplica(LoggingReplica):
    """One replica. The fields, with their invariants:

    - `view`: never goes down. `last_normal_view`: the view in which it was last NORMAL; equal to `view` while it is.
    - `start_view`: the message that the last entered view started with. Its log is a prefix of ours while NORMAL.
    - `accepting`: whether requests are appended as they come: NORMAL and no repair under way. Else they wait in `held`.
    - `attention`: the position at which an append has more to do than to answer. Leader: a synchronisation is due. Follower: a Sync waits.
    - `round`: the leader's synchronisation that has no answer yet. `absent`: followers that let one time out, and said nothing since.
    - `heard_ns`: when each replica last said anything in this view; `sync_heard_ns`: when the leader last said Sync, its only sign of life.
    - `joined`, `vote`: while RECONCILING: who started this view, and our own Reconcile. `votes`, `merging`: the leader's: all Reconcile
      messages, and the f+1 of them that are merged.
    - `transfer`: committed entries on their way: for a repair (NORMAL), or before `installing` or a merge (RECONCILING).
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine) -> None:
        super().__init__(port, config, index, machine)
        self.quorums = Quorums.of(config.n)
        self.peers = [peer for peer in range(config.n) if peer != index]
        self._read_settings(config)
        self.incarnations = (0,) * config.n

        self.status = Status.NORMAL
        self.last_normal_view = 0
        self.start_view = StartView(self.incarnations, 0, 0, EMPTY_HASH, (), self.incarnations)
        self.start_tip = 0
        self.start_hash = EMPTY_HASH
        self.entered: set[int] = set()
        self.accepting = True
        self.held: list[Request] = []
        self.attention = NEVER

        self.round: SyncRound | None = None
        self.sync_wanted = False
        self.last_round_ns = port.now_ns
        self.absent: set[int] = set()
        self.awaited: int | None = None

        self.heard_ns = dict.fromkeys(range(config.n), port.now_ns)
        self.sync_heard_ns = port.now_ns
        self.suspects: set[int] = set()
        self.last_asked_ns = port.now_ns - self.retransmit_ns

        self.joined: set[int] = set()
        self.votes: dict[int, Reconcile] = {}
        self.merging: dict[int, Reconcile] | None = None
        self.vote: Reconcile | None = None
        self.installing: StartView | None = None
        self.attempts = 0

        self.transfer: Transfer | None = None
        self.overdue: tuple[int, bytes] | None = None

        self.reconciliations = 0
        self.view_changes = 0
        self.repairs = 0
        self.conflicts: dict[Address, int] = {}

        self.client_handlers: dict[type[Message], Callable[[Address, Any], None]] = {Request: self.on_request, Conflict: self.on_conflict}
        self.handlers = {
            Sync: self.on_sync,
            SyncReply: self.on_sync_reply,
            Commit: self.on_commit,
            Suspect: self.on_suspect,
            StartReconciliation: self.on_start_reconciliation,
            Reconcile: self.on_reconcile,
            StartView: self.on_start_view,
            GetStartView: self.on_get_start_view,
            ViewEntered: self.on_view_entered,
            Fetch: self.on_fetch,
            Entries: self.on_entries,
        }
        self.timers = {
            "sync": self.on_sync_timer,
            "patience": self.on_patience_timer,
            "overdue": self.on_overdue_timer,
            "leader": self.on_leader_timer,
            "reconcile": self.on_reconcile_timer,
            "escalate": self.on_escalate_timer,
            "fetch": self.on_fetch_timer,
        }
        self._begin_duties()

    def _read_settings(self, config: ClusterConfig) -> None:
        self.sync_interval_ns = config.timeouts.ns("sync_interval")
        self.sync_patience_ns = config.timeouts.ns("sync_patience")
        self.sync_timeout_ns = config.timeouts.ns("sync_timeout")
        self.conflict_interval_ns = config.timeouts.ns("conflict_interval")
        self.leader_timeout_ns = config.timeouts.ns("leader_timeout")
        self.reconciliation_timeout_ns = config.timeouts.ns("reconciliation_timeout")
        self.retransmit_ns = config.timeouts.ns("retransmit")
        self.sync_operations = config.limits.sync_operations
        self.max_held_requests = config.limits.max_held_requests
        self.max_transfer_bytes = config.limits.max_transfer_bytes

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

    def in_my_view(self, source: Address, message: PeerMessage) -> bool:
        """Whether a message of the normal operation of a view counts here and now; if its view is ahead, ask to be let in."""
        if message.view > self.view:
            self.ignore("of a higher view")
            self.ask_for_start_view(source, message.view)
        elif message.view < self.view:
            self.ignore("of an older view")
        elif self.status is not Status.NORMAL:
            self.ignore("while reconciling")
        else:
            self.heard_ns[source] = self.port.now_ns
            self.absent.discard(source)
            return True
        return False

    # Normal case

    def on_request(self, source: Address, request: Request) -> None:
        """Append, execute, answer; or keep it until that is possible again."""
        if source != request.client:
            self.ignore("request that names another client")
        elif self.accepting:
            self.accept(request)
        elif len(self.held) < self.max_held_requests:
            self.held.append(request)
        else:
            self.ignore("request beyond max_held_requests")

    def accept(self, request: Request) -> None:
        """Give a request its place in the log, if it has none, and answer."""
        state = self.state
        record = state.sessions.record_for(request)
        if record is not None and request.number <= record.number:
            if request.number < record.number:
                return self.ignore("superseded request")
            return self.answer(request, record.position, record.result)
        result = state.append(request)
        log = state.log
        reply = SpeculativeReply(self.view, log.tip, log.tip_hash, request.session, request.number, result, False)
        self.port.send(request.client, reply)
        if log.tip >= self.attention:
            self.on_attention()
        return None

    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """Answer a request by its place in the log as it stands now."""
        committed = position <= self.committed
        summary = self.hash_at(position) if position >= self.base else b""
        reply = SpeculativeReply(self.view, position, summary, request.session, request.number, result, committed)
        self.port.send(request.client, reply)

    def answer_from(self, first: int, last: int) -> None:
        """Answer the clients of all entries from position `first` to `last`."""
        for position in range(first, last + 1):
            self.answer(self.state.log.entry_at(position), position, self.result_at(position))

    def accept_again(self, rolled_back: Iterable[Request]) -> None:
        """Append what was rolled back and has no place any more, in its old order, and then what has been kept meanwhile."""
        for request in rolled_back:
            if not self.state.has_seen(request):
                self.accept(request)
        held, self.held = self.held, []
        for request in held:
            self.accept(request)

    def on_attention(self) -> None:
        """The log has reached the position at which something else is to be done."""
        if self.leader == self.index:
            self.attention = NEVER
            self.sync_wanted = True
            if not self.round_under_way():
                self.begin_round()
        else:
            self.answer_sync()

    # Synchronisation, the leader's part

    def degraded(self) -> bool:
        """Whether so many are absent that no superquorum is left: then every commit takes a reconciliation."""
        return self.n - len(self.absent) < self.quorums.superquorum

    def round_under_way(self) -> bool:
        """Whether a question is open whose answer can commit something. (One about what is committed is only a sign of life.)"""
        return self.round is not None and self.round.position > self.committed

    def begin_round(self) -> None:
        """Ask all for their hash at the tip."""
        self.sync_wanted = False
        now = self.last_round_ns = self.port.now_ns
        self.round = SyncRound(self.tip, self.quorums, now)
        self.attention = self.tip + (1 if self.degraded() else self.sync_operations)
        self.send_sync(self.round)
        self.count_answer(self.round, self.index, self.hash_at(self.tip))

    def send_sync(self, round_: SyncRound) -> None:
        """Ask, or ask again, about a round's position."""
        self.send_to_peers(Sync(self.incarnations, self.view, round_.position, self.committed, self.hash_at(self.committed)))

    def on_sync_timer(self) -> None:
        """Synchronise at least this often: a new round, or the old one again; and notice that nobody answers."""
        self.port.set_timer("sync", self.sync_interval_ns)
        if not self.accepting:
            return
        if not self.majority_heard():
            self.suspect()
            return
        self.suspects.discard(self.index)
        pending = self.round
        if pending is None or not self.round_under_way():
            self.begin_round()
        elif self.port.now_ns - pending.started_ns >= self.sync_timeout_ns:
            self.absent = set(self.peers) - set(pending.tally.answers)
            self.send_sync(pending)
            self.judge(pending)
        else:
            self.send_sync(pending)

    def majority_heard(self) -> bool:
        """Whether a majority, the leader included, has shown life within the timeout: a leader that hears nobody must not look alive."""
        since = self.port.now_ns - self.leader_timeout_ns
        return 1 + sum(self.heard_ns[peer] >= since for peer in self.peers) >= self.quorums.majority

    def on_sync_reply(self, source: Address, message: SyncReply) -> None:
        """Count a follower's hash. Whoever answers is in the view."""
        if not self.in_my_view(source, message):
            return None
        if self.leader != self.index:
            return self.ignore("not the leader")
        self.suspects.discard(source)
        self.note_entered(source)
        if self.round is None or message.position != self.round.position:
            return self.ignore("answer to another synchronisation")
        return self.count_answer(self.round, source, message.hash)

    def count_answer(self, round_: SyncRound, voter: int, summary: bytes | None) -> None:
        """Add an answer to the round, and act if that decides it."""
        if round_.tally.add(voter, summary) is Outcome.WON:
            assert summary is not None
            self.round = None
            self.commit_round(round_.position, summary, voter)
        else:
            self.judge(round_)

    def commit_round(self, position: int, summary: bytes, voter: int) -> None:
        """A superquorum has this hash: it is committed, whatever stands in our own log."""
        if position > self.committed:
            self.send_to_peers(Commit(self.incarnations, self.view, position, summary))
            if not self.state.log.matches(position, summary):
                return self.repair(position, summary, voter)
            self.state.commit_up_to(position)
        if self.sync_wanted:
            self.begin_round()
        return None

    def judge(self, round_: SyncRound) -> None:
        """Reconcile if no superquorum can come of this round, but a majority is there to do it."""
        if not self.round_under_way() or len(round_.tally) < self.quorums.majority:
            return
        never = len(self.absent - set(round_.tally.answers))
        if round_.tally.outcome(never) is Outcome.LOST:
            self.start_reconciliation(self.view + self.n, "no superquorum")

    def on_conflict(self, source: Address, message: Conflict) -> None:
        """A client saw answers that cannot agree any more: synchronise now, but not too often."""
        if message.view != self.view or not self.accepting or self.leader != self.index:
            return self.ignore("conflict told to the wrong replica or view")
        if message.position <= self.committed:
            return self.ignore("conflict that is settled")
        if source in self.conflicts or len(self.conflicts) < MAX_CONFLICTING_CLIENTS:
            self.conflicts[source] = self.conflicts.get(source, 0) + 1
        self.sync_wanted = True
        if not self.round_under_way():
            wait_ns = self.last_round_ns + self.conflict_interval_ns - self.port.now_ns
            if wait_ns <= 0:
                self.begin_round()
            else:
                self.port.set_timer("sync", wait_ns)
        return None

    # Synchronisation, the follower's part

    def on_sync(self, source: Address, message: Sync) -> None:
        """Answer with the hash at that position, now or when the log gets there; learn what is committed."""
        if not self.in_my_view(source, message):
            return None
        if source != self.leader:
            return self.ignore("not from the leader")
        self.sync_heard_ns = self.port.now_ns
        self.suspects.clear()
        self.learn_commit(source, message.committed, message.committed_hash)
        if message.position < self.base:
            return self.ignore("about a position that is long settled")
        if self.awaited != message.position:
            self.awaited = message.position
            self.port.set_timer("patience", self.sync_patience_ns)
        self.attention = message.position
        if self.accepting and self.tip >= message.position:
            self.answer_sync()
        return None

    def answer_sync(self) -> None:
        """Tell the leader our hash at the position that it asked about."""
        assert self.awaited is not None
        self.port.send(self.leader, SyncReply(self.incarnations, self.view, self.awaited, self.hash_at(self.awaited)))
        self.awaited = None
        self.attention = NEVER
        self.port.cancel_timer("patience")

    def on_patience_timer(self) -> None:
        """Our log is still shorter than the Sync: say so. When it does get there, that is said too."""
        if self.awaited is not None:
            self.port.send(self.leader, SyncReply(self.incarnations, self.view, self.awaited, None))

    def on_commit(self, source: Address, message: Commit) -> None:
        """Commit, if our log agrees; repair it, if it does not."""
        if not self.in_my_view(source, message):
            return None
        if source != self.leader:
            return self.ignore("not from the leader")
        return self.learn_commit(source, message.position, message.hash)

    def learn_commit(self, source: Address, position: int, summary: bytes) -> None:
        """Everything up to `position` is committed, with that hash there."""
        if position <= self.committed or self.transfer is not None:
            return
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
        elif self.tip >= position:
            self.repair(position, summary, source)
        elif self.overdue is None:
            self.overdue = (position, summary)
            self.port.set_timer("overdue", self.sync_patience_ns)

    def on_overdue_timer(self) -> None:
        """What is committed had not arrived here; if it still has not, fetch it."""
        overdue, self.overdue = self.overdue, None
        if overdue is None or self.status is not Status.NORMAL or self.transfer is not None:
            return
        position, summary = overdue
        if self.tip >= position:
            self.learn_commit(self.leader, position, summary)
        elif position > self.committed:
            self.repair(position, summary, self.leader)

    # Repair inside the view, and state transfer

    def repair(self, position: int, summary: bytes, source: Address) -> None:
        """Our log is not the committed one: get that, and append our own operations behind it."""
        self.port.report("repair", view=self.view, committed=self.committed, position=position)
        self.repairs += 1
        self.accepting = False
        self.begin_transfer(position, summary, source)

    def begin_transfer(self, target: int, summary: bytes, source: Address) -> None:
        """Fetch the committed entries that we lack up to `target`."""
        self.transfer = Transfer(self.committed + 1, target, summary, source)
        self.send_fetch()

    def send_fetch(self) -> None:
        """Ask for the next piece; the timer asks another replica if nothing comes."""
        assert self.transfer is not None
        self.port.send(self.transfer.source, self.transfer.fetch)
        self.port.set_timer("fetch", self.retransmit_ns)

    def on_fetch_timer(self) -> None:
        """Nothing came: ask the next replica."""
        if self.transfer is not None:
            self.transfer.next_source(self.n, self.index)
            self.send_fetch()

    def on_fetch(self, source: Address, message: Fetch) -> None:
        """Send committed entries. They are the same in every view, so neither view nor status matters."""
        piece = piece_of(self.state.log, self.committed, message, self.max_transfer_bytes)
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
            return self.send_fetch()
        self.port.cancel_timer("fetch")
        self.transfer = None
        assert transfer.verified(self.state.log), "two replicas have committed different entries"
        rolled_back = self.state.adopt(self.committed, transfer.entries)
        self.state.commit_up_to(transfer.target)
        if self.status is Status.NORMAL:
            self.finish_repair(rolled_back)
        elif self.installing is not None:
            self.install(self.installing, rolled_back)
        else:
            self.merge_votes(rolled_back)
        return None

    def finish_repair(self, rolled_back: list[Request]) -> None:
        """The committed log is ours now: append our own operations again, and take up the work."""
        self.accepting = True
        self.accept_again(rolled_back)
        if self.leader == self.index:
            self.begin_round()
        elif self.awaited is not None and self.tip >= self.awaited:
            self.answer_sync()

    # Suspicion

    def on_leader_timer(self) -> None:
        """Look whether the leader still shows life."""
        self.port.set_timer("leader", self.leader_timeout_ns // 4)
        if self.port.now_ns - self.sync_heard_ns >= self.leader_timeout_ns:
            self.suspect()

    def suspect(self) -> None:
        """Tell all that this view's leader seems cut off. That alone changes no view: whoever is deaf must not drag others along."""
        self.suspects.add(self.index)
        self.send_to_peers(Suspect(self.incarnations, self.view))
        self.judge_suspicion()

    def on_suspect(self, source: Address, message: Suspect) -> None:
        """Count a suspicion. Whoever suspects in an older view has missed something, and is told."""
        if message.view < self.view:
            self.offer_start_view(source)
        elif self.in_my_view(source, message):
            self.suspects.add(source)
            self.judge_suspicion()

    def judge_suspicion(self) -> None:
        """With a majority that suspects, ourselves among them, go on without the leader."""
        if self.index in self.suspects and len(self.suspects) >= self.quorums.majority:
            self.start_reconciliation(self.view + 1, "leader suspected")

    # Reconciliation: everyone's part

    def start_reconciliation(self, view: int, reason: str) -> None:
        """Stop working in the present view and try to start a higher one."""
        assert view > self.view
        self.port.report("reconciliation", view=view, reason=reason, committed=self.committed, tip=self.tip)
        self.leave_view(view)
        self.joined = {self.index}
        self.port.set_timer("reconcile", self.retransmit_ns)
        self.port.set_timer("escalate", self.reconciliation_timeout_ns << min(self.attempts, 6))
        self.send_to_peers(StartReconciliation(self.incarnations, view))
        self.judge_joined()

    def leave_view(self, view: int) -> None:
        """Be RECONCILING for `view`, with nothing left of what was under way."""
        self.view = view
        self.status = Status.RECONCILING
        self.accepting = False
        self.attention = NEVER
        self.round = None
        self.sync_wanted = False
        self.awaited = None
        self.overdue = None
        self.transfer = None
        self.suspects.clear()
        self.joined = set()
        self.votes = {}
        self.merging = None
        self.vote = None
        self.installing = None
        for name in ("sync", "patience", "overdue", "leader", "fetch"):
            self.port.cancel_timer(name)

    def on_start_reconciliation(self, source: Address, message: StartReconciliation) -> None:
        """Join a higher view; count who else has; tell those who are late what the view started with."""
        if message.view > self.view:
            self.start_reconciliation(message.view, "joined")
        if message.view == self.view and self.status is Status.RECONCILING:
            self.joined.add(source)
            self.judge_joined()
        else:
            self.offer_start_view(source)

    def judge_joined(self) -> None:
        """With a majority that has stopped, give the vote: nothing can complete in an older view behind its back."""
        if self.vote is not None or len(self.joined) < self.quorums.majority:
            return
        committed = self.committed
        entries = tuple(self.state.log.entries(committed + 1))
        self.vote = Reconcile(self.incarnations, self.view, self.last_normal_view, committed, self.hash_at(committed), entries)
        if self.leader == self.index:
            self.votes[self.index] = self.vote
            self.judge_votes()
        else:
            self.port.send(self.leader, self.vote)

    def on_reconcile_timer(self) -> None:
        """Say again what should have led to the view by now."""
        if self.status is not Status.RECONCILING:
            return
        self.port.set_timer("reconcile", self.retransmit_ns)
        self.send_to_peers(StartReconciliation(self.incarnations, self.view))
        if self.vote is not None and self.leader != self.index:
            self.port.send(self.leader, self.vote)

    def on_escalate_timer(self) -> None:
        """The view did not start in time: try the next leader, but only together with a majority (we may be the one who is cut off)."""
        if self.status is not Status.RECONCILING:
            return
        if len(self.joined) >= self.quorums.majority:
            self.attempts += 1
            self.start_reconciliation(self.view + 1, "the view did not start")
        else:
            self.port.set_timer("escalate", self.reconciliation_timeout_ns)

    # Reconciliation: the leader's part

    def on_reconcile(self, source: Address, message: Reconcile) -> None:
        """Count a vote for the view that we are to lead."""
        if message.view % self.n != self.index:
            return self.ignore("not the leader")
        if message.view > self.view:
            self.start_reconciliation(message.view, "joined")
        if message.view < self.view or self.status is not Status.RECONCILING:
            return self.offer_start_view(source)
        self.votes.setdefault(source, message)
        self.joined.add(source)
        self.judge_joined()
        return self.judge_votes()

    def judge_votes(self) -> None:
        """With f+1 votes, our own among them, settle what is committed; whatever of that we lack comes first."""
        enough = self.index in self.votes and len(self.votes) >= self.quorums.majority
        if not enough or self.merging is not None:
            return
        others = [voter for voter in self.votes if voter != self.index][: self.quorums.f]
        self.merging = {voter: self.votes[voter] for voter in [self.index, *others]}
        voter, base, base_hash = reconcile.settled(self.merging)
        if self.state.log.matches(base, base_hash):
            self.state.commit_up_to(base)
            self.merge_votes([])
        else:
            self.begin_transfer(base, base_hash, voter)

    def merge_votes(self, rolled_back: list[Request]) -> None:
        """Merge exactly f+1 logs, start the view with the result."""
        assert self.merging is not None
        assert len(self.merging) == self.quorums.majority
        _, base, base_hash = reconcile.settled(self.merging)
        candidates = [request for vote in self.merging.values() for request in vote.entries]
        oldest = min(vote.committed for vote in self.merging.values())
        numbers = self.state.numbers_at(base, candidates, since=oldest)
        merged = reconcile.merge(self.merging, numbers, self.quorums.merge_support)
        start_view = StartView(self.incarnations, self.view, base, base_hash, tuple(merged), self.incarnations)
        self.send_to_peers(start_view)
        self.install(start_view, rolled_back)

    def on_view_entered(self, source: Address, message: ViewEntered) -> None:
        """Count who is in the view."""
        if message.view > self.view:
            return self.ignore("of a higher view")
        if not self.in_my_view(source, message):
            return None
        if self.leader != self.index:
            return self.ignore("not the leader")
        return self.note_entered(source)

    def note_entered(self, source: Address) -> None:
        """With a majority in the view, all that it started with is committed; the clients concerned need no superquorum."""
        self.entered.add(source)
        if self.start_tip > self.committed and len(self.entered) >= self.quorums.majority:
            assert self.accepting
            first = self.committed + 1
            self.state.commit_up_to(self.start_tip)
            self.send_to_peers(Commit(self.incarnations, self.view, self.start_tip, self.start_hash))
            self.answer_from(first, self.start_tip)

    # Reconciliation: entering the view

    def on_start_view(self, source: Address, message: StartView) -> None:
        """Take over the log that the view starts with, once we have all that is committed before it."""
        if message.view < self.view:
            return self.ignore("of an older view")
        if message.view == self.view and self.status is Status.NORMAL:
            return self.ignore("the view has been entered")
        if message.view > self.view:
            self.leave_view(message.view)
            self.port.set_timer("reconcile", self.retransmit_ns)
        if self.installing is not None:
            return self.ignore("the view is being entered")
        self.installing = message
        if message.base <= self.committed or self.state.log.matches(message.base, message.base_hash):
            self.state.commit_up_to(max(message.base, self.committed))
            self.install(message, [])
        else:
            self.begin_transfer(message.base, message.base_hash, source)
        return None

    def install(self, start_view: StartView, rolled_back: list[Request]) -> None:
        """Enter the view: its log, then the answers that this owes to clients, then our own operations and what has been kept."""
        former_leader = self.last_normal_view % self.n
        placed = {identity(request) for request in start_view.entries}
        rolled_back = [request for request in rolled_back if identity(request) not in placed]
        rolled_back += self.state.adopt(start_view.base, start_view.entries)
        self.status = Status.NORMAL
        self.last_normal_view = self.view
        self.start_view = start_view
        self.start_tip = self.tip
        self.start_hash = self.hash_at(self.tip)
        self.accepting = True
        self.installing = None
        self.votes = {}
        self.merging = None
        self.attempts = 0
        self.entered = {self.index}
        self.reconciliations += 1
        self.view_changes += self.leader != former_leader
        self.port.cancel_timer("reconcile")
        self.port.cancel_timer("escalate")
        self.port.report("view entered", view=self.view, leader=self.leader, base=start_view.base, tip=self.tip)
        if self.leader != self.index:
            self.port.send(self.leader, ViewEntered(self.incarnations, self.view))
        self._begin_duties()
        self.answer_from(max(start_view.base, self.committed) + 1, self.tip)
        self.accept_again(rolled_back)
        if self.quorums.majority == 1:
            self.note_entered(self.index)

    def _begin_duties(self) -> None:
        """A leader synchronises; a follower watches the leader."""
        self.heard_ns = dict.fromkeys(range(self.n), self.port.now_ns)
        self.sync_heard_ns = self.port.now_ns
        if self.leader == self.index:
            self.attention = self.tip + (1 if self.degraded() else self.sync_operations)
            self.port.set_timer("sync", self.sync_interval_ns)
        else:
            self.absent = set()
            self.port.set_timer("leader", self.leader_timeout_ns // 4)

    def ask_for_start_view(self, source: Address, view: int) -> None:
        """Ask whoever is ahead, but not at each of its messages."""
        now = self.port.now_ns
        if now - self.last_asked_ns >= self.retransmit_ns:
            self.last_asked_ns = now
            self.port.send(source, GetStartView(self.incarnations, view))

    def on_get_start_view(self, source: Address, message: GetStartView) -> None:
        """Somebody has fallen behind."""
        self.offer_start_view(source)

    def offer_start_view(self, source: Address) -> None:
        """Send what our view started with, if we are in it."""
        if self.status is Status.NORMAL:
            self.port.send(source, self.start_view)
        else:
            self.ignore("asks for a view that has not started")

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {
            "status": self.status.value,
            "reconciliations": self.reconciliations,
            "view_changes": self.view_changes,
            "repairs": self.repairs,
            "held_requests": len(self.held),
            "absent": sorted(self.absent),
            "conflicts_by_client": dict(self.conflicts),
        }

    def snapshot(self) -> Any:
        """The whole state as canonical plain data."""
        state = super().snapshot()
        for name in ("status", "last_normal_view", "accepting", "attention", "awaited", "overdue", "sync_wanted", "attempts", "start_tip"):
            state[name] = getattr(self, name)
        for name in ("entered", "absent", "suspects", "joined"):
            state[name] = sorted(getattr(self, name))
        state["status"] = self.status.value
        state["round"] = self.round and [self.round.position, sorted(self.round.tally.answers.items())]
        state["transfer"] = self.transfer and [self.transfer.fetch, self.transfer.target_hash, self.transfer.source]
        state["messages"] = [self.start_view, self.installing, self.vote, sorted(self.votes.items()), self.held]
        state["merging"] = self.merging and sorted(self.merging)
        return msgspec.to_builtins(state)

    def check_invariants(self) -> None:
        """What the docstring of the class promises."""
        super().check_invariants()
        assert self.last_normal_view <= self.view
        assert self.start_view.view == self.last_normal_view
        if self.status is Status.NORMAL:
            assert self.last_normal_view == self.view
            assert self.accepting == (self.transfer is None)
            assert not self.votes
            assert self.installing is None
            assert self.state.log.matches(self.start_tip, self.start_hash)
        else:
            assert not self.accepting
            assert self.round is None
            assert not self.votes or self.leader == self.index
        if self.round is not None:
            assert self.leader == self.index
            assert self.round.position <= self.tip
        if self.awaited is not None:
            assert self.leader != self.index
