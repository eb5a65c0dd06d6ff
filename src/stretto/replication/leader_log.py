"""The leader's log: followers take it over within a view, and entries that a majority has are committed.

    r0 (leader) ---Prepare(entries)---> all ---PrepareOk(position)---> r0        committed, with f+1 in all

This is safe because of one rule: within its view, the leader's log only grows. So a follower may take it over without a vote, and every
later majority has each entry that f+1 replicas have matched. (Liskov and Cowling, "Viewstamped Replication Revisited", 2012, section 4.1.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.failure_detector import FailureDetector
from stretto.replication.group import Group
from stretto.replication.messages import (
    OPEN_SESSION,
    Commit,
    EntriesCompacted,
    Forward,
    GetLog,
    Heartbeat,
    Prepare,
    PrepareOk,
    Request,
    StartView,
)
from stretto.replication.outcomes import OutcomeComparison
from stretto.replication.part import Part, ignore_event
from stretto.replication.pending import PendingRequests
from stretto.replication.quorums import reached_by
from stretto.replication.records import Matched
from stretto.replication.sessions import identity
from stretto.replication.state import ReplicatedState
from stretto.replication.transfer import StateTransfer, chunk_of
from stretto.replication.view_change import ViewChange

MAX_OUT_OF_ORDER = 1_000
"""How many Prepares a follower keeps that have arrived out of order."""

MAX_FORWARDED = 1_000
"""How many requests a follower forwards at a time."""

_UNKNOWN = b""


@dataclass(frozen=True)
class LogEvents:
    """The callbacks by which the leader's log informs the protocol.

    - `committed(first, last)`: we lead, and a majority has these entries.
    - `matched(first, last, is_awaited)`: we follow, and these entries of our log are known to be the leader's. `is_awaited`: the leader
      sent them because not all replicas had them, so clients may be waiting for our answers.
    - `acknowledged(diverged)`: we lead, and a follower has our log; `diverged`: it had another order before.
    - `log_requested()`: we lead, and a follower's log differs from ours or lacks entries.
    """

    committed: Callable[[int, int], None]
    matched: Callable[[int, int, bool], None] = ignore_event
    acknowledged: Callable[[bool], None] = ignore_event
    log_requested: Callable[[], None] = ignore_event


class LeaderLog(Part):
    """The part of a replica that sends its log to followers, or takes over its leader's log.

    At the leader and at followers:

    - `slow_path`: whether the leader sends every entry in a Prepare. A follower then appends nothing of its own: its requests are pending.

    At a follower:

    - `matched`: up to this position, its log is known to be that of the last view's leader. It never goes down within a view. The entries
      after it are in the follower's own order.
    - `out_of_order`: Prepares that have arrived before an earlier one, by their first position.
    - `unordered`: its own requests that were missing from the last entries which it took over from the leader.
    - `announced`: the highest position that the leader has announced, and the leader's hash there, if that is known.
    - `diverged`: whether it has had requests in another order than the leader since its last PrepareOk.

    At the leader:

    - `prepared`: up to this position, it has sent its log to the followers, or announced it.
    - `acknowledged`: the position up to which each follower's log is ours, as the follower said, and the incarnation in which it said so.

    Parameters: `passive_followers`: whether followers append nothing of their own, so that their whole log is matched.
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
        events: LogEvents,
        *,
        passive_followers: bool,
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
        self.events = events
        self.passive_followers = passive_followers
        view_change.forgetting.leader_has_all = True
        self.out_of_order: dict[int, Prepare] = {}
        self.slow_path = False
        self.unordered: set[tuple[int, int]] = set()
        self.announced: tuple[int, bytes] = (0, _UNKNOWN)
        self.diverged = False
        self.prepared = 0
        self.acknowledged: dict[int, int] = {}
        self._matched = 0
        self._spoken: dict[int, int] = {}
        self._waits_for_gap = False
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._patience_ns = config.timeouts.ns("sync_patience")
        self._max_bytes = config.limits.max_transfer_bytes
        self.handlers = {
            Prepare: self.on_prepare,
            PrepareOk: self.on_prepare_ok,
            Heartbeat: self.on_heartbeat,
            GetLog: self.on_get_log,
            Forward: self.on_forward,
            EntriesCompacted: self.on_entries_compacted,
            Commit: self.on_commit,
        }
        self.timers = {"heartbeat": self.on_heartbeat_timer, "gap": self.on_gap_timer}

    @property
    def matched(self) -> int:
        """See the class. Committed entries are matched, whichever replica they came from."""
        return max(self._matched, self.state.committed)

    def matched_in_last_view(self) -> int:
        """The position up to which our log is known to be that of the last view's leader. It is our last one if we were that leader."""
        return self.state.log.last if self.passive_followers or self.group.led_last_view else self.matched

    def on_log_adopted(self) -> None:
        """The log with which the view starts is its leader's, so all of it is matched."""
        self._matched = self.state.log.last

    def begin_view(self) -> None:
        """See `Part`. The leader sends signs of life from now on."""
        self.prepared = self.state.log.last
        if self.passive_followers:
            self._matched = self.state.log.last
        if self.group.is_leader:
            self.port.set_timer("heartbeat", self._interval_ns)

    def leave_view(self) -> None:
        """See `Part`."""
        self.out_of_order = {}
        self.slow_path = False
        self.unordered = set()
        self.announced = (0, _UNKNOWN)
        self.diverged = False
        self.acknowledged = {}
        self._spoken = {}
        self._waits_for_gap = False
        for name in ("heartbeat", "gap"):
            self.port.cancel_timer(name)

    # The leader's part

    def send_every_entry(self, slow_path: bool) -> None:
        """Set whether we send every entry in a Prepare from now on. Followers learn it from the next Prepare or Heartbeat."""
        self.slow_path = slow_path

    def prepare(self, last: int) -> None:
        """Send all followers the entries up to `last` that have not been sent yet."""
        self.group.send_to_peers(self._prepare(self.prepared + 1, self.state.log.entries(self.prepared + 1, last)))
        self.prepared = last

    def prepare_again_from(self, position: int) -> None:
        """Forget that the entries after `position` have been sent."""
        self.prepared = position

    def expect_all(self) -> None:
        """Followers should have all of our log by now: the next Heartbeat announces it."""
        self.prepared = self.state.log.last

    def _prepare(self, first: int, entries: list[Request]) -> Prepare:
        group, state = self.group, self.state
        previous_hash = state.log.hash_at(first - 1)
        return Prepare(group.incarnations, group.view, first, previous_hash, entries, state.committed, self.slow_path)

    def on_prepare_ok(self, source: Address, message: PrepareOk) -> None:
        """Note the follower's position, and commit what a majority has."""
        assert self.group.is_leader
        if message.position > self.state.log.last:
            return self.group.ignore("acknowledges entries that are not here")
        incarnation = self._spoken[source] = message.incarnations[source]
        self.outcomes.note(source, incarnation, message.position, message.outcome)
        if message.position > self.acknowledged.get(source, -1):
            self.acknowledged[source] = message.position
            if message.position > self.state.committed:
                self._commit_what_a_majority_has()
        self.view_change.note_entered(source, incarnation)
        self.events.acknowledged(message.diverged)
        return None

    def _commit_what_a_majority_has(self) -> None:
        acknowledged = self.acknowledged
        voters = self.group.current_voters(self._spoken)
        self.commit(reached_by(self.group.quorums.f, [acknowledged[member] for member in voters]))

    def commit(self, position: int) -> None:
        """Commit the entries up to `position`: enough followers have them."""
        first = self.state.committed + 1
        if position >= first:
            self.state.commit_up_to(position)
            self.prepared = max(self.prepared, position)  # a GetLog is answered without raising `prepared`
            self.events.committed(first, position)

    def on_heartbeat_timer(self) -> None:
        """Send the sign of life, as long as we hear a majority."""
        self.port.set_timer("heartbeat", self._interval_ns)
        if self.group.accepting:
            self.detector.show_life(self.send_heartbeat)

    def send_heartbeat(self) -> None:
        """Announce to all followers the position that they should have."""
        group, committed, prepared = self.group, self.state.committed, self.prepared
        hash_at = self.state.log.hash_at
        hashes = hash_at(prepared), hash_at(committed)
        outcome = self.outcomes.agreed_outcome(committed)
        group.send_to_peers(Heartbeat(group.incarnations, group.view, prepared, hashes[0], committed, hashes[1], outcome, self.slow_path))

    def on_get_log(self, source: Address, message: GetLog) -> None:
        """Send a follower the entries that it lacks."""
        assert self.group.is_leader
        self._send_log(source, message.first)
        self.events.log_requested()

    def _send_log(self, follower: Address, first: int) -> None:
        group, state, log = self.group, self.state, self.state.log
        if first > log.last:
            return group.ignore("asks for a log that is not here")
        if first <= log.start:
            summary = log.hash_at(state.committed)
            return self.port.send(follower, EntriesCompacted(group.incarnations, group.view, state.committed, summary))
        return self.port.send(follower, self._prepare(first, chunk_of(log.entries(first), self._max_bytes)))

    # The follower's part

    def on_prepare(self, source: Address, message: Prepare) -> None:
        """Take over entries, if we have those before them; commit what the leader has committed."""
        if message.slow_path:
            self.slow_path = True
            if message.first <= self.matched:  # a heartbeat matched these, and no client was answered for that
                last = message.first + len(message.entries) - 1
                self.events.matched(message.first, min(last, self.matched), True)
        self._compare(message.first - 1, message.previous_hash, is_awaited=True)
        if message.first > self.matched + 1:
            if len(self.out_of_order) < MAX_OUT_OF_ORDER:
                self.out_of_order[message.first] = message
            self._expect(message.first, _UNKNOWN)
            return
        self._take_over(message)
        self._take_over_what_follows()
        self._learn_commit(message.committed)
        self._acknowledge()

    def _compare(self, position: int, summary: bytes, is_awaited: bool) -> None:
        """The leader's log has this hash at that position. If ours has it too, they match, and Prepares out of order may follow."""
        if position > self.matched and self.state.log.matches(position, summary):
            self._match(position, is_awaited)
            self._take_over_what_follows()

    def _take_over(self, message: Prepare) -> None:
        """Make our log continue as the leader's does. If it already does, the entries after those stay."""
        matched, state, pending = self.matched, self.state, self.pending
        new = message.entries[matched + 1 - message.first :]
        last = matched + len(new)
        if matched == state.log.last and not pending:
            for request in new:
                state.append(request)
        elif state.log.matching_prefix(matched, new) < last:
            own = [*state.log.entries(matched + 1), *pending]
            self.diverged |= _in_other_order(own, new)
            self.transfer.adopt(matched, new)  # rolls back only to the first difference from the leader's log
            pending.keep(self._is_new)  # a request that the leader has, or would refuse, must not make us differ again
        if last > matched:
            self._match(last, is_awaited=True)
        if pending:
            self._forward_unordered()
            if not self.slow_path:
                pending.accept_all()

    def _forward_unordered(self) -> None:
        """Forward a request that two Prepares in a row did not have: it may have been lost on its way to the leader."""
        group, before = self.group, self.unordered
        self.unordered = {identity(request) for request in self.pending}
        again = tuple(request for request in self.pending if identity(request) in before)
        if again:
            self.port.send(group.leader, Forward(group.incarnations, group.view, again[:MAX_FORWARDED]))

    def on_forward(self, source: Address, message: Forward) -> None:
        """Accept the forwarded requests that our log lacks."""
        assert self.group.is_leader
        for request in message.requests:
            if self._is_new(request):
                self.pending.accept(request)

    def _is_new(self, request: Request) -> bool:
        """Whether our log lacks a request, and would not refuse it. (Otherwise a refused request could be appended again and again.)"""
        record = self.state.sessions.record_for(request)
        return request.session == OPEN_SESSION if record is None else record.number < request.number

    def _take_over_what_follows(self) -> None:
        """Take over the entries that arrived out of order and now follow the matched ones."""
        while self.out_of_order and (first := min(self.out_of_order)) <= self.matched + 1:
            self._take_over(self.out_of_order.pop(first))

    def _match(self, position: int, is_awaited: bool) -> None:
        first, self._matched = self.matched + 1, position
        self.events.matched(first, position, is_awaited)
        if not self.passive_followers and self.port.durable:
            self.port.persist(Matched(position))

    def _acknowledge(self) -> None:
        group = self.group
        outcome = self.state.outcome_at(self.matched)
        self.port.send(group.leader, PrepareOk(group.incarnations, group.view, self.matched, outcome, self.diverged))
        self.diverged = False

    def _learn_commit(self, position: int) -> None:
        """Commit what the leader has committed, as far as our log matches."""
        position = min(position, self.matched)
        if position > self.state.committed:
            self.state.commit_up_to(position)

    def on_heartbeat(self, source: Address, message: Heartbeat) -> None:
        """The leader's sign of life. Acknowledge what we have, and notice what has not arrived."""
        self.detector.hear_leader()
        if message.prepared < self.state.committed_in_view:
            self.view_change.forgetting.tell()  # a late message says so too: the leader compares with its present log
        if not self.group.accepting:
            return self._acknowledge()  # a repair goes on, but both of us are alive
        if self.slow_path and not message.slow_path:
            self.slow_path = False
            self.pending.accept_all()
        self._learn(message.committed, message.committed_hash, message.outcome)
        self._compare(message.prepared, message.prepared_hash, is_awaited=False)
        self._acknowledge()
        return self._expect(message.prepared, message.prepared_hash)

    def _expect(self, position: int, summary: bytes) -> None:
        """The leader's log has this hash at that position. Entries that we lack may still be in flight, so wait before asking."""
        self.announced = max(self.announced, (position, summary))  # of one position, a known hash is greater than `_UNKNOWN`
        if self.announced[0] > self.matched and not self._waits_for_gap:
            self._waits_for_gap = True
            self.port.set_timer("gap", self._patience_ns)

    def on_gap_timer(self) -> None:
        """Ask for the entries that have still not arrived, or have not arrived in the leader's order."""
        group = self.group
        self._waits_for_gap = False
        self._compare(*self.announced, is_awaited=False)
        if self.announced[0] > self.matched:
            self.port.send(group.leader, GetLog(group.incarnations, group.view, self.matched + 1))

    def on_commit(self, source: Address, message: Commit) -> None:
        """Learn what is committed."""
        self._learn(message.position, message.hash, message.outcome)

    def _learn(self, position: int, summary: bytes, outcome: int | None) -> None:
        """Everything up to `position` is committed, with this hash there. If our log lacks it, wait for a while, then ask the leader."""
        if self.state.log.matches(position, summary):
            self.outcomes.learn(position, outcome)
        if position <= self.state.committed:
            return
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
            self._take_over_what_follows()  # committed entries are matched
        else:
            self._expect(position, summary)

    def on_entries_compacted(self, source: Address, message: EntriesCompacted) -> None:
        """We lack entries that the leader has compacted to a checkpoint: fetch what is committed."""
        if message.position <= self.matched:
            return
        if self.state.log.matches(message.position, message.hash):
            self._learn(message.position, message.hash, None)  # the entries came meanwhile; a transfer would drop those after them
        else:
            self.transfer.repair(message.position, message.hash, source)

    def on_repaired(self) -> None:
        """The repaired entries are committed, so they are matched: entries that arrived out of order may follow now."""
        self._take_over_what_follows()

    # What is persisted

    def replay(self, record: Message) -> None:
        """See `Part`."""
        if isinstance(record, Matched):
            self._matched = record.position
        elif isinstance(record, StartView):
            self._matched = self.state.log.last

    def records(self) -> list[Message]:
        """See `Part`."""
        return [] if self.passive_followers else [Matched(self.matched)]

    # Watching

    def snapshot(self) -> Any:
        """See `Part`."""
        return {
            "matched": self.matched,
            "out_of_order": sorted(self.out_of_order.items()),
            "announced": self.announced,
            "unordered": sorted(self.unordered),
            "slow_path": self.slow_path,
            "diverged": self.diverged,
            "prepared": self.prepared,
            "acknowledged": [sorted(self.acknowledged.items()), sorted(self._spoken.items())],
            "waits_for_gap": self._waits_for_gap,
        }

    def check_invariants(self) -> None:
        """See `Part`."""
        if self.group.accepting and not self.group.is_leader:
            assert self.state.committed <= self.matched <= self.state.log.last
            assert not self.acknowledged


def _in_other_order(own: list[Request], new: list[Request]) -> bool:
    """Whether our order differs: the leader's new requests that we also have are not our first ones, in the same order.

    Requests that we lack are no evidence: some clients send only to the leader while others send to all.
    """
    ours = {identity(request) for request in own}
    shared = [request for request in new if identity(request) in ours]
    return own[: len(shared)] != shared
