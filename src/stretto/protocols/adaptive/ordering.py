"""When the leader sends its order: only as long as followers do not have it by themselves.

    not active    heartbeats say now and then how far followers should be, and with which hash; clients go the fast way
    active        an Order for each burst of requests, as many under way as `pipeline` allows; clients may go the slow way

It becomes active as soon as somebody differs: a client tells of a conflict, a follower asks for the log, or so many are silent that no
superquorum is left. It rests again when the order has not been needed for a while, which gets longer if that turns out to be wrong soon.
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

MAX_ORDERED = 2_000
"""How many requests one Order has at most."""

SHORTEST_CALM = 2
LONGEST_CALM = 64
"""For how many intervals the order must not have been needed before it is no longer sent, at first and at most."""


class Ordering:
    """The part of a leader that decides between the two.

    - `attention`: the position at which an append has more to do than to answer.
    - `rounds`: while active: where the Orders end that are under way.
    - `awaited`: our tip when the timer fired last. What is not committed when it fires again has waited too long.
    """

    def __init__(self, replica: AdaptiveReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.state = replica.state
        self.leader_log = replica.leader_log
        self.attention = NEVER
        self.rounds: list[int] = []
        self.awaited = 0
        self.activations = 0
        self._calm = SHORTEST_CALM
        self._last_needed_ns = 0
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._operations = config.limits.sync_operations
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
        self.leader_log.ordered = False
        self.rounds = []
        self._set_attention()

    @property
    def active(self) -> bool:
        """Whether the order is sent all the time. False at a follower."""
        return self.replica.is_leader and self.leader_log.ordered

    def _set_attention(self) -> None:
        if not self.replica.is_leader:
            self.attention = NEVER
        elif self.active:
            self.attention = 0
        else:
            self.attention = self.leader_log.prepared + self._operations

    def on_attention(self) -> None:
        """A request has been appended: order it with those of its burst, or say how far followers should be, since it is so many."""
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
            self._send_orders()

    def _send_orders(self) -> None:
        tip, leader_log = self.state.log.tip, self.leader_log
        while leader_log.prepared < tip and len(self.rounds) < self._pipeline:
            last = min(tip, leader_log.prepared + MAX_ORDERED)
            leader_log.order(last)
            self.rounds.append(last)

    def on_committed(self) -> None:
        """Orders have done their work."""
        if self.active:
            committed = self.state.committed
            self.rounds = [end for end in self.rounds if end > committed]
            self.port.set_timer("cut", 0)

    # When it is needed

    def needed(self) -> None:
        """Somebody has another order than we, or is missing: send it from now on, beginning with what is not committed."""
        replica, state = self.replica, self.state
        if not replica.is_leader or not replica.accepting:
            return
        now = self.port.now_ns
        if self.active:
            self._last_needed_ns = now
            return
        rested_ns = now - self._last_needed_ns
        self._calm = min(2 * self._calm, LONGEST_CALM) if rested_ns < 2 * self._calm * self._interval_ns else SHORTEST_CALM
        self._last_needed_ns = now
        self.leader_log.ordered = True
        self.activations += 1
        self.port.report("ordering", view=replica.view, committed=state.committed, tip=state.log.tip)
        # What has been committed without a superquorum has been answered by too few.
        acknowledged = self.leader_log.acknowledged.values()
        answered = reached_by(replica.quorums.superquorum - 1, acknowledged)
        replica.answer_from(max(answered, state.log.base) + 1, state.committed)
        self._begin_rounds()

    def _begin_rounds(self) -> None:
        self.leader_log.prepared = self.state.committed
        self.rounds = []
        self._set_attention()
        self._send_orders()

    def on_conflict(self, source: Address, message: Conflict) -> None:
        """A client saw answers that cannot agree any more."""
        replica = self.replica
        if message.view != replica.view or not replica.accepting or not replica.is_leader:
            return replica.ignore("conflict told to the wrong replica or view")
        return self.needed()

    def on_acknowledged(self, source: Address, moved: bool) -> None:
        """A follower has our order. If it had another before, that was needed."""
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
        elif self.active and now - self._last_needed_ns >= self._calm * self._interval_ns:
            self._rest()
            self._expect_all()
            self.leader_log.send_heartbeat()
        if not self.active:
            self._expect_all()
        elif awaited > self.state.committed:
            self._begin_rounds()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """The mode, and how often it was needed."""
        return {"ordering": self.active, "ordering_activations": self.activations}

    def snapshot(self) -> dict[str, Any]:
        """The fields as canonical plain data."""
        calm_ns = self._calm * self._interval_ns
        return {
            "active": self.active,
            "attention": self.attention,
            "rounds": self.rounds,
            "awaited": self.awaited,
            "calm": [self._calm, self.port.now_ns - self._last_needed_ns >= calm_ns],
        }

    def check_invariants(self) -> None:
        """What the docstring of the class promises."""
        assert not self.active or self.replica.is_leader
        assert self.active or not self.rounds
