"""The fast path of Fast Paxos: the leader compares what followers have accepted with its own log.

    follower ---Accepted(position, hash)---> leader        committed: a superquorum, including the leader, has one hash there

When the hashes can no longer agree (a collision), or do not come, the leader's log decides in a classic round: the leader sends it, its
followers take it over, and it is committed when f+1 replicas have it (`LeaderLog`).
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.replication.failure_detector import FailureDetector
from stretto.replication.group import Group
from stretto.replication.leader_log import LeaderLog
from stretto.replication.messages import Position, ViewMessage
from stretto.replication.outcomes import OutcomeComparison
from stretto.replication.part import Part
from stretto.replication.quorums import reached_by
from stretto.replication.state import ReplicatedState


class Accepted(ViewMessage, frozen=True, array_like=True, tag=32, gc=False):
    """A follower to the leader, for each request that it appends: my log has this hash and this outcome at `position`."""

    position: Position
    hash: bytes
    outcome: int


class FastPath(Part):
    """The part of a leader that commits without a classic round if it can.

    - `agreed`: the position up to which each follower's log is ours, by its Accepted; `_spoken`: the incarnation in which it said so.
    - `ahead`: the hashes and outcomes that followers have accepted at positions that our log has not reached, by follower and position.
    - `differing`: followers that have accepted another hash than ours, after the entries that we last sent to them.
    - `awaited`: our last position when the timer fired last. Entries up to it that are uncommitted when it fires again are overdue.
    """

    def __init__(
        self,
        group: Group,
        state: ReplicatedState,
        detector: FailureDetector,
        leader_log: LeaderLog,
        outcomes: OutcomeComparison,
        config: ClusterConfig,
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.detector = detector
        self.leader_log = leader_log
        self.outcomes = outcomes
        self.agreed: dict[int, int] = {}
        self.ahead: dict[int, dict[int, tuple[bytes, int]]] = {}
        self.differing: set[int] = set()
        self.awaited = 0
        self.collisions = 0
        self._spoken: dict[int, int] = {}
        self._max_ahead = config.limits.max_pending_requests
        self._patience_ns = config.timeouts.ns("sync_patience")
        self.handlers = {Accepted: self.on_accepted}
        self.timers = {"resolve": self.on_timer}

    def begin_view(self) -> None:
        """See `Part`."""
        if self.group.is_leader:
            self.awaited = self.state.committed
            self.port.set_timer("resolve", self._patience_ns)

    def leave_view(self) -> None:
        """See `Part`."""
        self.port.cancel_timer("resolve")
        self.agreed = {}
        self.ahead = {}
        self.differing = set()
        self._spoken = {}

    # The fast path

    def on_accepted(self, source: Address, message: Accepted) -> None:
        """Compare with our own log, now or when it reaches that position."""
        self._spoken[source] = message.incarnations[source]
        position = message.position
        if position <= self.state.committed:
            return self.group.ignore("accepts what is committed")
        if position <= self.state.log.last:
            return self._compare(source, position, message.hash, message.outcome)
        ahead = self.ahead.setdefault(source, {})
        if len(ahead) >= self._max_ahead:
            return self.group.ignore("accepted too far ahead")
        ahead[position] = (message.hash, message.outcome)
        return None

    def on_appended(self) -> None:
        """Our log has reached a position that followers may have accepted before."""
        last = self.state.log.last
        for follower, ahead in self.ahead.items():
            accepted = ahead.pop(last, None)
            if accepted is not None and last > self.state.committed:
                self._compare(follower, last, *accepted)
        self.resolve_if_needed()

    def _compare(self, follower: int, position: int, summary: bytes, outcome: int) -> None:
        if self.state.log.hash_at(position) == summary:
            self.differing.discard(follower)
            self.outcomes.note(follower, self._spoken[follower], position, outcome)
            if position > self.agreed.get(follower, 0):
                self.agreed[follower] = position
                # We are in the fast quorum ourselves.
                agreed = [self.agreed.get(member, 0) for member in self.group.current_voters(self._spoken)]
                self.leader_log.commit(reached_by(self.group.quorums.superquorum - 1, agreed))
        elif position > self.leader_log.prepared:
            self.differing.add(follower)
            self.resolve_if_needed()

    # Classic rounds

    def resolve_if_needed(self) -> None:
        """Begin a classic round if the fast path cannot commit the next entries. There is one round at a time."""
        fast = self.group.n - len(self.differing | self.detector.unresponsive) >= self.group.quorums.superquorum
        committed = self.state.committed
        if not fast and self.leader_log.prepared <= committed < self.state.log.last:
            self._resolve()

    def _resolve(self) -> None:
        self.collisions += bool(self.differing)
        self.differing.clear()
        self.leader_log.prepare_again_from(self.state.committed)
        self.leader_log.prepare(self.state.log.last)

    def on_timer(self) -> None:
        """If entries are overdue, no longer wait for followers that have not accepted them, and begin a classic round."""
        self.port.set_timer("resolve", self._patience_ns)
        if not self.group.accepting:
            return
        awaited, self.awaited = self.awaited, self.state.log.last
        if awaited > self.state.committed:
            acknowledged = self.leader_log.acknowledged
            peers = set(self.group.peers)
            heard = {peer for peer in peers if max(self.agreed.get(peer, 0), acknowledged.get(peer, 0)) >= awaited}
            self.detector.give_up_waiting_for(peers - heard - self.differing)
            self._resolve()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`."""
        return {"collisions": self.collisions}

    def snapshot(self) -> Any:
        """See `Part`."""
        return {
            "agreed": [sorted(self.agreed.items()), sorted(self._spoken.items())],
            "ahead": [[follower, sorted(ahead.items())] for follower, ahead in sorted(self.ahead.items())],
            "differing": sorted(self.differing),
            "awaited": self.awaited,
        }

    def check_invariants(self) -> None:
        """See `Part`."""
        assert not self.differing or self.group.is_leader
