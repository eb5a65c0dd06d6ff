"""Bugs in Adaptive Speculative Paxos: what completes a call, matched positions, the leader's log in its view, merges."""

from __future__ import annotations

from stretto.mutants.hunters import adaptive
from stretto.mutants.mutant import Mutant

_CLIENT = "stretto.protocols.adaptive.client"
_REPLICA = "stretto.protocols.adaptive.replica"
_LOG = "stretto.replication.leader_log"
_MERGE = "stretto.replication.leader_merge"
_ORDERING = "stretto.protocols.adaptive.ordering"
_STATE = "stretto.replication.state"

MUTANTS = (
    Mutant(
        "adaptive-fast-without-leader",
        "A superquorum of answers includes the leader's",
        _CLIENT,
        "            has_leader and ballot.voters.bit_count() >= quorums.superquorum\n",
        "            ballot.voters.bit_count() >= quorums.superquorum\n",
        adaptive(5),
    ),
    Mutant(
        "adaptive-slow-quorum-too-small",
        "f+1 confirmed answers complete a call, the leader's among them or not, and not one fewer",
        _CLIENT,
        "(ballot.confirmed | has_leader).bit_count() >= quorums.majority or (",
        "(ballot.confirmed | has_leader).bit_count() >= quorums.majority - 1 or (",
        adaptive(3),
    ),
    Mutant(
        "adaptive-length-taken-for-equality",
        "A follower's log matches where its hash is the leader's, not where it is as long",
        _LOG,
        "if position > self.confirmed and self.state.log.matches(position, summary):",
        "if self.state.log.tip >= position > self.confirmed:",
        adaptive(3),
    ),
    Mutant(
        "adaptive-own-entries-confirmed",
        "A follower's log matches as far as the leader's log goes, and not beyond",
        _LOG,
        "            self._confirm(last, is_awaited=True)\n",
        "            self._confirm(self.state.log.tip, is_awaited=True)\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-takes-over-from-the-committed",
        "The leader's entries are appended after the matched position, not after the committed one",
        _LOG,
        "            self.replica.adopt(confirmed, new)",
        "            self.replica.adopt(state.committed, new)",
        adaptive(3),
    ),
    Mutant(
        "adaptive-commit-quorum-too-small",
        "The leader commits what f followers have matched, not one fewer",
        _LOG,
        "self.commit(reached_by(self._f, [",
        "self.commit(reached_by(max(1, self._f - 1), [",
        adaptive(5),
    ),
    Mutant(
        "adaptive-speculative-called-confirmed",
        "An answer is MATCHED only if its position is known to match the leader's log",
        _REPLICA,
        "CONFIRMED if position <= self.confirmed else SPECULATIVE",
        "CONFIRMED if position <= self.tip else SPECULATIVE",
        adaptive(3),
    ),
    Mutant(
        "adaptive-merge-without-confirmed",
        "The next view starts with everything that some voter has matched",
        _MERGE,
        "    kept = confirmed_prefix(candidates, base)\n",
        "    kept = confirmed_prefix(candidates, base)[:0]\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-confirmed-not-persisted",
        "A follower's matched position survives a crash",
        _LOG,
        "        if not self._alone and self.port.durable:\n",
        "        if self._alone and self.port.durable:\n",
        adaptive(3, "disk"),
    ),
    Mutant(
        "adaptive-superseded-appended",
        "A request is appended unless it, or a later one of its session, is in the log already",
        _REPLICA,
        "if record is not None and request.number <= record.number:",
        "if record is not None and request.number == record.number:",
        adaptive(3),
    ),
    Mutant(
        "adaptive-merge-support-too-small",
        "After the matched entries, the next view has the entries of ⌈f/2⌉+1 logs, not one fewer",
        _MERGE,
        "position, summary, merge_support)",
        "position, summary, merge_support - 1)",
        adaptive(5),
    ),
    Mutant(
        "adaptive-acknowledged-in-older-view",
        "Positions that followers matched in an older view of the same leader commit nothing in this one",
        _LOG,
        "        self.moved = False\n        self.acknowledged = {}\n        self._spoken = {}\n",
        "        self.moved = False\n        self._spoken = {}\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-leader-changes-its-log",
        "Within its view the leader's log only grows: its entries are never reordered",
        _ORDERING,
        "        self.leader_log.prepared = self.state.committed\n",
        "        committed = self.state.committed\n"
        "        tail = sorted(self.state.log.entries(committed + 1), key=lambda request: (request.client, request.number))\n"
        "        self.replica.adopt(committed, tail)\n"
        "        self.leader_log.prepared = committed\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-entry-not-persisted",
        "The leader announces a position and its hash only when the entries are on its disk",
        _STATE,
        "            self.persist(request)\n",
        "            pass\n",
        adaptive(3, "disk"),
    ),
)
