"""The replica of Multi-Paxos.

Normal case: four message delays.

    client          r0 (leader)     r1              r2
      |---Request---->|                                   append, execute
      |               |---Prepare---->|-------------->|   append, execute
      |               |<--PrepareOk---|---------------|
      |<----Reply-----|                                   committed, with f PrepareOks

What followers commit they learn from the next Prepare, or from the heartbeat of an idle leader. Operations are executed as they are
appended, as in every protocol here, and undone if a view change drops them; nobody is told a result before it is committed.

Source: Liskov and Cowling, "Viewstamped Replication Revisited", MIT 2012, section 4. The in-view part is `LeaderLog`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.leader_log import LeaderLog
from stretto.replication.merging import latest, settled, supported
from stretto.replication.messages import DoViewChange, Reply, Request
from stretto.replication.peer import PeerReplica


class MultiPaxosReplica(PeerReplica):
    """One replica. A follower's log is always the beginning of its leader's."""

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.leader_log = LeaderLog(self, config, alone=True)
        self.name_timers()
        self.begin(start)

    def name_timers(self) -> None:
        """For a variant that has timers of its own."""

    # Normal case

    def accept(self, request: Request) -> None:
        """The leader gives a request its place in the log, if it has none, and sends it to the others."""
        if not self.is_leader:
            return self.ignore("not the leader")
        state = self.state
        record = state.sessions.record_for(request)
        if record is not None and request.number <= record.number:
            if request.number < record.number:
                return self.ignore("superseded request")
            if record.position > state.committed:
                return self.ignore("request that is under way")
            return self._answer(request, record.result)
        state.append(request)
        return self.send_prepare()

    def send_prepare(self) -> None:
        """Each operation has a Prepare of its own."""
        self.leader_log.prepare(self.state.log.tip)

    def on_committed(self, first: int, last: int) -> None:
        """Answer."""
        for position in range(first, last + 1):
            self._answer(self.state.log.entry_at(position), self.result_at(position))

    def _answer(self, request: Request, result: bytes | None) -> None:
        self.port.send(request.client, Reply(self.view, request.session, request.number, result))

    # Views

    def begin_view(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.begin()

    def leave_view(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.stop()

    @property
    def confirmed(self) -> int:
        """All of it."""
        return self.tip

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """The longest log of the last view: all of them are beginnings of one log, and what a majority had stands in it."""
        _, base, base_hash = settled(votes)
        return supported(latest(votes), base, base_hash, needed=1)

    def on_repaired(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.after_commit()

    # Watching

    def own_state(self) -> dict[str, Any]:
        """See `PeerReplica`."""
        return self.leader_log.snapshot()

    def check_invariants(self) -> None:
        """See `PeerReplica`."""
        super().check_invariants()
        self.leader_log.check_invariants()
        assert not self.accepting or self.is_leader or self.leader_log.confirmed == self.tip


class BatchedMultiPaxosReplica(MultiPaxosReplica):
    """With as many operations in a Prepare as a burst brought, up to `batch_size`, while fewer than `pipeline` Prepares are under way.

    So an idle system adds no delay, and a busy one fills its Prepares. `_batches`: where those end that are not committed yet.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        self._batches: list[int] = []
        self._batch_size = config.limits.batch_size
        self._pipeline = config.limits.pipeline
        super().__init__(port, config, index, machine, start)

    def name_timers(self) -> None:
        """See `MultiPaxosReplica`."""
        self.timers["batch"] = self.on_batch_timer

    def send_prepare(self) -> None:
        """Let the burst bring what it brings."""
        self.port.set_timer("batch", 0)

    def on_batch_timer(self) -> None:
        """Cut the next batches, as far as they may go out already."""
        tip, leader_log = self.state.log.tip, self.leader_log
        while leader_log.prepared < tip and len(self._batches) < self._pipeline:
            last = min(tip, leader_log.prepared + self._batch_size)
            leader_log.prepare(last)
            self._batches.append(last)

    def on_committed(self, first: int, last: int) -> None:
        """Answer, and go on with what has come meanwhile."""
        super().on_committed(first, last)
        self._batches = [end for end in self._batches if end > last]
        if self.leader_log.prepared < self.state.log.tip:
            self.send_prepare()

    def leave_view(self) -> None:
        """See `PeerReplica`."""
        super().leave_view()
        self._batches = []
        self.port.cancel_timer("batch")

    def own_state(self) -> dict[str, Any]:
        """See `PeerReplica`."""
        return {**super().own_state(), "batches": self._batches}
