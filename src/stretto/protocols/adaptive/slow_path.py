"""The slow path of the leader: it sends its log to the followers, only as long as they do not have it by themselves.

    on the fast path    clients multicast; heartbeats say now and then how far followers should be, and with which hash
    on the slow path    clients send to the leader alone; it sends a Prepare for each burst of requests, a few of them in flight

The leader enters the slow path as soon as a replica differs or misses something: a client reports a conflict or sends a request again, a
follower asks for the log, or so many followers are silent that no superquorum is left. It returns to the fast path when the slow one has
not been needed for a quiet interval. That interval grows each time the return turns out to have been too early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.adaptive.messages import Conflict
from stretto.replication.failure_detector import FailureDetector
from stretto.replication.group import Group
from stretto.replication.leader_log import LeaderLog
from stretto.replication.part import Part
from stretto.replication.pipeline import PreparePipeline
from stretto.replication.quorums import reached_by
from stretto.replication.state import ReplicatedState
from stretto.replication.view_change import ViewChange

NEVER = 1 << 62
"""A position that no log reaches."""

SHORTEST_QUIET = 2
LONGEST_QUIET = 64
"""How many sync intervals the slow path must not have been needed before it ends, at first and at most."""

DRAIN = 2
"""For how many intervals more the log is sent when clients are no longer told to send to the leader alone: they believe that for one."""


class SlowPath(Part):
    """The part of a leader that chooses between the two paths.

    - `next_sync_position`: the position at which an append has more to do than to answer.
    - `leader_only`: whether clients are told to send to us alone.
    - `awaited`: our last position when the timer fired last. What is not committed when it fires again has waited too long.

    Parameters: `answer_range` answers the clients of a range of entries.
    """

    def __init__(
        self,
        group: Group,
        state: ReplicatedState,
        detector: FailureDetector,
        view_change: ViewChange,
        leader_log: LeaderLog,
        pipeline: PreparePipeline,
        config: ClusterConfig,
        answer_range: Callable[[int, int], None],
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.detector = detector
        self.view_change = view_change
        self.leader_log = leader_log
        self.pipeline = pipeline
        self.next_sync_position = NEVER
        self.leader_only = False
        self.awaited = 0
        self.activations = 0
        self._answer_range = answer_range
        self._quiet = SHORTEST_QUIET
        self._last_needed_ns = 0
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._operations = config.limits.sync_operations
        self.handlers = {Conflict: self.on_conflict}
        self.timers = {"path": self.on_timer}

    def begin_view(self) -> None:
        """See `Part`. A view starts on the fast path."""
        self._end()
        if self.group.is_leader:
            self.awaited = self.state.committed
            self.port.set_timer("path", self._interval_ns)

    def leave_view(self) -> None:
        """See `Part`."""
        self._end()
        self.next_sync_position = NEVER
        self.port.cancel_timer("path")

    @property
    def active(self) -> bool:
        """Whether we lead and are on the slow path."""
        return self.group.is_leader and self.leader_log.slow_path

    def _end(self) -> None:
        self.leader_log.send_every_entry(False)
        self.leader_only = False
        self.pipeline.stop()
        self._set_next_sync_position()

    def _set_next_sync_position(self) -> None:
        if not self.group.is_leader:
            self.next_sync_position = NEVER
        elif self.active:
            self.next_sync_position = 0
        else:
            self.next_sync_position = self.leader_log.prepared + self._operations

    def on_sync_position(self) -> None:
        """A request has been appended: send it with those of its burst, or say how far followers should be, after so many operations."""
        if self.active:
            self.pipeline.send_at_burst_end()
        else:
            self._expect_all()
            self.leader_log.send_heartbeat()

    def _expect_all(self) -> None:
        self.leader_log.expect_all()
        self._set_next_sync_position()

    def on_committed(self) -> None:
        """Prepares have done their work."""
        if self.active:
            self.pipeline.on_committed()

    # When the slow path is needed

    def need(self) -> None:
        """A replica has another log than ours, or lacks something: send ours from now on, beginning with what is not committed."""
        group, state = self.group, self.state
        if not group.is_leader or not group.accepting:
            return
        now = self.port.now_ns
        if self.active:
            self._last_needed_ns = now
            self.leader_only = True
            return
        # The return to the fast path was too early if that did not last as long as the quiet interval before it.
        has_lasted = self._has_been_quiet(2 * self._quiet + DRAIN)
        self._quiet = SHORTEST_QUIET if has_lasted else min(2 * self._quiet, LONGEST_QUIET)
        self._last_needed_ns = now
        self.leader_log.send_every_entry(True)
        self.leader_only = True
        self.activations += 1
        self.port.report("slow path", view=group.view, committed=state.committed, last=state.log.last)
        # What has been committed without a superquorum has been answered by too few; what the view started with, by all that entered it.
        answered = reached_by(group.quorums.superquorum - 1, self.leader_log.acknowledged.values())
        self._answer_range(max(answered, state.log.start, self.view_change.start_last) + 1, state.committed)
        self._restart()

    def _restart(self) -> None:
        self.pipeline.restart()
        self._set_next_sync_position()

    def on_conflict(self, source: Address, message: Conflict) -> None:
        """A client saw answers that cannot agree any more."""
        self.need()

    def on_acknowledged(self, diverged: bool) -> None:
        """A follower has our log. If it had another before, the slow path was needed."""
        if diverged:
            self.need()

    def on_timer(self) -> None:
        """See which followers are silent, send again what has waited too long, and return to the fast path when all is quiet."""
        self.port.set_timer("path", self._interval_ns)
        if not self.group.accepting:
            return
        self.detector.give_up_waiting_for_silent(self.port.now_ns - 2 * self._interval_ns)
        awaited, self.awaited = self.awaited, self.state.log.last
        if not self.detector.has_superquorum:
            self.need()
        elif self.active:
            self._end_when_quiet()
        if not self.active:
            self._expect_all()
        elif awaited > self.state.committed:
            self._restart()

    def _end_when_quiet(self) -> None:
        """After the quiet interval, let clients go back to multicasting; when they have, return to the fast path."""
        if self._has_been_quiet(self._quiet):
            self.leader_only = False
        if self._has_been_quiet(self._quiet + DRAIN):
            self._end()
            self._expect_all()
            self.leader_log.send_heartbeat()

    def _has_been_quiet(self, intervals: int) -> bool:
        return self.port.now_ns - self._last_needed_ns >= intervals * self._interval_ns

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`. Which path, and how often the slow one was entered."""
        return {"slow_path": self.active, "slow_path_activations": self.activations}

    def snapshot(self) -> Any:
        """See `Part`."""
        intervals = (self._quiet, self._quiet + DRAIN, 2 * self._quiet + DRAIN)
        return {
            "leader_only": self.leader_only,
            "next_sync_position": self.next_sync_position,
            "awaited": self.awaited,
            "quiet": [self._quiet, *(self._has_been_quiet(interval) for interval in intervals)],
        }

    def check_invariants(self) -> None:
        """See `Part`."""
        assert self.active or not (self.pipeline.in_flight or self.leader_only)
