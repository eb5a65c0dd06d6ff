"""Bugs in Fast Paxos: what the leader counts, what its followers match, the merge."""

from __future__ import annotations

from stretto.mutants.hunters import disks, network
from stretto.mutants.mutant import Mutant

_REPLICA = "stretto.protocols.fastpaxos.replica"
_LEADER_LOG = "stretto.replication.leader_log"
_MERGE = "stretto.replication.leader_merge"
_PROTOCOL = ("--protocol", "fastpaxos")

MUTANTS = (
    Mutant(
        "fastpaxos-quorum-too-small",
        "The leader commits what a superquorum has at the same position, not one fewer",
        _REPLICA,
        "reached_by(self.quorums.superquorum - 1, agreed)",
        "reached_by(self.quorums.superquorum - 2, agreed)",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-length-taken-for-equality",
        "An Accepted counts only if the hashes are equal, not only the positions",
        _REPLICA,
        "if self.hash_at(position) == summary:",
        "if self.tip >= position:",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-confirmed-without-comparing",
        "A follower's log matches where its hash is the leader's, however long it is",
        _LEADER_LOG,
        "if position > self.confirmed and self.state.log.matches(position, summary):",
        "if self.state.log.tip >= position > self.confirmed:",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-commits-what-is-not-confirmed",
        "A follower commits what the leader committed only as far as its log matches the leader's",
        _LEADER_LOG,
        "position = min(position, self.confirmed)",
        "position = min(position, self.state.log.tip)",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-takes-over-from-the-committed",
        "Taking over the leader's log changes no matched entry",
        _LEADER_LOG,
        "self.replica.adopt(confirmed, new)",
        "self.replica.adopt(state.committed, new)",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-merge-without-the-confirmed",
        "A merge keeps the entries that a vote has matched, whatever the other votes have there",
        _MERGE,
        "kept = confirmed_prefix(candidates, base)",
        "kept: list[Request] = []",
        network(5, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-support-too-small",
        "⌈f/2⌉+1 of f+1 logs are needed to keep an entry in its place",
        _MERGE,
        "supported(extending, position, summary, merge_support)",
        "supported(extending, position, summary, merge_support - 1)",
        network(5, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-confirmed-not-persisted",
        "A follower's matched position survives its crash",
        _LEADER_LOG,
        "        if not self._alone and self.port.durable:\n            self.port.persist(Confirmed(position))\n",
        "",
        disks(*_PROTOCOL),
    ),
)
