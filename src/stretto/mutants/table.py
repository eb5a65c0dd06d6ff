"""All planted bugs."""

from __future__ import annotations

from stretto.mutants import adaptive, durability, fastpaxos, multipaxos, nopaxos, normal, rare, recovery, state, views
from stretto.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *normal.MUTANTS,
    *views.MUTANTS,
    *state.MUTANTS,
    *recovery.MUTANTS,
    *durability.MUTANTS,
    *multipaxos.MUTANTS,
    *fastpaxos.MUTANTS,
    *nopaxos.MUTANTS,
    *adaptive.MUTANTS,
    *rare.MUTANTS,
)
