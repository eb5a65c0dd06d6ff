"""Views: which messages count in the present one, who suspects its leader, and how the next one starts.

      all ---StartViewChange(view)---> all
      each, having it from a majority ---DoViewChange(log)---> leader of the view    merges f+1 logs
      leader ---StartView(log)---> all ---ViewEntered---> leader                     with a majority, all of it is committed

Source: Liskov and Cowling, "Viewstamped Replication Revisited", 2012, section 4.2; Ports et al., NSDI 2015, section 4.3, have the same
messages. How logs are merged is the protocol's own: `PeerReplica.merge`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.admission import Phase, life
from stretto.replication.log import EMPTY_HASH
from stretto.replication.merging import known_to_all, settled
from stretto.replication.messages import (
    Commit,
    DoViewChange,
    GetStartView,
    Recover,
    StartView,
    StartViewChange,
    Suspect,
    ViewEntered,
    ViewMessage,
)

if TYPE_CHECKING:
    from stretto.replication.peer import PeerReplica

MAX_BACKOFF_DOUBLINGS = 6


class Status(Enum):
    """NORMAL: in its view, executing requests. VIEW_CHANGE: it has stopped, and tries to enter its view.

    RECOVERING: not in service yet, or not again; it has no vote and gives no answer.
    """

    NORMAL = "normal"
    VIEW_CHANGE = "view change"
    RECOVERING = "recovering"


class Views:
    """The part of a replica that moves it from view to view.

    - `status`; `last_normal_view`: the view in which it was last NORMAL. It is not taken from the log: a view may pass without an entry.
    - `start_view`: what that view started with, never changed; `start_tip`, `start_hash`: where that ends in our log while NORMAL.
    - `entered`: the leader's: who is known to be in the view.
    - `joined`, `vote`: in a VIEW_CHANGE: who started this view, and our own DoViewChange. `votes`, `merging`: its leader's: all of
      those, and the f+1 of them that are merged. `installing`: a StartView that waits for committed entries to arrive.
    - `attempts`: how many views in a row did not start.
    - `suspects`: who suspects the leader of this view.
    - `absent`: followers that the leader has given up waiting for, and has not heard since. None at a follower.

    `entered`, `joined` and `suspects` map a replica to the incarnation in which it spoke; see `PeerReplica.standing`.
    """

    def __init__(self, replica: PeerReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.quorums = replica.quorums
        self.status = Status.RECOVERING
        self.last_normal_view = -1
        self.start_view = StartView(replica.incarnations, 0, 0, EMPTY_HASH, (), replica.incarnations)
        self.start_tip = 0
        self.start_hash = EMPTY_HASH
        self.entered: dict[int, int] = {}
        self.joined: dict[int, int] = {}
        self.vote: DoViewChange | None = None
        self.votes: dict[int, DoViewChange] = {}
        self.merging: dict[int, DoViewChange] | None = None
        self.installing: StartView | None = None
        self.attempts = 0
        self.suspects: dict[int, int] = {}
        self.absent: set[int] = set()
        self.reconciliations = 0
        self.view_changes = 0
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self._timeout_ns = config.timeouts.ns("view_change_timeout")
        self._leader_timeout_ns = config.timeouts.ns("leader_timeout")
        self._last_asked_ns = replica.port.now_ns - self._retransmit_ns
        self._heard_ns: dict[int, int] = {}
        self._leader_heard_ns = 0

    # Which messages count

    def counts(self, source: Address, message: ViewMessage) -> bool:
        """Whether a message of the normal operation of a view counts here and now; if its view is ahead, ask to be let in."""
        replica = self.replica
        if message.view > replica.view:
            replica.ignore("of a higher view")
            self._ask_for_start_view(source, message.view)
        elif message.view < replica.view:
            replica.ignore("of an older view")
        elif self.status is not Status.NORMAL:
            replica.ignore("during a view change")
        else:
            self._heard_ns[source] = self.port.now_ns
            self.absent.discard(source)
            return True
        return False

    def _ask_for_start_view(self, source: Address, view: int) -> None:
        """Ask whoever is ahead, but not at each of its messages."""
        now = self.port.now_ns
        if now - self._last_asked_ns >= self._retransmit_ns:
            self._last_asked_ns = now
            self.port.send(source, GetStartView(self.replica.incarnations, view))

    def on_get_start_view(self, source: Address, message: GetStartView) -> None:
        """Somebody has fallen behind."""
        self._offer_start_view(source)

    def _offer_start_view(self, source: Address) -> None:
        if self.status is Status.NORMAL:
            self.port.send(source, self.start_view)
        else:
            self.replica.ignore("asks for a view that has not started")

    def silent_since(self, since_ns: int) -> set[int]:
        """The peers of which nothing has been heard since that time."""
        return {peer for peer in self.replica.peers if self._heard_ns[peer] < since_ns}

    # Suspicion

    def _begin_watch(self) -> None:
        """In a new view, everyone has just been heard."""
        now = self.port.now_ns
        self._heard_ns = dict.fromkeys(range(self.replica.n), now)
        self._leader_heard_ns = now
        if not self.replica.is_leader:
            self.absent = set()
            self.port.set_timer("leader", self._leader_timeout_ns // 4)

    def hear_leader(self) -> None:
        """The leader's sign of life has come; its other messages are none: a leader that suspects itself sends messages too."""
        self._leader_heard_ns = self.port.now_ns
        self.suspects.clear()

    def on_leader_timer(self) -> None:
        """A follower looks whether the leader still shows life."""
        self.port.set_timer("leader", self._leader_timeout_ns // 4)
        if self.port.now_ns - self._leader_heard_ns >= self._leader_timeout_ns:
            self._suspect()

    def leader_may_go_on(self) -> bool:
        """Whether the leader has heard a majority of late. One that hears nobody must not look alive: it suspects itself instead."""
        since = self.port.now_ns - self._leader_timeout_ns
        if 1 + sum(self._heard_ns[peer] >= since for peer in self.replica.peers) >= self.quorums.majority:
            self.suspects.pop(self.replica.index, None)
            return True
        self._suspect()
        return False

    def _suspect(self) -> None:
        """Tell all that this view's leader seems cut off. That alone changes no view: whoever is deaf must not drag others along."""
        replica = self.replica
        self.suspects[replica.index] = replica.incarnation
        replica.send_to_peers(Suspect(replica.incarnations, replica.view))
        self._judge_suspicion()

    def on_suspect(self, source: Address, message: Suspect) -> None:
        """Count a suspicion. Whoever suspects in an older view has missed something, and is told."""
        if message.view < self.replica.view:
            self._offer_start_view(source)
        elif self.counts(source, message):
            self.suspects[source] = message.incarnations[source]
            self._judge_suspicion()

    def _judge_suspicion(self) -> None:
        """With a majority that suspects, ourselves among them, go on without the leader."""
        if self.replica.index in self.suspects and len(self.replica.standing(self.suspects)) >= self.quorums.majority:
            self.start(self.replica.view + 1, "leader suspected")

    # Starting a view: everyone's part

    def start_next(self, reason: str) -> None:
        """Start a view with the same leader, if that one is in service."""
        self.start(self.replica.view + self.replica.n, reason)

    def start(self, view: int, reason: str) -> None:
        """Stop working in the present view and try to start a higher one: `view`, or the first after it whose leader is in service."""
        while self._lost_memory(view % self.replica.n):
            view += 1
        assert view > self.replica.view
        self._start(view, reason)

    def _start(self, view: int, reason: str) -> None:
        replica = self.replica
        self.port.report("view change", view=view, reason=reason, committed=self.state.committed, tip=self.state.log.tip)
        self._leave(view)
        self.joined = {replica.index: replica.incarnation}
        self.port.set_timer("escalate", self._timeout_ns << min(self.attempts, MAX_BACKOFF_DOUBLINGS))
        replica.send_to_peers(StartViewChange(replica.incarnations, view))
        self._judge_joined()

    def _leave(self, view: int) -> None:
        """Be in a VIEW_CHANGE for a higher view, with nothing left of what was under way."""
        replica = self.replica
        replica.view = view
        replica.accepting = False  # what is being fetched goes on: committed entries are the same in every view
        replica.leave_view()
        self.status = Status.VIEW_CHANGE
        self.joined = {}
        self.vote = None
        self.votes = {}
        self.merging = None
        self.installing = None
        self.suspects.clear()
        self.port.cancel_timer("leader")
        self.port.set_timer("view_change", self._retransmit_ns)
        if self.port.durable:
            self.port.persist(StartViewChange(replica.incarnations, view))

    def on_start_view_change(self, source: Address, message: StartViewChange) -> None:
        """Join a higher view; count who else has; tell those who are late what the view started with.

        Whoever started it holds its leader to be in service. If we do not, we join all the same: two that pass over each other's views
        would go on for ever.
        """
        if message.view > self.replica.view:
            self._start(message.view, "joined")
        if message.view == self.replica.view and self.status is Status.VIEW_CHANGE:
            self.joined[source] = message.incarnations[source]
            self._judge_joined()
        else:
            self._offer_start_view(source)

    def _judge_joined(self) -> None:
        """With a majority that has stopped, give the vote: nothing can complete in an older view behind its back."""
        if self.vote is not None or not self._majority_joined():
            return
        self.vote = self._make_vote()
        if self.replica.is_leader:
            self.votes[self.replica.index] = self.vote
            self._judge_votes()
        else:
            self.port.send(self.replica.leader, self.vote)

    def _majority_joined(self) -> bool:
        return len(self.replica.standing(self.joined)) >= self.quorums.majority

    def _make_vote(self) -> DoViewChange:
        replica, log, committed = self.replica, self.state.log, self.state.committed
        entries = tuple(log.entries(committed + 1))
        summary, confirmed = log.hash_at(committed), replica.confirmed
        return DoViewChange(replica.incarnations, replica.view, self.last_normal_view, committed, summary, confirmed, entries)

    def on_view_change_timer(self) -> None:
        """Say again what should have led to the view by now."""
        replica = self.replica
        self.port.set_timer("view_change", self._retransmit_ns)
        replica.send_to_peers(StartViewChange(replica.incarnations, replica.view))
        if self.vote is not None and not replica.is_leader:
            self.port.send(replica.leader, self.vote)

    def on_escalate_timer(self) -> None:
        """The view did not start in time: try the next leader, but only together with a majority (we may be the one who is cut off)."""
        if self._majority_joined():
            self.attempts += 1
            self.start(self.replica.view + 1, "the view did not start")
        else:
            self.port.set_timer("escalate", self._timeout_ns)

    # Starting a view: its leader's part

    def on_do_view_change(self, source: Address, message: DoViewChange) -> None:
        """Count a vote for the view that we are to lead."""
        replica = self.replica
        if message.view % replica.n != replica.index:
            return replica.ignore("not the leader")
        if message.view > replica.view:
            self.start(message.view, "joined")
        if message.view < replica.view or self.status is not Status.VIEW_CHANGE:
            return self._offer_start_view(source)
        former = self.votes.get(source)
        if former is None or former.incarnations[source] != message.incarnations[source]:
            self.votes[source] = message
        self.joined[source] = message.incarnations[source]
        self._judge_joined()
        return self._judge_votes()

    def _standing_votes(self, votes: dict[int, DoViewChange]) -> list[int]:
        return self.replica.standing({voter: vote.incarnations[voter] for voter, vote in votes.items()})

    def _judge_votes(self) -> None:
        """With f+1 votes, our own among them, merge them."""
        index = self.replica.index
        voters = self._standing_votes(self.votes)
        if index in voters and len(voters) >= self.quorums.majority and self.merging is None:
            others = [voter for voter in sorted(voters) if voter != index][: self.quorums.f]
            self.merging = {voter: self.votes[voter] for voter in [index, *others]}
            self._merge()

    def _merge(self) -> None:
        """Merge exactly f+1 logs, once we have all that is committed in any of them, and start the view with the result."""
        replica = self.replica
        assert self.merging is not None
        assert len(self.merging) == self.quorums.majority
        self.merging[replica.index] = self._make_vote()  # committed entries may have come since the first time
        if len(self._standing_votes(self.merging)) < self.quorums.majority:
            self.merging = None  # while we fetched, a voter lost its memory
            return self._judge_votes()
        voter, base, base_hash = settled(self.merging)
        if not replica.has_committed(base, base_hash, voter):
            return None
        merged, readmits = tuple(replica.merge(self.merging)), known_to_all(self.merging)
        start_view = StartView(replica.incarnations, replica.view, base, base_hash, merged, readmits)
        replica.send_to_peers(start_view)
        return self._enter(start_view)

    def on_view_entered(self, source: Address, message: ViewEntered) -> None:
        """Count who is in the view."""
        if message.view > self.replica.view:
            return self.replica.ignore("of a higher view")
        if not self.counts(source, message):
            return None
        if not self.replica.is_leader:
            return self.replica.ignore("not the leader")
        return self.note_entered(source, message.incarnations[source])

    def note_entered(self, source: Address, incarnation: int) -> None:
        """With a majority in the view, all that it started with is committed."""
        replica = self.replica
        self.entered[source] = incarnation
        self.suspects.pop(source, None)
        if self.start_tip > self.state.committed and len(replica.standing(self.entered)) >= self.quorums.majority:
            assert replica.accepting
            first = self.state.committed + 1
            self.state.commit_up_to(self.start_tip)
            replica.send_to_peers(Commit(replica.incarnations, replica.view, self.start_tip, self.start_hash))
            replica.on_committed(first, self.start_tip)

    # Entering a view

    def on_start_view(self, source: Address, message: StartView) -> None:
        """Take over the log that the view starts with, once we have all that is committed before it."""
        replica = self.replica
        if message.view < replica.view:
            return replica.ignore("of an older view")
        if message.view == replica.view and self.status is Status.NORMAL:
            return replica.ignore("the view has been entered")
        if self.status is Status.RECOVERING:
            if not self._readmits_us(message):
                return replica.ignore("a view whose voters did not all know of our loss")
            replica.view = message.view
            replica.admission.install(message.view)
        elif message.view > replica.view:
            self._leave(message.view)
        if self.installing is not None and self.installing.view == message.view:
            return replica.ignore("the view is being entered")
        self.port.cancel_timer("escalate")  # it has started; that we are slow to enter it is no reason for another
        self.installing = message
        return self._install(message, source)

    def _install(self, start_view: StartView, source: Address) -> None:
        if self.replica.has_committed(start_view.base, start_view.base_hash, source):
            self._enter(start_view)

    def go_on(self, source: Address) -> None:
        """Committed entries that we lacked are here: go on with what needed them, if it still does."""
        if self.installing is not None:
            self._install(self.installing, source)
        elif self.merging is not None:
            self._merge()

    def _enter(self, start_view: StartView) -> None:
        """Be NORMAL with the view's log; then come the answers that this owes to clients, our own operations, and what has been kept."""
        replica, state = self.replica, self.state
        replica.transfer.end()
        replica.adopt(start_view.base, start_view.entries)
        replica.held.forget_superseded()
        if self.status is Status.RECOVERING:
            replica.admission.complete()
        else:
            self.view_changes += replica.leader != self.last_normal_view % replica.n
            self.reconciliations += 1
        self.last_normal_view = replica.view
        self.start_view = start_view
        if self.port.durable:
            self.port.persist(start_view)
        self.votes = {}
        self.merging = None
        self.installing = None
        self.attempts = 0
        self.port.cancel_timer("view_change")
        self.port.cancel_timer("escalate")
        self._be_normal()
        replica.on_entered(max(start_view.base, state.committed) + 1, state.log.tip)
        replica.accept_held()
        if self.quorums.majority == 1:
            self.note_entered(replica.index, replica.incarnation)

    def _be_normal(self) -> None:
        """Work in the view that we have entered."""
        replica, log, start_view = self.replica, self.state.log, self.start_view
        self.status = Status.NORMAL
        self.start_tip = max(self.state.committed, start_view.base + len(start_view.entries))
        self.start_hash = log.hash_at(self.start_tip)
        self.entered = {replica.index: replica.incarnation}
        self.port.report("view entered", view=replica.view, leader=replica.leader, base=start_view.base, tip=log.tip)
        if not replica.is_leader:
            self.port.send(replica.leader, ViewEntered(replica.incarnations, replica.view))
        self._begin_watch()
        replica.begin_view()

    # Coming into service

    def enter_first(self) -> None:
        """All replicas start for the first time: be in view 0, which readmits nobody who has lost his memory since."""
        replica = self.replica
        first_lives = tuple(incarnation if life(incarnation) == 1 else 0 for incarnation in replica.incarnations)
        self.last_normal_view = 0
        self.start_view = StartView(replica.incarnations, 0, 0, EMPTY_HASH, (), first_lives)
        if self.port.durable:
            self.port.persist(self.start_view)
        self._be_normal()
        replica.accept_held()

    def replay(self, record: StartViewChange | StartView) -> None:
        """An earlier life of ours left the views below this one, or entered it."""
        self.replica.view = record.view
        if isinstance(record, StartView):
            self.start_view = record
            self.last_normal_view = record.view

    def records(self) -> list[Message]:
        """What, replayed, brings a replica where this one is."""
        replica = self.replica
        left = [StartViewChange(replica.incarnations, replica.view)] if replica.view > self.last_normal_view else []
        return [self.start_view, *left] if replica.serving else []

    def resume(self) -> bool:
        """Be as we were when the last record was written: in the view, or trying to enter it. False if we have been in none."""
        replica = self.replica
        if self.last_normal_view < 0:
            return False
        if replica.view > self.last_normal_view:
            self._start(replica.view, "started again")
        else:
            self._be_normal()
            replica.accept_held()
        return True

    def _lost_memory(self, member: int) -> bool:
        """Whether another is known in an incarnation that this view does not readmit: then it leads none, and has no vote.

        Not we: we know what we have promised, whatever incarnation we had to take to be heard.
        """
        return member != self.replica.index and self.replica.incarnations[member] != self.start_view.readmits[member]

    def _readmits_us(self, start_view: StartView) -> bool:
        """Whether a view lets us in. Before we have an incarnation of this life, none does: what we know is that of an earlier one."""
        replica = self.replica
        if replica.admission.phase is Phase.ASKING or len(start_view.readmits) != replica.n:
            return False
        return start_view.readmits[replica.index] == replica.incarnation

    def on_recover(self, source: Address, message: Recover) -> None:
        """Let a replica back in with the log of a view for which all who voted know that it lost its memory; if this is none, start one."""
        if self.status is not Status.NORMAL:
            self.replica.ignore("during a view change")
        elif self._lost_memory(source):
            self.start_next(f"replica {source} recovers")
        elif message.view < self.replica.view:
            self.port.send(source, self.start_view)
        else:
            self.replica.ignore("installs this view already")

    # Watching

    def snapshot(self) -> dict[str, Any]:
        """The fields as canonical plain data."""
        now, silent_since = self.port.now_ns, self.port.now_ns - self._leader_timeout_ns
        return {
            "may_ask": now - self._last_asked_ns >= self._retransmit_ns,
            "leader_silent": self._leader_heard_ns <= silent_since,
            "heard": sorted(peer for peer, heard_ns in self._heard_ns.items() if heard_ns >= silent_since),
            "status": self.status.value,
            "last_normal_view": self.last_normal_view,
            "start_view": [self.start_view, self.start_tip],
            "sets": [sorted(spoken.items()) for spoken in (self.entered, self.joined, self.suspects)],
            "votes": [self.vote, sorted(self.votes.items()), self.merging and sorted(self.merging.items())],
            "installing": self.installing,
            "attempts": self.attempts,
            "absent": sorted(self.absent),
        }

    def check_invariants(self) -> None:
        """What the docstring of the class promises."""
        view = self.replica.view
        assert self.last_normal_view <= view
        assert self.start_view.view == self.last_normal_view or self.status is Status.RECOVERING
        assert (self.status is Status.RECOVERING) == (not self.replica.serving)
        assert not self.absent or self.replica.is_leader or not self.replica.accepting
        if self.status is Status.NORMAL:
            assert self.last_normal_view == view
            assert self.start_tip <= self.state.committed or self.state.log.matches(self.start_tip, self.start_hash)
            assert not self.votes
            assert self.installing is None
        else:
            assert not self.votes or self.replica.is_leader
