"""A pipeline of Prepares: the leader sends its log in batches, a few of them in flight.

An idle system adds no delay, and a busy one fills its Prepares.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.replication.leader_log import LeaderLog
from stretto.replication.part import Part
from stretto.replication.state import ReplicatedState


class PreparePipeline(Part):
    """The part of a leader that sends at most `pipeline` Prepares of at most `batch_size` entries each before the first of them commits.

    `in_flight`: the last position of each Prepare that is not committed yet.
    """

    def __init__(self, port: Port, state: ReplicatedState, leader_log: LeaderLog, config: ClusterConfig) -> None:
        super().__init__()
        self.port = port
        self.state = state
        self.leader_log = leader_log
        self.in_flight: list[int] = []
        self._batch_size = config.limits.batch_size
        self._depth = config.limits.pipeline
        self.timers = {"batch": self.send}

    def send_at_burst_end(self) -> None:
        """Send all that arrives in the present burst of input at the end of the burst."""
        self.port.set_timer("batch", 0)

    def send(self) -> None:
        """Send the next batches, as many as the pipeline has room for."""
        last, leader_log = self.state.log.last, self.leader_log
        while leader_log.prepared < last and len(self.in_flight) < self._depth:
            end = min(last, leader_log.prepared + self._batch_size)
            leader_log.prepare(end)
            self.in_flight.append(end)

    def on_committed(self) -> None:
        """Entries have been committed, so the pipeline may have room: send what has come meanwhile."""
        committed = self.state.committed
        self.in_flight = [end for end in self.in_flight if end > committed]
        if self.leader_log.prepared < self.state.log.last:
            self.send_at_burst_end()

    def restart(self) -> None:
        """Send all uncommitted entries again."""
        self.leader_log.prepare_again_from(self.state.committed)
        self.in_flight = []
        self.send()

    def stop(self) -> None:
        """Forget which Prepares are in flight."""
        self.in_flight = []
        self.port.cancel_timer("batch")

    def leave_view(self) -> None:
        """See `Part`."""
        self.stop()

    def snapshot(self) -> Any:
        """See `Part`."""
        return self.in_flight
