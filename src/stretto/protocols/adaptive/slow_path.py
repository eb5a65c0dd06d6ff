"""The leader's slow path: it sends its log to the followers as long as they do not have the same log without that.

    on the fast path    clients multicast; now and then a Heartbeat announces the position and hash that followers should have
    on the slow path    clients send only to the leader; it sends a Prepare for each burst of requests, a few of them in flight

The leader enters the slow path as soon as a replica's log differs or lacks something: a client reports a conflict or sends a request again,
a follower asks for the log, or so many followers are silent that no superquorum is left. It returns to the fast path when the slow path has
not been needed for a quiet interval. That interval grows each time the slow path is needed again soon after the return.
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
"""The quiet interval, at first and at most: for how many sync intervals the slow path must not have been needed before it ends."""

DRAIN = 2
"""The drain interval: for how many sync intervals the leader still sends its log after it has stopped setting `leader_only`. A client
obeys that flag for one interval after it has seen it last."""


class SlowPath(Part):
    """The part of a leader that chooses between the two paths.

    - `next_sync_position`: when an append reaches this position, `on_sync_position` is called.
    - `leader_only`: whether our answers ask clients to send requests only to us.
    - `awaited`: our last position when the timer fired last. Entries up to it that are uncommitted when it fires again are overdue.

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
        """A request has been appended. On the slow path, send it with its burst. On the fast path, announce our position to followers."""
        if self.active:
            self.pipeline.send_at_burst_end()
        else:
            self._expect_all()
            self.leader_log.send_heartbeat()

    def _expect_all(self) -> None:
        self.leader_log.expect_all()
        self._set_next_sync_position()

    def on_committed(self) -> None:
        """Entries have been committed, so the pipeline may have room."""
        if self.active:
            self.pipeline.on_committed()

    # When the slow path is needed

    def need(self) -> None:
        """A replica's log differs from ours or lacks something: send our log from now on, beginning with the uncommitted entries."""
        group, state = self.group, self.state
        if not group.is_leader or not group.accepting:
            return
        now = self.port.now_ns
        if self.active:
            self._last_needed_ns = now
            self.leader_only = True
            return
        # We returned too soon if the fast path lasted for less time than the quiet interval before it.
        has_lasted = self._has_been_quiet(2 * self._quiet + DRAIN)
        self._quiet = SHORTEST_QUIET if has_lasted else min(2 * self._quiet, LONGEST_QUIET)
        self._last_needed_ns = now
        self.leader_log.send_every_entry(True)
        self.leader_only = True
        self.activations += 1
        self.port.report("slow path", view=group.view, committed=state.committed, last=state.log.last)
        # Entries that were committed without a superquorum may have too few answers. Those of the view's start were answered by all in it.
        answered = reached_by(group.quorums.superquorum - 1, self.leader_log.acknowledged.values())
        self._answer_range(max(answered, state.log.start, self.view_change.start_last) + 1, state.committed)
        self._restart()

    def _restart(self) -> None:
        self.pipeline.restart()
        self._set_next_sync_position()

    def on_conflict(self, source: Address, message: Conflict) -> None:
        """A client got answers that can no longer agree."""
        self.need()

    def on_acknowledged(self, diverged: bool) -> None:
        """A follower has our log. If it had another before, the slow path was needed."""
        if diverged:
            self.need()

    def on_timer(self) -> None:
        """Note which followers are silent, send overdue entries again, and return to the fast path after a quiet interval."""
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
        """After the quiet interval, let clients multicast again. After the drain interval, when they do, return to the fast path."""
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
        """See `Part`. Whether the slow path is active, and how often it was entered."""
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
