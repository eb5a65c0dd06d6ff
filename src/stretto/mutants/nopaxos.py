"""Bugs in NOPaxos: sessions of sequencers, gaps, what is counted, the merge."""

from __future__ import annotations

from stretto.mutants.hunters import sequencers
from stretto.mutants.mutant import Mutant

_CLIENT = "stretto.protocols.nopaxos.client"
_REPLICA = "stretto.protocols.nopaxos.replica"
_ORDERING = "stretto.protocols.nopaxos.ordering"
_SYNC = "stretto.protocols.nopaxos.synchronisation"
_MERGING = "stretto.protocols.nopaxos.merging"

MUTANTS = (
    Mutant(
        "nopaxos-leader-alone",
        "A result is accepted when f others have the leader's log, not one fewer",
        _CLIENT,
        "for place in places.values()) >= self._majority:",
        "for place in places.values()) >= self._majority - 1:",
        sequencers(3),
    ),
    Mutant(
        "nopaxos-commit-quorum-too-small",
        "The leader commits an entry when f+1 replicas have it, itself included, not one fewer",
        _SYNC,
        "everyone[group.quorums.f]",
        "everyone[group.quorums.f - 1]",
        sequencers(3),
    ),
    Mutant(
        "nopaxos-length-taken-for-equality",
        "A follower's log matches the leader's up to the last position with an equal hash, however long it is",
        _SYNC,
        "if log.matches(message.position, message.hash):",
        "if log.last >= message.position:",
        sequencers(3),
    ),
    Mutant(
        "nopaxos-request-wins-over-no-op",
        "In a merge, a no-op in any log replaces the request that was stamped for its position",
        _MERGING,
        "                merged[place] = NO_OP\n",
        "                pass\n",
        sequencers(3, "memory", "--set", "timeouts.sync_patience_ms=0.3", "--set", "links.transit.base_ns=200000"),
    ),
    Mutant(
        "nopaxos-follower-appends-no-ops",
        "Only the leader appends no-ops; a follower takes over the leader's entries",
        _ORDERING,
        """\
        if not group.is_leader:
            self.ask_leader(first, last)
            self._wait(self._reordering_ns)
        elif self.asked >= first:
""",
        "        if self.asked >= first:\n",
        sequencers(3),
    ),
    Mutant(
        "nopaxos-stamps-of-any-incarnation",
        "Only stamps of the session that the leader took for the view count",
        _ORDERING,
        """\
        if message.incarnation != self.session.incarnation:
            return group.ignore("stamp of another session")
        if source >= group.n:
""",
        """\
        if not self.session.is_open:
            return group.ignore("stamp of another session")
        if source >= group.n:
""",
        sequencers(3),
    ),
    Mutant(
        "nopaxos-leader-resumes-its-view",
        "A leader that was started again from its disk does not know its view's session, and ends the view",
        "stretto.protocols.nopaxos.session",
        "self.resumed |= isinstance(record, StartView)",
        "self.resumed = False",
        sequencers(3, "disk"),
    ),
)
