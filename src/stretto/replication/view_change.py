"""The view change: how a replica leaves its view, and how the next one starts.

      all ---StartViewChange(view)---> all
      each, after a majority's ---DoViewChange(log)---> leader of the view           merges f+1 logs
      leader ---StartView(log)---> all ---ViewEntered---> leader                     with a majority, all of it is committed

Source: Liskov and Cowling, "Viewstamped Replication Revisited", 2012, section 4.2; Ports et al., NSDI 2015, section 4.3, have the same
messages. Each protocol merges logs in its own way; see `stretto.replication.merging`.

The end of a StartView's log is the one place of a configuration (`stretto.replication.versions`). Such a view is *sealed*: it begins, and
anything is appended, only when a majority has entered it and the configuration is committed.

      leader ---StartView(log, configuration)---> all ---ViewEntered---> leader ---ViewBegins---> all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.forgetting import Forgetting
from stretto.replication.group import ENTERED, Group, Status
from stretto.replication.log import EMPTY_HASH
from stretto.replication.merging import admitted_incarnations, commit_base
from stretto.replication.messages import (
    CONFIGURATION,
    Commit,
    Configuration,
    DoViewChange,
    GetStartView,
    Recover,
    Request,
    StartView,
    StartViewChange,
    ViewBegins,
    ViewEntered,
)
from stretto.replication.outcomes import OutcomeComparison
from stretto.replication.part import Part
from stretto.replication.pending import PendingRequests
from stretto.replication.startup import Startup
from stretto.replication.state import ReplicatedState
from stretto.replication.transfer import StateTransfer

MAX_BACKOFF_DOUBLINGS = 6

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class ViewHooks:
    """The callbacks by which a view change asks and informs the rest of the replica.

    - `merge(votes)`: returns the entries after the commit base with which our view starts, from exactly f+1 votes.
    - `matched()`: returns the position up to which our log is known to be that of the last view's leader.
    - `left()`: we have left the view. `adopted()`: the log is the one with which the view starts.
    - `entered()`: we have entered the view, sealed or not. `begun()`: it begins.
    - `awaits_configuration()`: whether our code or our file needs another configuration than that of a new cluster.
    - `placed(first, last)`: the view starts with these entries at these positions.
    - `committed(first, last)`: we lead, and a majority has these entries.
    """

    merge: Callable[[Mapping[int, DoViewChange]], Sequence[Request]]
    matched: Callable[[], int]
    left: Callable[[], None]
    adopted: Callable[[], None]
    entered: Callable[[], None]
    begun: Callable[[], None]
    awaits_configuration: Callable[[], bool]
    placed: Callable[[int, int], None]
    committed: Callable[[int, int], None]


class ViewChange(Part):
    """The part of a replica that moves it from view to view.

    - `start_view`: the StartView of the last view that we entered. `start_last`, `start_hash`: its last position, and our hash there.
    - `entered`: at the leader, the members that have entered the view.
    - `joined`, `vote`: in status VIEW_CHANGE, the members that have left the lower views, and our own DoViewChange.
    - `votes`, `merging`: at the new leader, all DoViewChanges, and the f+1 that are merged.
    - `installing`: a StartView that waits for committed entries to arrive.
    - `attempts`: how many views in a row did not start, or ended before anything was committed since `committed_before`.
    - `wanted`: at the leader, a configuration, and the view that is to start with it.

    `entered` and `joined` map a member to the incarnation in which it spoke; see `Group.current_voters`.
    """

    def __init__(
        self,
        group: Group,
        state: ReplicatedState,
        pending: PendingRequests,
        transfer: StateTransfer,
        startup: Startup,
        outcomes: OutcomeComparison,
        forgetting: Forgetting,
        config: ClusterConfig,
        hooks: ViewHooks,
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.pending = pending
        self.transfer = transfer
        self.startup = startup
        self.outcomes = outcomes
        self.forgetting = forgetting
        self.hooks = hooks
        self.start_view = StartView(group.incarnations, 0, 0, EMPTY_HASH, (), group.incarnations)
        self.start_last = 0
        self.start_hash = EMPTY_HASH
        self.entered: dict[int, int] = {}
        self.joined: dict[int, int] = {}
        self.vote: DoViewChange | None = None
        self.votes: dict[int, DoViewChange] = {}
        self.merging: dict[int, DoViewChange] | None = None
        self.installing: StartView | None = None
        self.attempts = 0
        self.committed_before = 0
        self.wanted: tuple[int, Configuration] | None = None
        self.reconciliations = 0
        self.view_changes = 0
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self._timeout_ns = config.timeouts.ns("view_change_timeout")
        self._last_asked_ns = self.port.now_ns - self._retransmit_ns
        self.handlers = {
            Recover: self.on_recover,
            StartViewChange: self.on_start_view_change,
            DoViewChange: self.on_do_view_change,
            StartView: self.on_start_view,
            GetStartView: self.on_get_start_view,
            ViewEntered: self.on_view_entered,
            ViewBegins: self.on_view_begins,
        }
        self.timers = {"view_change": self.on_view_change_timer, "escalate": self.on_escalate_timer}

    # Replicas that have fallen behind

    def ask_for_start_view(self, source: Address, view: int) -> None:
        """Ask a replica that is in a higher view for its StartView, but not for each of its messages."""
        now = self.port.now_ns
        if now - self._last_asked_ns >= self._retransmit_ns:
            self._last_asked_ns = now
            self.port.send(source, GetStartView(self.group.incarnations, view))

    def offer_start_view(self, source: Address) -> None:
        """Send our StartView to a replica that has fallen behind, if we have entered our view."""
        if self.group.status in ENTERED:
            self.port.send(source, self.start_view)
        else:
            self.group.ignore("asks for a view that has not started")

    def on_get_start_view(self, source: Address, message: GetStartView) -> None:
        """A replica has fallen behind."""
        self.offer_start_view(source)

    # Leaving a view: the part of every replica

    def start_next(self, reason: str) -> None:
        """Start the next view of the same leader, if that has not lost its state."""
        self.start(self.group.view + self.group.n, reason)

    def configure(self, configuration: Configuration) -> None:
        """As the leader, start our next view with this configuration at the end of its log."""
        self.wanted = (self.group.view + self.group.n, configuration)
        self.start_next("configuration")

    def suspect_leader(self) -> None:
        """A majority suspects the leader: start a view with another one."""
        self.start(self.group.view + 1, "leader suspected")

    def start(self, view: int, reason: str) -> None:
        """Leave the present view and try to start `view`, or the first after it whose leader has not lost its state."""
        while self._lost_state(view % self.group.n):
            view += 1
        assert view > self.group.view
        self._start(view, reason)

    def join(self, view: int) -> None:
        """Try to start a higher view that another replica tries to start.

        That replica believes the view's leader to be in service. Even if we do not, we join: otherwise two replicas could skip each other's
        views for ever.
        """
        self._start(view, "joined")

    def _start(self, view: int, reason: str) -> None:
        group = self.group
        if self.state.committed > self.committed_before:
            self.committed_before = self.state.committed
            self.attempts = 0
        self.port.report("view change", view=view, reason=reason, committed=self.state.committed, last=self.state.log.last)
        self._leave(view)
        self.joined = {group.index: group.incarnation}
        self._wait()
        group.send_to_peers(StartViewChange(group.incarnations, view))
        self._vote_with_majority()

    def _leave(self, view: int) -> None:
        """Go to status VIEW_CHANGE for a higher view. Work in progress ends, except a transfer, since committed entries do not change."""
        group = self.group
        group.change_view(view)
        group.change_status(Status.VIEW_CHANGE)
        self.hooks.left()
        self.joined = {}
        self.vote = None
        self.votes = {}
        self.merging = None
        self.installing = None
        self.port.set_timer("view_change", self._retransmit_ns)
        if self.port.durable:
            self.port.persist(StartViewChange(group.incarnations, view))

    def on_start_view_change(self, source: Address, message: StartViewChange) -> None:
        """Count the members that have left the lower views."""
        assert self.group.status is Status.VIEW_CHANGE
        self.joined[source] = message.incarnations[source]
        self._vote_with_majority()

    def _vote_with_majority(self) -> None:
        """Vote once a majority has left the lower views: then no operation can complete in them any more."""
        group = self.group
        if self.vote is not None or not group.has_majority(self.joined):
            return
        self.vote = self._make_vote()
        if group.is_leader:
            self.votes[group.index] = self.vote
            self._merge_with_majority()
        else:
            self.port.send(group.leader, self.vote)

    def _make_vote(self) -> DoViewChange:
        group, log, committed = self.group, self.state.log, self.state.committed
        entries, summary = tuple(log.entries(committed + 1)), log.hash_at(committed)
        return DoViewChange(group.incarnations, group.view, group.last_normal_view, committed, summary, self.hooks.matched(), entries)

    def on_view_change_timer(self) -> None:
        """Send our StartViewChange and our vote again; in a sealed view, our StartView or our ViewEntered."""
        group = self.group
        self.port.set_timer("view_change", self._retransmit_ns)
        if group.status is Status.SEALED:
            return self._say_entered()
        group.send_to_peers(StartViewChange(group.incarnations, group.view))
        if self.vote is not None and not group.is_leader:
            self.port.send(group.leader, self.vote)
        return None

    def on_busy(self, source: Address) -> None:
        """A member is busy, and the view cannot start before it is not: wait for it."""
        if self.group.status in (Status.VIEW_CHANGE, Status.SEALED):
            self._wait()

    def _wait(self) -> None:
        """Give the view its whole time, from now on. It grows as long as views follow each other and nothing is committed."""
        self.port.set_timer("escalate", self._timeout_ns << min(self.attempts, MAX_BACKOFF_DOUBLINGS))

    def on_escalate_timer(self) -> None:
        """The view did not start in time. Try the next one if a majority has left the lower views; if not, we may be cut off ourselves.

        If the timer is late, it was us who had no time.
        """
        if self.port.late_ns > self._timeout_ns // 2:
            self._wait()
        elif self.group.status is Status.SEALED or self.group.has_majority(self.joined):
            self.attempts += 1
            self.start(self.group.view + 1, "the view did not start")
        else:
            self._wait()

    # Starting a view: its leader's part

    def on_do_view_change(self, source: Address, message: DoViewChange) -> None:
        """Count a vote for the view that we are to lead."""
        assert self.group.is_leader
        former = self.votes.get(source)
        if former is None or former.incarnations[source] != message.incarnations[source]:
            self.votes[source] = message
        self.joined[source] = message.incarnations[source]
        self._vote_with_majority()
        self._merge_with_majority()

    def _current_votes(self, votes: Mapping[int, DoViewChange]) -> list[int]:
        return self.group.current_voters({voter: vote.incarnations[voter] for voter, vote in votes.items()})

    def _merge_with_majority(self) -> None:
        """Merge f+1 votes, our own included, once they have arrived."""
        index = self.group.index
        voters = self._current_votes(self.votes)
        if index in voters and len(voters) >= self.group.quorums.majority and self.merging is None:
            others = [voter for voter in sorted(voters) if voter != index][: self.group.quorums.f]
            self.merging = {voter: self.votes[voter] for voter in [index, *others]}
            self._merge()

    def _merge(self) -> None:
        """Merge exactly f+1 logs, once we have all that is committed in any of them, and start the view with the result."""
        group = self.group
        assert self.merging is not None
        assert len(self.merging) == group.quorums.majority
        self.merging[group.index] = self._make_vote()  # committed entries may have come since the first time
        if len(self._current_votes(self.merging)) < group.quorums.majority:
            self.merging = None  # a voter lost its state while we fetched
            return self._merge_with_majority()
        voter, base, base_hash = commit_base(self.merging)
        if not self.state.is_committed_as(base, base_hash):
            return self.transfer.fetch(base, base_hash, voter)
        self._commit(base)
        merged, admitted = tuple(self.hooks.merge(self.merging)), admitted_incarnations(self.merging)
        if self.wanted is not None and self.wanted[0] == group.view and not _is_sealed(merged):
            merged = (*merged, self._entry_of(self.wanted[1]))
        start_view = StartView(group.incarnations, group.view, base, base_hash, merged, admitted)
        group.send_to_peers(start_view)
        return self._enter(start_view)

    def _entry_of(self, configuration: Configuration) -> Request:
        """The entry of a configuration. Its time is that of the entry before; its number is that of the view that starts with it."""
        entropy = self.port.random.getrandbits(32)
        return Request(self.group.index, CONFIGURATION, self.group.view, 0, entropy, _encode(configuration))

    def _commit(self, position: int) -> None:
        """Commit what a vote or a StartView knows to be committed, in whichever view."""
        self.state.commit_up_to(max(position, self.state.committed), in_view=False)

    def on_view_entered(self, source: Address, message: ViewEntered) -> None:
        """A follower has entered the view."""
        self.outcomes.note(source, message.incarnations[source], message.position, message.outcome)
        self.note_entered(source, message.incarnations[source])
        if _is_sealed(self.start_view.entries) and self.group.status is not Status.SEALED:
            self.port.send(source, ViewBegins(self.group.incarnations, self.group.view))

    def note_entered(self, member: int, incarnation: int) -> None:
        """Once a majority has entered the view, the log with which it started is committed."""
        group = self.group
        assert group.is_leader
        self.entered[member] = incarnation
        if self.start_last > self.state.committed and group.has_majority(self.entered):
            first = self.state.committed + 1
            if group.status is Status.SEALED:
                group.send_to_peers(ViewBegins(group.incarnations, group.view))
                self._unseal()
            assert group.accepting
            self.state.commit_up_to(max(self.start_last, self.state.committed))
            group.send_to_peers(
                Commit(group.incarnations, group.view, self.start_last, self.start_hash, self.outcomes.agreed_outcome(self.start_last))
            )
            self.hooks.committed(first, self.start_last)

    def on_view_begins(self, source: Address, message: ViewBegins) -> None:
        """A majority has entered the sealed view that we are in."""
        if self.state.is_sealed:
            self._unseal()
        else:
            self.group.ignore("a view that waits for no configuration")

    def _unseal(self) -> None:
        """The log with which the sealed view started is committed: execute the configuration, and begin the view."""
        first = self.state.committed + 1
        self.state.commit_up_to(self.start_last)
        self.group.change_status(Status.NORMAL)
        self._work(first)

    # Entering a view

    def on_start_view(self, source: Address, message: StartView) -> None:
        """Take over the log with which the view starts. First fetch the committed entries before it that we lack."""
        group = self.group
        if self.forgetting.refuses(message.commit_base, message.commit_base_hash, message.entries):
            return group.ignore("a view without what is committed here")
        if not group.in_service:
            if not self._admits_us(message):
                return group.ignore("a view whose voters did not all know of our loss")
            group.change_view(message.view)
            self.startup.install(message.view)
        elif message.view > group.view:
            self._leave(message.view)
        if self.installing is not None and self.installing.view == message.view:
            return group.ignore("the view is being entered")
        self.port.cancel_timer("escalate")  # the view has started: do not start another only because we are slow to enter it
        self.installing = message
        return self._install(message, source)

    def _install(self, start_view: StartView, source: Address) -> None:
        base, base_hash = start_view.commit_base, start_view.commit_base_hash
        if self.forgetting.refuses(base, base_hash, start_view.entries):
            self.installing = None
            self.group.ignore("a view without what is committed here")
        elif self.state.is_committed_as(base, base_hash):
            self._commit(base)
            self._enter(start_view)
        else:
            self.transfer.fetch(base, base_hash, source)

    def go_on(self, source: Address) -> None:
        """Committed entries that we lacked are here: go on with what needed them, if it still does."""
        if self.installing is not None:
            self._install(self.installing, source)
        elif self.merging is not None:
            self._merge()

    def _enter(self, start_view: StartView) -> None:
        """Enter the view with its log. Then answer waiting clients, and append our own other entries and the pending requests."""
        group, state = self.group, self.state
        self.transfer.end()
        self.transfer.adopt(start_view.commit_base, start_view.entries)
        self.pending.forget_superseded()
        if group.in_service:
            self.view_changes += group.leader != group.last_normal_view % group.n
            self.reconciliations += 1
        self.start_view = start_view
        self.votes = {}
        self.merging = None
        self.installing = None
        for name in ("view_change", "escalate"):
            self.port.cancel_timer(name)
        self.hooks.adopted()
        if self.port.durable:
            self.port.persist(start_view)
        self._begin(sealed=state.is_sealed)
        if group.quorums.majority == 1:
            self.note_entered(group.index, group.incarnation)

    def _begin(self, *, sealed: bool) -> None:
        """We are in the view, and our log is the one with which it starts. Begin its normal operation, unless it is sealed."""
        group, log, start_view = self.group, self.state.log, self.start_view
        self.startup.end()
        group.enter_view(sealed=sealed)
        self.start_last = max(self.state.committed, start_view.commit_base + len(start_view.entries))
        self.start_hash = log.hash_at(self.start_last)
        self.entered = {group.index: group.incarnation}
        self.port.report("view entered", view=group.view, leader=group.leader, commit_base=start_view.commit_base, last=log.last)
        if sealed:
            self.port.set_timer("view_change", self._retransmit_ns)
            self._wait()
        if not group.is_leader:
            self._say_entered()
        self.hooks.entered()
        if not sealed:
            self._work(max(start_view.commit_base, self.state.committed) + 1)

    def _say_entered(self) -> None:
        """A follower tells the leader that it has entered the view. The leader of a sealed view reminds the others of it."""
        group, state = self.group, self.state
        if group.is_leader:
            group.send_to_peers(self.start_view)
        else:
            position = min(self.start_last, state.executed)
            self.port.send(group.leader, ViewEntered(group.incarnations, group.view, position, state.outcome_at(position)))

    def _work(self, first: int) -> None:
        """Begin the view's normal operation. The clients of the entries from position `first` on, and pending ones, have waited for it."""
        for name in ("view_change", "escalate"):
            self.port.cancel_timer(name)
        self.hooks.begun()
        self.hooks.placed(first, self.start_last)
        self.pending.accept_all()

    # Coming into service

    def enter_first(self) -> None:
        """All members start for the first time: enter view 0. It does not admit a member that has lost its state since.

        If the cluster needs another configuration than a new one has, the view stays sealed: its leader starts the next view with that as
        soon as it has heard what all members say, and no call is answered before.
        """
        group = self.group
        self.start_view = StartView(group.incarnations, 0, 0, group.life, (), group.first)
        if self.port.durable:
            self.port.persist(self.start_view)
        self._begin(sealed=self.hooks.awaits_configuration())

    def replay(self, record: Message) -> None:
        """An earlier start of this replica left the views below this one, or entered it."""
        if isinstance(record, StartViewChange):
            self.group.restore_view(record.view, was_entered=False)
        elif isinstance(record, StartView):
            self.start_view = record
            self.group.restore_view(record.view, was_entered=True)

    def records(self) -> list[Message]:
        """See `Part`."""
        group = self.group
        left = [StartViewChange(group.incarnations, group.view)] if group.view > group.last_normal_view else []
        return [self.start_view, *left] if group.in_service else []

    @property
    def has_entered(self) -> bool:
        """Whether an earlier start of this replica has entered a view."""
        return self.group.last_normal_view >= 0

    def resume(self) -> None:
        """Continue in the view that was persisted last, or try to enter it."""
        group = self.group
        if group.view > group.last_normal_view:
            self._start(group.view, "started again")
        else:
            self._begin(sealed=self.state.is_sealed)

    def _lost_state(self, member: int) -> bool:
        """Whether another member is known in an incarnation that our view does not admit. It has lost its state: it cannot lead or vote.

        False for this replica: it knows its promises, even if it had to take a new incarnation.
        """
        return member != self.group.index and self.group.incarnations[member] != self.start_view.admitted_incarnations[member]

    def _admits_us(self, start_view: StartView) -> bool:
        admitted, group = start_view.admitted_incarnations, self.group
        return len(admitted) == group.n and admitted[group.index] == group.incarnation

    def on_recover(self, source: Address, message: Recover) -> None:
        """Let a replica take part again, with the log of a view whose voters all knew of its loss. If ours is no such view, start one."""
        if self._lost_state(source):
            self.start_next(f"replica {source} recovers")
        elif message.view < self.group.view:
            self.port.send(source, self.start_view)
        else:
            self.group.ignore("installs this view already")

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`."""
        return {"reconciliations": self.reconciliations, "view_changes": self.view_changes}

    def snapshot(self) -> Any:
        """See `Part`."""
        return {
            "may_ask": self.port.now_ns - self._last_asked_ns >= self._retransmit_ns,
            "start_view": [self.start_view, self.start_last, self.start_hash],
            "sets": [sorted(spoken.items()) for spoken in (self.entered, self.joined)],
            "votes": [self.vote, sorted(self.votes.items()), self.merging and sorted(self.merging.items())],
            "installing": self.installing,
            "attempts": [self.attempts, self.committed_before],
            "wanted": self.wanted,
        }

    def check_invariants(self) -> None:
        """See `Part`."""
        group = self.group
        assert group.last_normal_view <= group.view
        assert self.start_view.view == group.last_normal_view or not group.in_service
        if group.status in ENTERED:
            assert group.last_normal_view == group.view
            assert self.start_last <= self.state.committed or self.state.log.matches(self.start_last, self.start_hash)
            assert not self.votes
            assert self.installing is None
        else:
            assert not self.votes or group.is_leader


def _is_sealed(entries: Sequence[Request]) -> bool:
    """Whether the log of a StartView with these entries ends with a configuration."""
    return bool(entries) and entries[-1].session == CONFIGURATION
