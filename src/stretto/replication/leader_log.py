"""The leader's log becomes its followers', inside a view, and what a majority has of it is committed.

    r0 (leader) ---Prepare(entries)---> all ---PrepareOk(position)---> r0        committed, with f+1 in all

It rests on this: within its view, the leader's log only grows. So a follower may take it over without any vote, and a position that f+1
replicas have confirmed stands in every later majority. (Liskov and Cowling, "Viewstamped Replication Revisited", 2012, section 4.1.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.messages import (
    OPEN_SESSION,
    Commit,
    EntriesGivenUp,
    Forward,
    GetLog,
    Heartbeat,
    Prepare,
    PrepareOk,
    Request,
    ViewMessage,
)
from stretto.replication.quorums import reached_by
from stretto.replication.records import Confirmed
from stretto.replication.sessions import identity
from stretto.replication.transfer import piece_of

if TYPE_CHECKING:
    from stretto.replication.peer import PeerReplica

MAX_EARLY_PREPARES = 1_000
"""How many Prepares a follower keeps that have overtaken others."""

MAX_FORWARDED = 1_000
"""How many requests a follower forwards at a time."""

_UNKNOWN = b""


class LeaderLog:
    """The part of a replica that gives its log to others, or takes over its leader's.

    - `confirmed`: a follower's: up to there its log is known to be that of its last normal view's leader. It never goes down in a view.
      What stands behind it is the follower's own.
    - `early`: a follower's: Prepares that have overtaken those before them, by their first position.
    - `ordered`: whether the leader sends all entries at once. A follower then appends nothing of its own: its requests wait in `held`.
    - `displaced`: a follower's: its own requests that the leader's order went on without, when our log was changed last.
    - `told`: a follower's: the highest position that it should have, and the leader's hash there, if that is known.
    - `moved`: a follower's: whether it has had requests in another order than the leader since it last told how far it is.
    - `prepared`: the leader's: up to there followers have been sent its log.
    - `acknowledged`: the leader's: up to where each follower has said that its log is ours, and in which incarnation it said so.

    Parameters: `alone`, whether followers append nothing of their own, so that what they have is always confirmed.
    """

    def __init__(self, replica: PeerReplica, config: ClusterConfig, alone: bool) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self._confirmed = 0
        self.early: dict[int, Prepare] = {}
        self.ordered = False
        self.displaced: set[tuple[int, int]] = set()
        self.told: tuple[int, bytes] = (0, _UNKNOWN)
        self.moved = False
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

    @property
    def confirmed(self) -> int:
        """See above. What is committed is confirmed, whoever it came from."""
        return max(self._confirmed, self.state.committed)

    def enter(self) -> None:
        """The view has been entered with the log that it started with, which is the leader's."""
        self._confirmed = self.state.log.tip

    def begin(self) -> None:
        """Normal operation begins: the leader shows life from now on."""
        self.prepared = self.state.log.tip
        if self._alone:
            self.enter()
        if self.replica.is_leader:
            self.port.set_timer("heartbeat", self._interval_ns)

    def stop(self) -> None:
        """The view has been left."""
        self.early = {}
        self.ordered = False
        self.displaced = set()
        self.told = (0, _UNKNOWN)
        self.moved = False
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
        previous_hash = state.log.hash_at(first - 1)
        return Prepare(replica.incarnations, replica.view, first, previous_hash, entries, state.committed, self.ordered)

    def on_prepare_ok(self, source: Address, message: PrepareOk) -> None:
        """Commit what a majority has."""
        replica = self.replica
        if not replica.views.counts(source, message):
            return None
        if not replica.is_leader:
            return replica.ignore("not the leader")
        if message.position > self.state.log.tip:
            return replica.ignore("confirms what is not here")
        self._spoken[source] = message.incarnations[source]
        if message.position > self.acknowledged.get(source, -1):
            self.acknowledged[source] = message.position
            if message.position > self.state.committed:
                self._commit_what_a_majority_has()
        replica.views.note_entered(source, message.incarnations[source])
        replica.on_acknowledged(source, message.moved)
        return None

    def _commit_what_a_majority_has(self) -> None:
        acknowledged = self.acknowledged
        self.commit(reached_by(self._f, [acknowledged[member] for member in self.replica.standing(self._spoken)]))

    def commit(self, position: int) -> None:
        """So many have our log up to `position` that it stays."""
        first = self.state.committed + 1
        if position >= first:
            self.state.commit_up_to(position)
            self.prepared = max(self.prepared, position)  # whoever asked for our log has had more of it
            self.replica.on_committed(first, position)

    def on_heartbeat_timer(self) -> None:
        """Show life, as long as a majority shows some to us."""
        self.port.set_timer("heartbeat", self._interval_ns)
        if self.replica.accepting and self.replica.views.leader_may_go_on():
            self.send_heartbeat()

    def send_heartbeat(self) -> None:
        """Tell all followers how far they should be."""
        replica, committed, prepared = self.replica, self.state.committed, self.prepared
        hash_at = self.state.log.hash_at
        hashes = hash_at(prepared), hash_at(committed)
        replica.send_to_peers(Heartbeat(replica.incarnations, replica.view, prepared, hashes[0], committed, hashes[1], self.ordered))

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
        if message.ordering:
            self.ordered = True
            if message.first <= self.confirmed:  # by a heartbeat, of which clients know nothing
                last = message.first + len(message.entries) - 1
                self.replica.on_confirmed(message.first, min(last, self.confirmed), is_awaited=True)
        self._compare(message.first - 1, message.previous_hash, is_awaited=True)
        if message.first > self.confirmed + 1:
            if len(self.early) < MAX_EARLY_PREPARES:
                self.early[message.first] = message
            self._lack(message.first, _UNKNOWN)
            return
        self._take_over(message)
        self._take_over_early()
        self._learn_commit(message.committed)
        self._say_confirmed()

    def _compare(self, position: int, summary: bytes, is_awaited: bool) -> None:
        """The leader's log has this hash at that position: confirm ours, if it has it too, and go on with what waits behind that."""
        if position > self.confirmed and self.state.log.matches(position, summary):
            self._confirm(position, is_awaited)
            self._take_over_early()

    def _take_over(self, message: Prepare) -> None:
        """Make our log continue as the leader's does. Whether it does so already matters: what stands behind then stays."""
        confirmed, state = self.confirmed, self.state
        new = message.entries[confirmed + 1 - message.first :]
        last, held = confirmed + len(new), self.replica.held
        if confirmed == state.log.tip and not held:
            for request in new:
                state.append(request)
        elif state.log.matching_prefix(confirmed, new) < last:
            own = [*state.log.entries(confirmed + 1), *held]
            self.moved |= _in_other_order(own, new)
            self.replica.adopt(confirmed, new)  # rolls back to where we differ from the leader, and no further
            held.keep(self._is_new)  # what the leader has, or would refuse, must not make us differ again
        if last > confirmed:
            self._confirm(last, is_awaited=True)
        if held:
            self._forward_displaced()
            if not self.ordered:
                self.replica.accept_held()

    def _forward_displaced(self) -> None:
        """If the leader's order has gone on without a request twice, it may have been lost on its way to him: send it."""
        replica, before = self.replica, self.displaced
        self.displaced = {identity(request) for request in replica.held}
        again = tuple(request for request in replica.held if identity(request) in before)
        if again:
            self.port.send(replica.leader, Forward(replica.incarnations, replica.view, again[:MAX_FORWARDED]))

    def on_forward(self, source: Address, message: Forward) -> None:
        """Requests that a follower has: those that we lack arrive now."""
        if not self.replica.views.counts(source, message):
            return None
        if not self.replica.is_leader or not self.replica.accepting:
            return self.replica.ignore("forwarded to the wrong replica")
        for request in message.requests:
            if self._is_new(request):
                self.replica.accept(request)
        return None

    def _is_new(self, request: Request) -> bool:
        """Whether our log lacks a request, and would not refuse it. (Refused ones may be appended again and again.)"""
        record = self.state.sessions.record_for(request)
        return request.session == OPEN_SESSION if record is None else record.number < request.number

    def _take_over_early(self) -> None:
        """Take over what was early and is not any more."""
        while self.early and (first := min(self.early)) <= self.confirmed + 1:
            self._take_over(self.early.pop(first))

    def _confirm(self, position: int, is_awaited: bool) -> None:
        first, self._confirmed = self.confirmed + 1, position
        self.replica.on_confirmed(first, position, is_awaited)
        if not self._alone and self.port.durable:
            self.port.persist(Confirmed(position))

    def _say_confirmed(self) -> None:
        replica = self.replica
        self.port.send(replica.leader, PrepareOk(replica.incarnations, replica.view, self.confirmed, self.moved))
        self.moved = False

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
        if self.ordered and not message.ordering:
            self.ordered = False
            self.replica.accept_held()
        self._learn(message.committed, message.committed_hash)
        self._compare(message.prepared, message.prepared_hash, is_awaited=False)
        self._say_confirmed()
        self._lack(message.prepared, message.prepared_hash)

    def _lack(self, position: int, summary: bytes) -> None:
        """The leader's log has this hash at that position. What lacks here may be on its way."""
        self.told = max(self.told, (position, summary))
        if self.told[0] > self.confirmed and not self._waits_for_gap:
            self._waits_for_gap = True
            self.port.set_timer("gap", self._patience_ns)

    def on_gap_timer(self) -> None:
        """Ask for what has still not arrived, or not in the leader's order."""
        self._waits_for_gap = False
        self._compare(*self.told, is_awaited=False)
        if self.told[0] > self.confirmed:
            self._ask()

    def _ask(self) -> None:
        replica = self.replica
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
            self._lack(position, summary)

    def on_entries_given_up(self, source: Address, message: EntriesGivenUp) -> None:
        """We are so late that the leader has only a checkpoint left of what we lack."""
        if not self._counts(source, message) or message.position <= self.confirmed:
            return
        if self.state.log.matches(message.position, message.hash):
            self._learn(message.position, message.hash)  # it came meanwhile; a transfer would take away what stands behind it
        else:
            self.replica.repair(message.position, message.hash, source)

    def after_commit(self) -> None:
        """What is committed is confirmed by that: what followed it early may follow now."""
        self._take_over_early()

    # What outlives us

    def replay(self, record: Confirmed) -> None:
        """An earlier life of ours confirmed this."""
        self._confirmed = record.position

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
            "displaced": sorted(self.displaced),
            "ordered": self.ordered,
            "moved": self.moved,
            "prepared": self.prepared,
            "acknowledged": [sorted(self.acknowledged.items()), sorted(self._spoken.items())],
            "waits_for_gap": self._waits_for_gap,
        }

    def check_invariants(self) -> None:
        """What the docstring of the class promises."""
        replica = self.replica
        if replica.accepting and not replica.is_leader:
            assert self.state.committed <= self.confirmed <= self.state.log.tip
            assert not self.acknowledged


def _in_other_order(own: list[Request], new: list[Request]) -> bool:
    """Whether those of the leader's requests that we have are not our first ones, in that order. What we lack says nothing: some clients
    send to the leader alone while others send to all."""
    ours = {identity(request) for request in own}
    shared = [request for request in new if identity(request) in ours]
    return own[: len(shared)] != shared
