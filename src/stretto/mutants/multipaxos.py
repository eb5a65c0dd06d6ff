"""Bugs in Multi-Paxos, and in how followers take over their leader's log."""

from __future__ import annotations

from stretto.mutants.hunters import network
from stretto.mutants.mutant import Mutant

_REPLICA = "stretto.protocols.multipaxos.replica"
_MERGING = "stretto.replication.merging"
_PIPELINE = "stretto.replication.pipeline"
_LEADER_LOG = "stretto.replication.leader_log"
_PLAIN = ("--protocol", "multipaxos")
_BATCHED = ("--protocol", "multipaxos-batched")

MUTANTS = (
    Mutant(
        "multipaxos-majority-too-small",
        "The leader commits an entry when f followers have it, not one fewer",
        _LEADER_LOG,
        "self.commit(reached_by(self.group.quorums.f, ",
        "self.commit(reached_by(self.group.quorums.f - 1, ",
        network(5, *_PLAIN),
    ),
    Mutant(
        "multipaxos-answers-before-the-commit",
        "The leader answers a request only when it is committed",
        _REPLICA,
        "        self.state.append(request)\n",
        "        self.answer(request, 0, self.state.append(request))\n",
        network(3, *_PLAIN),
    ),
    Mutant(
        "multipaxos-answers-what-is-in-progress",
        "A retransmitted request is answered when it is committed, not when it is in the log",
        _REPLICA,
        "if record.position > self.state.agreed:",
        "if record.position > self.state.log.last:",
        network(3, *_PLAIN),
    ),
    Mutant(
        "multipaxos-prepare-across-a-gap",
        "A follower applies a Prepare only when it has all entries before it",
        _LEADER_LOG,
        "        if message.first > self.matched + 1:\n",
        "        if False:\n",
        network(3, *_PLAIN),
    ),
    Mutant(
        "multipaxos-merge-of-the-shortest",
        "The next view starts with the longest log of the last one",
        _MERGING,
        "supported(latest(votes), base, base_hash, needed=1)",
        "supported(latest(votes), base, base_hash, needed=len(latest(votes)))",
        network(3, *_PLAIN),
    ),
    Mutant(
        "multipaxos-merge-of-stale-logs",
        "A log of an older view counts for nothing, however long it is",
        _MERGING,
        "return supported(latest(votes), base, base_hash, needed=1)",
        "longest = max(votes.values(), key=lambda vote: vote.committed + len(vote.entries))\n"
        "    return supported({0: longest}, base, base_hash, needed=1) or supported(latest(votes), base, base_hash, needed=1)",
        network(3, *_PLAIN),
    ),
    Mutant(
        "multipaxos-batches-of-an-earlier-view",
        "Prepares that were in flight in an earlier view take no room in the pipeline of a later one",
        _PIPELINE,
        '        self.in_flight = []\n        self.port.cancel_timer("batch")\n',
        '        self.port.cancel_timer("batch")\n',
        network(3, *_BATCHED, "--set", "limits.pipeline=1"),
    ),
)
