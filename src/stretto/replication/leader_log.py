"""The leader's log becomes its followers', inside a view, and what a majority has of it is committed.

    r0 (leader) ---Prepare(entries)---> all ---PrepareOk(position)---> r0        committed, with f+1 in all

It rests on this: within its view, the leader's log only grows. So a follower may take it over without any vote, and a position that f+1
replicas have confirmed stands in every later majority. (Liskov and Cowling, "Viewstamped Replication Revisited", 2012, section 4.1.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.messages import Commit, EntriesGivenUp, Forward, GetLog, Heartbeat, Prepare, PrepareOk, Request, ViewMessage
from stretto.replication.quorums import reached_by
from stretto.replication.records import Confirmed
from stretto.replication.transfer import piece_of

if TYPE_CHECKING:
    from stretto.replication.peer import PeerReplica

MAX_EARLY_PREPARES = 1_000
"""How many Prepares a follower keeps that have overtaken others."""

MAX_FORWARDED = 1_000
"""How many requests a follower forwards at a time."""


class LeaderLog:
    """The part of a replica that gives its log to others, or takes over its leader's.

    - `confirmed`: a follower's: up to there its log is known to be that of its last normal view's leader. It never goes down in a view.
      What stands behind it is the follower's own.
    - `early`: a follower's: Prepares that have overtaken those before them, by their first position. `told`: the highest position that the
      leader is known to have sent.
    - `prepared`: the leader's: up to there followers have been sent its log.
    - `acknowledged`: the leader's: up to where each follower has said that its log is ours, and in which incarnation it said so.

    Parameters: `alone`, whether followers append nothing of their own, so that what they have is always confirmed.
    """

    def __init__(self, replica: PeerReplica, config: ClusterConfig, alone: bool) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.confirmed = 0
        self.early: dict[int, Prepare] = {}
        self.told = 0
        self.prepared = 0
        self.acknowledged: dict[int, int] = {}
        self._spoken: dict[int, int] = {}
        self._waits_for_gap = False
        self._alone = alone
        self._f = replica.quorums.f
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._patience_ns = config.timeouts.ns("sync_patience")
        self._max_bytes = config.limits.max_transfer_bytes
        replica.handlers |= {
            Prepare: self.on_prepare,
            PrepareOk: self.on_prepare_ok,
            Heartbeat: self.on_heartbeat,
            GetLog: self.on_get_log,
            Forward: self.on_forward,
            EntriesGivenUp: self.on_entries_given_up,
            Commit: self.on_commit,
        }
        replica.timers |= {"heartbeat": self.on_heartbeat_timer, "gap": self.on_gap_timer}

    def enter(self) -> None:
        """The view has been entered with the log that it started with, which is the leader's."""
        self.confirmed = self.state.log.tip

    def begin(self) -> None:
        """Normal operation begins: the leader shows life from now on."""
        self.prepared = self.state.log.tip
        if self._alone:
            self.confirmed = self.state.log.tip
        if self.replica.is_leader:
            self.port.set_timer("heartbeat", self._interval_ns)

    def stop(self) -> None:
        """The view has been left."""
        self.early = {}
        self.told = 0
        self.acknowledged = {}
        self._spoken = {}
        self._waits_for_gap = False
        for name in ("heartbeat", "gap"):
            self.port.cancel_timer(name)

    # The leader's part

    def prepare(self, last: int) -> None:
        """Send all followers the entries up to `last` that they have not been sent yet."""
        self.replica.send_to_peers(self._prepare(self.prepared + 1, self.state.log.entries(self.prepared + 1, last)))
        self.prepared = last

    def _prepare(self, first: int, entries: list[Request]) -> Prepare:
        replica, state = self.replica, self.state
        return Prepare(replica.incarnations, replica.view, first, state.log.hash_at(first - 1), entries, state.committed)

    def on_prepare_ok(self, source: Address, message: PrepareOk) -> None:
        """Commit what a majority has."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return None
        if not replica.is_leader:
            return replica.ignore("not the leader")
        if message.position > self.state.log.tip:
            return replica.ignore("confirms what is not here")
        incarnation = message.incarnations[source]
        replica.views.note_entered(source, incarnation)
        self._spoken[source] = incarnation
        if message.position > self.acknowledged.get(source, -1):
            self.acknowledged[source] = message.position
            if message.position > self.state.committed:
                self._commit_what_a_majority_has()
        return None

    def _commit_what_a_majority_has(self) -> None:
        acknowledged = self.acknowledged
        self.commit(reached_by(self._f, [acknowledged[member] for member in self.replica.standing(self._spoken)]))

    def commit(self, position: int) -> None:
        """So many have our log up to `position` that it stays."""
        first = self.state.committed + 1
        if position >= first:
            self.state.commit_up_to(position)
            self.replica.on_committed(first, position)

    def on_heartbeat_timer(self) -> None:
        """Show life, as long as a majority shows some to us."""
        self.port.set_timer("heartbeat", self._interval_ns)
        replica, committed = self.replica, self.state.committed
        if replica.accepting and replica.views.leader_may_go_on():
            summary = self.state.log.hash_at(committed)
            replica.send_to_peers(Heartbeat(replica.incarnations, replica.view, self.prepared, committed, summary))

    def on_get_log(self, source: Address, message: GetLog) -> None:
        """Send a follower what it lacks."""
        replica, state = self.replica, self.state
        log, first = state.log, message.first
        if not replica.views.counts(source, message):
            return None
        if not replica.is_leader or first > log.tip:
            return replica.ignore("asks for a log that is not here")
        if first <= log.base:
            summary = log.hash_at(state.committed)
            return self.port.send(source, EntriesGivenUp(replica.incarnations, replica.view, state.committed, summary))
        return self.port.send(source, self._prepare(first, piece_of(log.entries(first), self._max_bytes)))

    # The follower's part

    def _counts(self, source: Address, message: ViewMessage) -> bool:
        """Whether a message of the leader counts here and now."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return False
        if source != replica.leader:
            replica.ignore("not from the leader")
            return False
        if not replica.accepting:
            replica.ignore("during a repair")
            return False
        return True

    def on_prepare(self, source: Address, message: Prepare) -> None:
        """Take over entries, if those before them are here; commit what the leader has committed."""
        if not self._counts(source, message):
            return
        if message.first > self.confirmed + 1 and self.state.log.matches(message.first - 1, message.previous_hash):
            self._confirm(message.first - 1)
        if message.first > self.confirmed + 1:
            if len(self.early) < MAX_EARLY_PREPARES:
                self.early[message.first] = message
            self._lack(message.first - 1)
            return
        self._take_over(message.first, message.entries)
        self._take_over_early()
        self._learn_commit(message.committed)
        self._say_confirmed()

    def _take_over(self, first: int, entries: list[Request]) -> None:
        """Make our log continue as the leader's does. Whether it does so already matters: what stands behind then stays."""
        confirmed, last = self.confirmed, first + len(entries) - 1
        if last <= confirmed:
            return
        new = entries[confirmed + 1 - first :]
        state = self.state
        if confirmed == state.log.tip:
            for request in new:
                state.append(request)
            self._confirm(last)
        elif state.log.matching_prefix(confirmed, new) == last:
            self._confirm(last)
        else:
            replica = self.replica
            replica.adopt(confirmed, new)
            self._confirm(last)
            if replica.held:
                self._forward(tuple(replica.held))
            replica.accept_held()

    def _forward(self, requests: tuple[Request, ...]) -> None:
        """The leader's order has gone on without these: they may have been lost on their way to him."""
        replica = self.replica
        self.port.send(replica.leader, Forward(replica.incarnations, replica.view, requests[:MAX_FORWARDED]))

    def on_forward(self, source: Address, message: Forward) -> None:
        """Requests that a follower has, and that we may lack: they arrive now."""
        if not self.replica.views.counts(source, message):
            return None
        if not self.replica.is_leader or not self.replica.accepting:
            return self.replica.ignore("forwarded to the wrong replica")
        for request in message.requests:
            self.replica.accept(request)
        return None

    def _take_over_early(self) -> None:
        while self.early and (first := min(self.early)) <= self.confirmed + 1:
            self._take_over(first, self.early.pop(first).entries)

    def _confirm(self, position: int) -> None:
        self.confirmed = position
        if not self._alone and self.port.durable:
            self.port.persist(Confirmed(position))

    def _say_confirmed(self) -> None:
        replica = self.replica
        self.port.send(replica.leader, PrepareOk(replica.incarnations, replica.view, self.confirmed))

    def _learn_commit(self, position: int) -> None:
        """What the leader has committed is committed, so far as our log is known to be the leader's."""
        position = min(position, self.confirmed)
        if position > self.state.committed:
            self.state.commit_up_to(position)

    def on_heartbeat(self, source: Address, message: Heartbeat) -> None:
        """The leader lives. Say how far we are, and notice what has not arrived."""
        if not self._counts(source, message):
            return
        self.replica.views.hear_leader()
        self._learn(message.committed, message.committed_hash)
        self._say_confirmed()
        self._lack(message.prepared)

    def _lack(self, position: int) -> None:
        """The leader has sent its log up to `position`. What lacks of that may be on its way."""
        self.told = max(self.told, position)
        if self.told > self.confirmed and not self._waits_for_gap:
            self._waits_for_gap = True
            self.port.set_timer("gap", self._patience_ns)

    def on_gap_timer(self) -> None:
        """Ask for what has still not arrived."""
        self._waits_for_gap = False
        replica = self.replica
        if self.told > self.confirmed:
            self.port.send(replica.leader, GetLog(replica.incarnations, replica.view, self.confirmed + 1))

    def on_commit(self, source: Address, message: Commit) -> None:
        """Learn what is committed."""
        if self._counts(source, message):
            self._learn(message.position, message.hash)

    def _learn(self, position: int, summary: bytes) -> None:
        """Commit what our log has too; if it has not, take over the leader's, unless the requests arrive yet."""
        if position <= self.state.committed:
            return
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
            self.after_commit()
        else:
            self._lack(position)

    def on_entries_given_up(self, source: Address, message: EntriesGivenUp) -> None:
        """We are so late that the leader has only a checkpoint left of what we lack."""
        if self._counts(source, message) and message.position > self.confirmed:
            self.replica.repair(message.position, message.hash, source)

    def after_commit(self) -> None:
        """What is committed is the leader's too: it may have come from another than him."""
        if self.state.committed > self.confirmed:
            self._confirm(self.state.committed)
            self._take_over_early()

    # What outlives us

    def replay(self, record: Confirmed) -> None:
        """An earlier life of ours confirmed this."""
        self.confirmed = record.position

    def records(self) -> list[Message]:
        """What, replayed behind the view, confirms what we have confirmed."""
        return [] if self._alone else [Confirmed(self.confirmed)]

    # Watching

    def snapshot(self) -> dict[str, Any]:
        """The fields as canonical plain data."""
        return {
            "confirmed": self.confirmed,
            "early": sorted(self.early.items()),
            "told": self.told,
            "prepared": self.prepared,
            "acknowledged": [sorted(self.acknowledged.items()), sorted(self._spoken.items())],
            "waits_for_gap": self._waits_for_gap,
        }

    def check_invariants(self) -> None:
        """What the docstring of the class promises."""
        replica = self.replica
        if replica.accepting and not replica.is_leader:
            assert self.state.committed <= self.confirmed <= self.state.log.tip
            assert all(first > self.confirmed + 1 for first in self.early)
            assert not self.acknowledged
