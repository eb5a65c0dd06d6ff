"""Bugs in coming into service: incarnations, recovery, the first start."""

from __future__ import annotations

from stretto.mutants.hunters import false_starts, restarts, walks
from stretto.mutants.mutant import Mutant

_STARTUP = "stretto.replication.startup"
_GATE = "stretto.replication.gate"
_GROUP = "stretto.replication.group"
_MERGING = "stretto.replication.merging"
_VIEWS = "stretto.replication.view_change"

MUTANTS = (
    Mutant(
        "recovered-by-copying",
        "A replica that lost its state does not come back with the log of another as it is",
        _VIEWS,
        'self.start_next(f"replica {source} recovers")',
        "log, base, view = self.state.log, self.state.committed, self.group.view\n"
        "            entries, known = tuple(log.entries(base + 1)), self.group.incarnations\n"
        "            self.port.send(source, StartView(known, view, base, log.hash_at(base), entries, known))",
        walks("operations=3,views=6,timers=12,crashes=2", seconds=300),
    ),
    Mutant(
        "vote-after-state-loss",
        "A replica that lost its state has no vote until it is back in service",
        _GROUP,
        "IN_SERVICE = (Status.NORMAL, Status.REPAIRING, Status.VIEW_CHANGE, Status.SEALED)",
        "IN_SERVICE = (Status.NORMAL, Status.REPAIRING, Status.VIEW_CHANGE, Status.SEALED, Status.RECOVERING)",
        restarts(3),
    ),
    Mutant(
        "incarnation-used-twice",
        "No two starts of a replica have the same incarnation",
        _STARTUP,
        "incarnation = new_incarnation(number, group.life, self.port.random.getrandbits(RANDOM_BITS))",
        "incarnation = new_incarnation(min(number, FIRST + 1), group.life, 0)",
        restarts(3),
    ),
    Mutant(
        "bootstrap-twice",
        "A replica that a peer knows from before cannot start for the first time",
        _STARTUP,
        "if {message.first[index], message.incarnations[index]} - {0, group.incarnation}:",
        "if message.incarnations[index] > group.incarnation:",
        false_starts(3),
    ),
    Mutant(
        "admitted-without-an-incarnation",
        "A replica that lost its state and has no new incarnation yet is not admitted by that of an earlier start",
        _GATE,
        "(Status.BOOTSTRAPPING, Status.RECOVERING, Status.VIEW_CHANGE)",
        "(Status.LOST_STATE, Status.BOOTSTRAPPING, Status.RECOVERING, Status.VIEW_CHANGE)",
        walks("operations=3,views=6,timers=12,crashes=2", seconds=300),
    ),
)
