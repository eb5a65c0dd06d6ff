"""Bugs in Adaptive Speculative Paxos: what completes a call, what is matched, the leader's log in its view, how logs are merged."""

from __future__ import annotations

from stretto.mutants.hunters import adaptive
from stretto.mutants.mutant import Mutant

_CLIENT = "stretto.protocols.adaptive.client"
_REPLICA = "stretto.protocols.adaptive.replica"
_LOG = "stretto.replication.leader_log"
_MERGE = "stretto.replication.merging"
_PIPELINE = "stretto.replication.pipeline"
_STATE = "stretto.replication.state"

MUTANTS = (
    Mutant(
        "adaptive-fast-without-leader",
        "A superquorum of answers includes the leader's",
        _CLIENT,
        "(has_leader and voters.bit_count() >= quorums.superquorum)",
        "(voters.bit_count() >= quorums.superquorum)",
        adaptive(5),
    ),
    Mutant(
        "adaptive-slow-quorum-too-small",
        "f+1 matched answers complete a call, with the leader's or without, and not one fewer",
        _CLIENT,
        "(tally.matched | has_leader).bit_count() >= quorums.majority:",
        "(tally.matched | has_leader).bit_count() >= quorums.majority - 1:",
        adaptive(3),
    ),
    Mutant(
        "adaptive-length-taken-for-equality",
        "A follower matches positions that have the leader's hash, however long its log is",
        _LOG,
        "if position > self.matched and self.state.log.matches(position, summary):",
        "if self.state.log.last >= position > self.matched:",
        adaptive(3),
    ),
    Mutant(
        "adaptive-own-entries-matched",
        "A follower matches only the leader's entries, not its own entries after them",
        _LOG,
        "            self._match(last, is_awaited=True)\n",
        "            self._match(self.state.log.last, is_awaited=True)\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-takes-over-from-the-committed",
        "The leader's entries follow the matched ones, not the committed ones",
        _LOG,
        "            self.transfer.adopt(matched, new)",
        "            self.transfer.adopt(state.committed, new)",
        adaptive(3),
    ),
    Mutant(
        "adaptive-commit-quorum-too-small",
        "The leader commits what f followers have matched, not one fewer",
        _LOG,
        "self.commit(reached_by(self.group.quorums.f, [",
        "self.commit(reached_by(max(1, self.group.quorums.f - 1), [",
        adaptive(5),
    ),
    Mutant(
        "adaptive-speculative-called-matched",
        "An answer is matched if its position is known to be the leader's",
        _REPLICA,
        "MATCHED if position <= self.matched_in_last_view() else SPECULATIVE",
        "MATCHED if position <= self.state.log.last else SPECULATIVE",
        adaptive(3),
    ),
    Mutant(
        "adaptive-merge-without-matched",
        "The next view begins with the entries that a voter has matched",
        _MERGE,
        "    kept = matched_prefix(candidates, base)\n",
        "    kept = matched_prefix(candidates, base)[:0]\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-matched-not-persisted",
        "What a follower has matched survives a crash",
        _LOG,
        "        if not self.passive_followers and self.port.durable:\n",
        "        if self.passive_followers and self.port.durable:\n",
        adaptive(3, "disk"),
    ),
    Mutant(
        "adaptive-superseded-appended",
        "A request is appended unless the log already has it, or a later one of its session",
        "stretto.replication.replica",
        "        if record is None or request.number > record.number:\n",
        "        if record is None or request.number != record.number:\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-merge-support-too-small",
        "After the matched entries, the next view has those that ⌈f/2⌉+1 logs have, not one fewer",
        _MERGE,
        "position, summary, merge_support)",
        "position, summary, merge_support - 1)",
        adaptive(5),
    ),
    Mutant(
        "adaptive-acknowledged-in-older-view",
        "What followers acknowledged in an older view of the same leader commits nothing in this one",
        _LOG,
        "        self.diverged = False\n        self.acknowledged = {}\n        self._spoken = {}\n",
        "        self.diverged = False\n        self._spoken = {}\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-leader-changes-its-log",
        "Within its view, the leader's log only grows: the leader does not reorder it before it is sent",
        _PIPELINE,
        "        self.leader_log.prepare_again_from(self.state.committed)\n",
        "        committed = self.state.committed\n"
        "        tail = sorted(self.state.log.entries(committed + 1), key=lambda request: (request.client, request.number))\n"
        "        self.leader_log.transfer.adopt(committed, tail)\n"
        "        self.leader_log.prepare_again_from(committed)\n",
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
