"""Bugs that show only in rare states: no search from the start has found them, but one that begins at the end of a schedule does."""

from __future__ import annotations

from stretto.mutants.hunters import after
from stretto.mutants.mutant import Mutant
from stretto.mutants.schedules import Script

_RECOVERING_AMONG_DIFFERENT_LOGS = Script(
    "fastpaxos",
    "operations=2,timers=4,views=6,crashes=1",
    # r0 and r1 have committed a in a classic round, while r2 has b there. r1 loses its state, and is about to fetch a.
    """
    c0 calls
    c1 calls
    r0 gets Request from c0
    r2 gets Request from c1
    r0 gets Accepted from r2
    r1 gets Prepare from r0
    r0 gets PrepareOk from r1
    r1 restarts
    r0 gets GetIncarnations from r1
    r2 gets GetIncarnations from r1
    r1 gets IncarnationsReply from r0
    r1 gets IncarnationsReply from r2
    r0 gets Recover from r1
    r2 gets StartViewChange from r0
    r0 gets DoViewChange from r2
    r1 gets StartView from r0
    """,
)

_COLLISION_OF_WHICH_ONE_VOTER_KNOWS = Script(
    "fastpaxos",
    "replicas=5,clients=3,operations=3,timers=12,views=9",
    # A collision ends with a, which r0, r1 and r2 have. r3 and r4 have b and c instead. All but r1 suspect the leader.
    """
    c0 calls
    c1 calls
    c2 calls
    r0 gets Request from c0
    r3 gets Request from c1
    r3 gets Request from c2
    r4 gets Request from c1
    r4 gets Request from c2
    r0 gets Accepted from r3
    r0 gets Accepted from r4
    r1 gets Prepare from r0
    r2 gets Prepare from r0
    r0 gets PrepareOk from r1
    r0 gets PrepareOk from r2
    c0 gets Reply from r0
    r2 late leader
    r3 late leader
    r4 late leader
    """,
)

_ANSWERS_OF_TWO_VIEWS = Script(
    "speculative",
    "replicas=5,operations=2,timers=12,views=9",
    # r3 and r4 have answered a in view 0. r0, r1 and r2 are in view 1, where r0 and r1 have it at the same position.
    """
    c0 calls
    r3 gets Request from c0
    r4 gets Request from c0
    r1 late leader
    r2 late leader
    r3 late leader
    r1 gets Suspect from r2
    r1 gets Suspect from r3
    r0 gets StartViewChange from r1
    r2 gets StartViewChange from r1
    r1 gets StartViewChange from r0
    r1 gets StartViewChange from r2
    r0 gets StartViewChange from r2
    r2 gets StartViewChange from r0
    r1 gets DoViewChange from r0
    r1 gets DoViewChange from r2
    r0 gets StartView from r1
    r2 gets StartView from r1
    r0 gets Request from c0
    r1 gets Request from c0
    c0 gets SpeculativeReply from r3
    c0 gets SpeculativeReply from r4
    """,
)

_LATE_VOTE_QUICK_RECOVERY = Script(
    "speculative",
    "operations=2,timers=8,views=6,crashes=1",
    # r0 voted for view 2, which r2 leads and has entered with b; then it lost its state. r1 entered view 1 with a and b, by the late
    # vote of r2, which did not know of the loss. r0 may now hear of either view.
    """
    c0 calls
    c1 calls
    r0 gets Request from c1
    r2 gets Request from c1
    r1 gets Request from c0
    r1 late leader
    r2 late leader
    r2 gets Suspect from r1
    r0 gets StartViewChange from r2
    r2 gets StartViewChange from r0
    r0 late escalate
    r2 gets StartViewChange from r0
    r0 gets StartViewChange from r2
    r2 gets DoViewChange from r0
    r0 restarts
    r1 gets GetIncarnations from r0
    r2 gets GetIncarnations from r0
    r0 gets IncarnationsReply from r1
    r0 gets IncarnationsReply from r2
    r1 gets StartViewChange from r2
    r1 gets Recover from r0
    r1 gets DoViewChange from r2
    """,
)

MUTANTS = (
    Mutant(
        "admitted-by-the-leader-alone",
        "A view admits an incarnation only if all its voters knew it, not if only its leader does",
        "stretto.replication.view_change",
        "admitted_incarnations(self.merging)",
        "group.incarnations",
        after(_LATE_VOTE_QUICK_RECOVERY),
    ),
    Mutant(
        "admitted-by-one-voter",
        "A view admits an incarnation only if all its voters knew it, not if one did",
        "stretto.replication.merging",
        "tuple(min(known) for known in",
        "tuple(max(known) for known in",
        after(_LATE_VOTE_QUICK_RECOVERY),
    ),
    Mutant(
        "any-view-after-a-loss",
        "A replica that lost its state comes back only with a view that admits its present incarnation",
        "stretto.replication.view_change",
        "            if not self._admits_us(message):\n",
        "            if not self._admits_us(message) and group.status is Status.BOOTSTRAPPING:\n",
        after(_LATE_VOTE_QUICK_RECOVERY),
    ),
    Mutant(
        "speculative-entries-given",
        "A replica gives others only entries that it knows to be committed",
        "stretto.replication.transfer",
        """\
        if not 0 < message.first <= min(committed, message.last):
            self.group.ignore("asks for entries that are not committed here")
        elif message.first <= log.start:
            self._send_checkpoint(source, 0)
        else:
            entries = log.entries(message.first, min(committed, message.last))
""",
        """\
        if not 0 < message.first <= min(log.last, message.last):
            self.group.ignore("asks for entries that are not committed here")
        elif message.first <= log.start:
            self._send_checkpoint(source, 0)
        else:
            entries = log.entries(message.first, min(log.last, message.last))
""",
        after(_RECOVERING_AMONG_DIFFERENT_LOGS),
    ),
    Mutant(
        "support-of-unmatched-logs",
        "In Fast Paxos, a log that differs from the matched one supports no entries after it",
        "stretto.replication.merging",
        "if has_hash(vote, position, summary)}",
        "if vote.view >= 0}",
        after(_COLLISION_OF_WHICH_ONE_VOTER_KNOWS),
    ),
    Mutant(
        "answers-of-two-views-counted",
        "A client counts only answers of one view together",
        "stretto.replication.client",
        """\
        if tally is None or view > tally.view:
            call.answered = True
            call.tally = self.new_tally(message)
        elif view < tally.view:
            self.ignore("of an older view")
            return None
""",
        """\
        if tally is None:
            call.answered = True
            call.tally = self.new_tally(message)
""",
        after(_ANSWERS_OF_TWO_VIEWS),
    ),
)
