"""Bugs in Adaptive Speculative Paxos: what completes a call, what is confirmed, how logs are merged."""

from __future__ import annotations

from stretto.mutants.hunters import adaptive
from stretto.mutants.mutant import Mutant

_CLIENT = "stretto.protocols.adaptive.client"
_REPLICA = "stretto.protocols.adaptive.replica"
_LOG = "stretto.replication.leader_log"
_MERGE = "stretto.replication.leader_merge"

MUTANTS = (
    Mutant(
        "adaptive-fast-without-leader",
        "A superquorum of answers has the leader's among them",
        _CLIENT,
        "        if ballot.voters & leader_bit:\n",
        "        if ballot.voters.bit_count() >= quorums.superquorum or ballot.voters & leader_bit:\n",
        adaptive(5),
    ),
    Mutant(
        "adaptive-slow-quorum-too-small",
        "The leader's answer and f confirmed ones complete a call, not one fewer",
        _CLIENT,
        "with_leader.bit_count() >= quorums.majority:",
        "with_leader.bit_count() >= quorums.majority - 1:",
        adaptive(3),
    ),
    Mutant(
        "adaptive-length-taken-for-equality",
        "A follower confirms what has the leader's hash, not what is as long",
        _LOG,
        "if position > self.confirmed and self.state.log.matches(position, summary):",
        "if self.state.log.tip >= position > self.confirmed:",
        adaptive(3),
    ),
    Mutant(
        "adaptive-commit-quorum-too-small",
        "The leader commits what f followers have confirmed, not one fewer",
        _LOG,
        "self.commit(reached_by(self._f, [",
        "self.commit(reached_by(max(1, self._f - 1), [",
        adaptive(5),
    ),
    Mutant(
        "adaptive-speculative-called-confirmed",
        "An answer is confirmed if its place is known to be the leader's",
        _REPLICA,
        "CONFIRMED if position <= self.confirmed else SPECULATIVE",
        "CONFIRMED if position <= self.tip else SPECULATIVE",
        adaptive(3),
    ),
    Mutant(
        "adaptive-merge-without-confirmed",
        "The next view begins with what some voter has confirmed",
        _MERGE,
        "    kept = confirmed_prefix(candidates, base)\n",
        "    kept = confirmed_prefix(candidates, base)[:0]\n",
        adaptive(3),
    ),
    Mutant(
        "adaptive-confirmed-not-persisted",
        "What a follower has confirmed survives a crash",
        _LOG,
        "        if not self._alone and self.port.durable:\n",
        "        if self._alone and self.port.durable:\n",
        adaptive(3, "disk"),
    ),
    Mutant(
        "adaptive-superseded-appended",
        "A request is appended unless it, or a later one of its session, has a place already",
        _REPLICA,
        "if record is not None and request.number <= record.number:",
        "if record is not None and request.number == record.number:",
        adaptive(3),
    ),
    Mutant(
        "adaptive-merge-support-too-small",
        "Behind what is confirmed, the next view has what ⌈f/2⌉+1 logs have, not one fewer",
        _MERGE,
        "position, summary, merge_support)",
        "position, summary, merge_support - 1)",
        adaptive(5),
    ),
    Mutant(
        "adaptive-acknowledged-in-older-view",
        "What followers confirmed in an older view of the same leader commits nothing in this one",
        _LOG,
        "        self.moved = False\n        self.acknowledged = {}\n        self._spoken = {}\n",
        "        self.moved = False\n        self._spoken = {}\n",
        adaptive(3),
    ),
)
