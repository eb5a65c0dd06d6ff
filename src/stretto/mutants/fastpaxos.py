"""Bugs in Fast Paxos: what the leader counts, what its followers match, the merge."""

from __future__ import annotations

from stretto.mutants.hunters import disks, network
from stretto.mutants.mutant import Mutant

_FAST_PATH = "stretto.protocols.fastpaxos.fast_path"
_LEADER_LOG = "stretto.replication.leader_log"
_MERGE = "stretto.replication.merging"
_PROTOCOL = ("--protocol", "fastpaxos")

MUTANTS = (
    Mutant(
        "fastpaxos-quorum-too-small",
        "The leader commits what a superquorum has at the same position, not one fewer",
        _FAST_PATH,
        "reached_by(self.group.quorums.superquorum - 1, agreed)",
        "reached_by(self.group.quorums.superquorum - 2, agreed)",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-length-taken-for-equality",
        "An Accepted counts if the hashes are equal, not only the positions",
        _FAST_PATH,
        "if self.state.log.hash_at(position) == summary:",
        "if self.state.log.last >= position:",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-matched-without-comparing",
        "A follower matches positions that have the leader's hash, however long its log is",
        _LEADER_LOG,
        "if position > self.matched and self.state.log.matches(position, summary):",
        "if self.state.log.last >= position > self.matched:",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-commits-what-is-not-matched",
        "A follower commits only up to its matched position",
        _LEADER_LOG,
        "position = min(position, self.matched)",
        "position = min(position, self.state.log.last)",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-takes-over-from-the-committed",
        "Taking over the leader's entries changes no matched entry",
        _LEADER_LOG,
        "self.transfer.adopt(matched, new)",
        "self.transfer.adopt(state.committed, new)",
        network(3, *_PROTOCOL),
    ),
    Mutant(
        "fastpaxos-merge-without-the-matched",
        "A merge keeps the entries that a vote reports as matched, whatever the others have there",
        _MERGE,
        "kept = matched_prefix(candidates, base)",
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
        "fastpaxos-matched-not-persisted",
        "What a follower has matched survives a restart",
        _LEADER_LOG,
        "        if not self.passive_followers and self.port.durable:\n            self.port.persist(Matched(position))\n",
        "",
        disks(*_PROTOCOL),
    ),
)
