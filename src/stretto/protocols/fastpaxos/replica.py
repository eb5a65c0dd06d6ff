"""The replica of Fast Paxos.

Normal case: three message delays.

    client          r0 (leader)     r1              r2
      |---Request---->|-------------->|-------------->|   (one multicast)  append, execute
      |               |<---Accepted---|---------------|   (position, hash)
      |<----Reply-----|                                   committed: a superquorum, the leader in it, has one hash there

When the hashes can no longer agree (a collision), or do not come, the leader has its way in a classic round: it sends its log, which its
followers take over, and f+1 of them commit it (`LeaderLog`). For that it may never change what it has appended in its view; so a fast
quorum without it does not count.

Source: Lamport, "Fast Paxos", Distributed Computing 19, 2006; the form as a replicated log is that which Ports et al., NSDI 2015,
section 6, compare with.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.fastpaxos.messages import Accepted
from stretto.replication.led_replica import LedReplica
from stretto.replication.messages import Reply, Request
from stretto.replication.quorums import reached_by


class FastPaxosReplica(LedReplica):
    """One replica. The fields that only a leader uses:

    - `agreed`: up to where each follower's log is known to be ours, by its Accepted; `_spoken`: the incarnation in which it said so.
    - `ahead`: what followers have accepted at positions that our log has not reached, by follower and position.
    - `differing`: followers that have accepted otherwise than we have, behind what was last sent to them.
    - `awaited`: our tip when the timer fired last. What is not committed when it fires again has waited too long.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.handlers[Accepted] = self.on_accepted
        self.timers["resolve"] = self.on_resolve_timer
        self.agreed: dict[int, int] = {}
        self.ahead: dict[int, dict[int, bytes]] = {}
        self.differing: set[int] = set()
        self.awaited = 0
        self.collisions = 0
        self._spoken: dict[int, int] = {}
        self._max_ahead = config.limits.max_held_requests
        self._patience_ns = config.timeouts.ns("sync_patience")
        self.begin(start)

    # Normal case

    def accept(self, request: Request) -> None:
        """Give a request the next place in our log, if it has none, and tell the leader."""
        state = self.state
        record = state.sessions.record_for(request)
        if record is not None and request.number <= record.number:
            if request.number < record.number:
                return self.ignore("superseded request")
            if not self.is_leader or record.position > state.committed:
                return self.ignore("request that is under way")
            return self._answer(request, record.result)
        state.append(request)
        if self.is_leader:
            return self._compare_with_those_ahead()
        log = state.log
        return self.port.send(self.leader, Accepted(self.incarnations, self.view, log.tip, log.tip_hash))

    def on_accepted(self, source: Address, message: Accepted) -> None:
        """Compare with our own log, now or when it gets there."""
        if not self.views.counts(source, message):
            return None
        if not self.is_leader:
            return self.ignore("not the leader")
        self._spoken[source] = message.incarnations[source]
        position = message.position
        if position <= self.state.committed:
            return self.ignore("accepts what is committed")
        if position <= self.tip:
            return self._compare(source, position, message.hash)
        ahead = self.ahead.setdefault(source, {})
        if len(ahead) >= self._max_ahead:
            return self.ignore("accepted too far ahead")
        ahead[position] = message.hash
        return None

    def _compare_with_those_ahead(self) -> None:
        """Our log has got to a position that some may have accepted before."""
        tip = self.tip
        for follower, ahead in self.ahead.items():
            summary = ahead.pop(tip, None)
            if summary is not None and tip > self.committed:
                self._compare(follower, tip, summary)
        self._resolve_if_needed()

    def _compare(self, follower: int, position: int, summary: bytes) -> None:
        if self.hash_at(position) == summary:
            self.differing.discard(follower)
            if position > self.agreed.get(follower, 0):
                self.agreed[follower] = position
                # We are of the fast quorum ourselves.
                agreed = [self.agreed.get(member, 0) for member in self.standing(self._spoken)]
                self.leader_log.commit(reached_by(self.quorums.superquorum - 1, agreed))
        elif position > self.leader_log.prepared:
            self.differing.add(follower)
            self._resolve_if_needed()

    def on_committed(self, first: int, last: int) -> None:
        """Answer; and settle what has collided meanwhile."""
        for position in range(first, last + 1):
            self._answer(self.state.log.entry_at(position), self.result_at(position))
        self._resolve_if_needed()

    def _answer(self, request: Request, result: bytes | None) -> None:
        self.port.send(request.client, Reply(self.view, request.session, request.number, result))

    # Classic rounds

    def _resolve_if_needed(self) -> None:
        """Begin a classic round, one at a time, if the fast way cannot lead on."""
        fast = self.n - len(self.differing | self.views.absent) >= self.quorums.superquorum
        under_way = self.leader_log.prepared > self.committed
        if not fast and not under_way and self.tip > self.committed:
            self._resolve()

    def _resolve(self) -> None:
        self.collisions += bool(self.differing)
        self.differing.clear()
        self.leader_log.prepared = self.committed
        self.leader_log.prepare(self.tip)

    def on_resolve_timer(self) -> None:
        """What has waited since the last time is not agreed on: do not wait longer for whoever has said nothing."""
        self.port.set_timer("resolve", self._patience_ns)
        if not self.accepting:
            return
        awaited, self.awaited = self.awaited, self.tip
        if awaited > self.committed:
            acknowledged = self.leader_log.acknowledged
            heard = {peer for peer in self.peers if max(self.agreed.get(peer, 0), acknowledged.get(peer, 0)) >= awaited}
            self.views.absent = set(self.peers) - heard - self.differing
            self._resolve()

    # Views

    def begin_view(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.begin()
        if self.is_leader:
            self.awaited = self.committed
            self.port.set_timer("resolve", self._patience_ns)

    def leave_view(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.stop()
        self.port.cancel_timer("resolve")
        self.agreed = {}
        self.ahead = {}
        self.differing = set()
        self._spoken = {}

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {"collisions": self.collisions}

    def own_state(self) -> dict[str, Any]:
        """See `PeerReplica`."""
        fields = {
            "agreed": [sorted(self.agreed.items()), sorted(self._spoken.items())],
            "ahead": [[follower, sorted(ahead.items())] for follower, ahead in sorted(self.ahead.items())],
            "differing": sorted(self.differing),
            "awaited": self.awaited,
        }
        return {**self.leader_log.snapshot(), **fields}

    def check_invariants(self) -> None:
        """See `PeerReplica`."""
        super().check_invariants()
        assert not self.differing or self.is_leader
