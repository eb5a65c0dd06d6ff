"""Bugs in the normal case: the client's count of answers, synchronisation, repair, the first merge."""

from __future__ import annotations

from stretto.mutants.hunters import explorer, network, walks
from stretto.mutants.mutant import Mutant

_CLIENT = "stretto.protocols.speculative.client"
_REPLICA = "stretto.protocols.speculative.replica"
_PEER = "stretto.replication.replica"
_SYNC = "stretto.protocols.speculative.synchronisation"
_QUORUMS = "stretto.replication.quorums"

MUTANTS = (
    Mutant(
        "client-quorum-too-small",
        "A result is accepted when a superquorum agrees, not one fewer",
        _CLIENT,
        "if tally.voters.bit_count() >= self._quorums.superquorum:",
        "if tally.voters.bit_count() >= self._quorums.superquorum - 1:",
        explorer("operations=2,timers=1"),
    ),
    Mutant(
        "sync-quorum-too-small",
        "A synchronisation commits an entry when a superquorum has it, not one fewer",
        _SYNC,
        "Tally(quorums.n, quorums.superquorum)",
        "Tally(quorums.n, quorums.superquorum - 1)",
        network(3),
    ),
    Mutant(
        "vote-counted-twice",
        "A second answer of a voter replaces its first",
        _QUORUMS,
        "            self._votes[former] -= 1\n",
        "            pass\n",
        network(3),
    ),
    Mutant(
        "leader-commits-its-own",
        "A leader that differs from the superquorum repairs its log before it commits",
        _SYNC,
        "                self.transfer.repair(position, summary, voter)\n                return\n",
        "                self.port.report('differs')\n",
        network(5),
    ),
    Mutant(
        "commit-without-comparing",
        "A follower commits only a log with the committed hash",
        _SYNC,
        "        if self.state.log.matches(position, summary):\n            self.state.commit_up_to(position)\n        elif",
        "        if self.state.log.last >= position:\n            self.state.commit_up_to(position)\n        elif",
        network(5),
    ),
    Mutant(
        "speculative-called-committed",
        "Only an answer about a committed position completes a call by itself",
        _REPLICA,
        "committed = position <= self.state.agreed\n        summary",
        "committed = position <= self.state.log.last\n        summary",
        explorer("operations=2,timers=1"),
    ),
    Mutant(
        "result-of-another-position",
        "A repeated request gets its own result",
        _REPLICA,
        "self.answer(request, record.position, record.result)",
        "self.answer(request, record.position, self.state.result_at(self.state.log.last))",
        network(3),
    ),
    Mutant(
        "requests-appended-between-views",
        "A replica that has left a view keeps requests until it is in the next",
        "stretto.replication.gate",
        "if group.status not in self._request_statuses or source",
        "if group.status not in IN_SERVICE or source",
        walks("operations=3,views=6,timers=12,crashes=2", seconds=300),
    ),
)
