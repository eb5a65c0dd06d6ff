"""When the leader gives its log to followers: only as long as they do not have it by themselves.

    not active    clients multicast, and go the fast way; heartbeats say now and then how far followers should be, and with which hash
    active        clients send to the leader alone; a Prepare for each burst of requests, as many under way as `pipeline` allows

It becomes active as soon as somebody differs or misses something: a client tells of a conflict or sends a request again, a follower asks
for the log, or so many are silent that no superquorum is left. It rests again when it has not been needed for a while, which gets longer
if that turns out to be wrong soon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.adaptive.messages import Conflict
from stretto.replication.quorums import reached_by

if TYPE_CHECKING:
    from stretto.protocols.adaptive.replica import AdaptiveReplica

NEVER = 1 << 62
"""A position that no log reaches."""

SHORTEST_CALM = 2
LONGEST_CALM = 64
"""For how many intervals it must not have been needed before it comes to an end, at first and at most."""

FAREWELL = 2
"""For how many intervals more the log is sent when clients are no longer told to send to the leader alone: they believe that for one."""


class Ordering:
    """The part of a leader that decides between the two.

    - `attention`: the position at which an append has more to do than to answer.
    - `inviting`: whether clients are told to send to us alone.
    - `rounds`: while active: where the Prepares end that are under way.
    - `awaited`: our tip when the timer fired last. What is not committed when it fires again has waited too long.
    """

    def __init__(self, replica: AdaptiveReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.leader_log = replica.leader_log
        self.attention = NEVER
        self.inviting = False
        self.rounds: list[int] = []
        self.awaited = 0
        self.activations = 0
        self._calm = SHORTEST_CALM
        self._last_needed_ns = 0
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._operations = config.limits.sync_operations
        self._batch_size = config.limits.batch_size
        self._pipeline = config.limits.pipeline

    def begin(self) -> None:
        """A view has been entered: it starts with the fast way."""
        self._rest()
        if self.replica.is_leader:
            self.awaited = self.state.committed
            self.port.set_timer("order", self._interval_ns)

    def stop(self) -> None:
        """The view has been left."""
        self._rest()
        self.attention = NEVER
        self.port.cancel_timer("order")

    def _rest(self) -> None:
        self.leader_log.ordered = self.inviting = False
        self.rounds = []
        self._set_attention()

    @property
    def active(self) -> bool:
        """Whether the log is sent all the time. False at a follower."""
        return self.replica.is_leader and self.leader_log.ordered

    def _set_attention(self) -> None:
        if not self.replica.is_leader:
            self.attention = NEVER
        elif self.active:
            self.attention = 0
        else:
            self.attention = self.leader_log.prepared + self._operations

    def on_attention(self) -> None:
        """A request has been appended: send it with those of its burst, or say how far followers should be, since it is so many."""
        if self.active:
            self.port.set_timer("cut", 0)
        else:
            self._expect_all()
            self.leader_log.send_heartbeat()

    def _expect_all(self) -> None:
        self.leader_log.prepared = self.state.log.tip
        self._set_attention()

    def on_cut_timer(self) -> None:
        """The burst is over."""
        if self.active:
            self._send_prepares()

    def _send_prepares(self) -> None:
        tip, leader_log = self.state.log.tip, self.leader_log
        while leader_log.prepared < tip and len(self.rounds) < self._pipeline:
            last = min(tip, leader_log.prepared + self._batch_size)
            leader_log.prepare(last)
            self.rounds.append(last)

    def on_committed(self) -> None:
        """Prepares have done their work."""
        if self.active:
            committed = self.state.committed
            self.rounds = [end for end in self.rounds if end > committed]
            self.port.set_timer("cut", 0)

    # When it is needed

    def needed(self) -> None:
        """Somebody has another log than we, or lacks something: send ours from now on, beginning with what is not committed."""
        replica, state = self.replica, self.state
        if not replica.is_leader or not replica.accepting:
            return
        now = self.port.now_ns
        if self.active:
            self._last_needed_ns = now
            self.inviting = True
            return
        # It was wrong to rest if that did not last as long as the calm before.
        has_lasted = self._has_been_calm(2 * self._calm + FAREWELL)
        self._calm = SHORTEST_CALM if has_lasted else min(2 * self._calm, LONGEST_CALM)
        self._last_needed_ns = now
        self.leader_log.ordered = self.inviting = True
        self.activations += 1
        self.port.report("ordering", view=replica.view, committed=state.committed, tip=state.log.tip)
        # What has been committed without a superquorum has been answered by too few; what the view started with, by all that entered it.
        acknowledged = self.leader_log.acknowledged.values()
        answered = reached_by(replica.quorums.superquorum - 1, acknowledged)
        replica.answer_from(max(answered, state.log.base, replica.views.start_tip) + 1, state.committed)
        self._begin_rounds()

    def _begin_rounds(self) -> None:
        self.leader_log.prepared = self.state.committed
        self.rounds = []
        self._set_attention()
        self._send_prepares()

    def on_conflict(self, source: Address, message: Conflict) -> None:
        """A client saw answers that cannot agree any more."""
        replica = self.replica
        if message.view != replica.view or not replica.accepting or not replica.is_leader:
            return replica.ignore("conflict told to the wrong replica or view")
        return self.needed()

    def on_acknowledged(self, source: Address, moved: bool) -> None:
        """A follower has our log. If it had another before, that was needed."""
        if moved:
            self.needed()

    def on_timer(self) -> None:
        """Look who is silent; send again what has waited too long; rest, if all is calm."""
        self.port.set_timer("order", self._interval_ns)
        replica = self.replica
        if not replica.accepting:
            return
        now = self.port.now_ns
        replica.views.absent = replica.views.silent_since(now - 2 * self._interval_ns)
        awaited, self.awaited = self.awaited, self.state.log.tip
        if replica.n - len(replica.views.absent) < replica.quorums.superquorum:
            self.needed()
        elif self.active:
            self._calm_down()
        if not self.active:
            self._expect_all()
        elif awaited > self.state.committed:
            self._begin_rounds()

    def _calm_down(self) -> None:
        """If it was not needed for a while, let clients go back to multicasting, and when they have, rest."""
        if self._has_been_calm(self._calm):
            self.inviting = False
        if self._has_been_calm(self._calm + FAREWELL):
            self._rest()
            self._expect_all()
            self.leader_log.send_heartbeat()

    def _has_been_calm(self, intervals: int) -> bool:
        return self.port.now_ns - self._last_needed_ns >= intervals * self._interval_ns

    # Watching

    def metrics(self) -> dict[str, Any]:
        """The mode, and how often it was needed."""
        return {"ordering": self.active, "ordering_activations": self.activations}

    def snapshot(self) -> dict[str, Any]:
        """The fields as canonical plain data."""
        calm = [self._calm, self._has_been_calm(self._calm), self._has_been_calm(self._calm + FAREWELL)]
        return {
            "active": self.active,
            "inviting": self.inviting,
            "attention": self.attention,
            "rounds": self.rounds,
            "awaited": self.awaited,
            "calm": calm,
        }

    def check_invariants(self) -> None:
        """What the docstring of the class promises."""
        assert not self.active or self.replica.is_leader
        assert self.active or not (self.rounds or self.inviting)
