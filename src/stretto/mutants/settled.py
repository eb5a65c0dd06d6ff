"""Generated mutants that no test can find, or need find: each with the reason why it cannot matter."""

from __future__ import annotations

from typing import NamedTuple


class Settled(NamedTuple):
    """A survivor that cannot matter. The fields are those of `Change`; `why`: one sentence."""

    module: str
    function: str
    old: str
    new: str
    why: str
    nth: int = 0

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """As `Change.key`."""
        return self.module, self.function, self.old, self.new, self.nth


_FAST = "stretto.protocols.fastpaxos.fast_path"
_LEADER_LOG = "stretto.replication.leader_log"

SETTLED = (
    Settled(
        _LEADER_LOG,
        "LeaderLog.on_entries_compacted",
        "message.position <= self.matched",
        "message.position < self.matched",
        "At the matched position our log has the leader's hash, so the next line only commits what the leader says is committed.",
    ),
    Settled(
        _LEADER_LOG,
        "LeaderLog._compare",
        "position > self.matched",
        "position >= self.matched",
        "Matching again what is matched tells of no entries.",
    ),
    Settled(
        _FAST,
        "FastPath.begin_view",
        "self.awaited = self.state.committed",
        "pass",
        "A position left from an earlier view begins at most one classic round early, and classic rounds are always allowed.",
    ),
    Settled(
        _FAST,
        "FastPath.on_appended",
        "last > self.state.committed",
        "last >= self.state.committed",
        "What is committed already is not committed again, and has been sent in no later round than `prepared`.",
    ),
    Settled(
        _FAST,
        "FastPath.on_appended",
        "accepted is not None and last > self.state.committed",
        "accepted is not None",
        "What is committed already is not committed again, and has been sent in no later round than `prepared`.",
    ),
    Settled(
        "stretto.replication.clock",
        "ClockSamples.add",
        "round_trip_ns <= former[0]",
        "round_trip_ns < former[0]",
        "Of two samples with equal round trips, one is as good as the other; and each is replaced when it is old.",
    ),
    Settled(
        "stretto.replication.startup",
        "Startup._count_replies",
        "self.end()",
        "pass",
        "Entering the first view ends the questions, too.",
    ),
    Settled(
        "stretto.replication.view_change",
        "ViewChange._merge",
        "self._commit(base)",
        "pass",
        "The log with which the view starts, the base included, is committed when a majority has entered the view.",
    ),
    Settled(
        "stretto.replication.outcomes",
        "OutcomeComparison.compare",
        "max(self.state.log.start, min(self.state.agreed, position - 1))",
        "min(self.state.log.start, min(self.state.agreed, position - 1))",
        "A wider interval only takes one more question.",
    ),
)
