"""Bugs in startup and recovery: incarnations, admission, the first start."""

from __future__ import annotations

from stretto.mutants.hunters import false_starts, restarts, walks
from stretto.mutants.mutant import Mutant

_ADMISSION = "stretto.replication.admission"
_PEER = "stretto.replication.peer"
_RECONCILE = "stretto.protocols.speculative.reconcile"
_VIEWS = "stretto.replication.views"

MUTANTS = (
    Mutant(
        "recovered-by-copying",
        "A replica with lost state does not come back with the log of another as it is",
        _VIEWS,
        'self.start_next(f"replica {source} recovers")',
        "log, base, view = self.state.log, self.state.committed, self.replica.view\n"
        "            entries, known = tuple(log.entries(base + 1)), self.replica.incarnations\n"
        "            self.port.send(source, StartView(known, view, base, log.hash_at(base), entries, known))",
        walks("operations=3,views=6,timers=12,crashes=2", seconds=300),
    ),
    Mutant(
        "vote-without-memory",
        "A replica with lost state has no vote until it is back in service",
        _PEER,
        "return self.admission.phase is Phase.SERVING",
        "return self.admission.phase in (Phase.SERVING, Phase.RECOVERING)",
        restarts(3),
    ),
    Mutant(
        "incarnation-used-twice",
        "No two incarnations of a replica have the same number",
        _ADMISSION,
        "incarnation = number << _RANDOM_BITS | self.port.random.getrandbits(_RANDOM_BITS)",
        "incarnation = min(number, _FIRST + 1) << _RANDOM_BITS",
        restarts(3),
    ),
    Mutant(
        "bootstrap-twice",
        "A replica that a peer knows already cannot start as if for the first time",
        _ADMISSION,
        "if message.known != replica.incarnation:",
        "if message.known != replica.incarnation and not message.known:",
        false_starts(3),
    ),
    Mutant(
        "readmitted-while-asking",
        "A replica that does not know its new incarnation yet is not admitted under an earlier one",
        _VIEWS,
        "if replica.admission.phase is Phase.ASKING or len(",
        "if replica.admission.phase is Phase.BOOTSTRAPPING or len(",
        walks("operations=3,views=6,timers=12,crashes=2", seconds=300),
    ),
)
