"""Makes a failing run smaller: fewer and weaker faults, less time, fewer operations, callers and replicas, usual settings.

A greedy search in the manner of delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", TSE 2002). As
even the smallest change of a specification gives a different run, each smaller specification is tried with a few seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import msgspec

from stretto.simulation.faults import faults_for
from stretto.simulation.faults.base import Strength
from stretto.simulation.spec import SimulationSpec

Fails: TypeAlias = Callable[[SimulationSpec], bool]
Move: TypeAlias = Callable[[SimulationSpec], Iterator[dict[str, Any]]]
"""Changes that make a specification smaller, the largest first."""


class Shrunk(msgspec.Struct, frozen=True):
    """The smallest specification found that fails, and how many runs it took."""

    spec: SimulationSpec
    runs: int


def shrink(spec: SimulationSpec, fails: Fails, budget: int = 300, seeds: int = 3) -> Shrunk:
    """Look for a smaller specification that fails too.

    Parameters: `spec`, which fails; `fails`, which runs a specification; `budget`, how many runs are allowed; `seeds`, how many are
    tried for each specification.
    """
    runs = 0

    def smaller(spec: SimulationSpec, move: Move) -> SimulationSpec | None:
        nonlocal runs
        for change in move(spec):
            for seed in range(spec.seed, spec.seed + seeds):
                if runs == budget:
                    return None
                runs += 1
                candidate = msgspec.structs.replace(spec, seed=seed, **change)
                if fails(candidate):
                    return candidate
        return None

    progress = True
    while progress:
        progress = False
        for move in MOVES:
            while (found := smaller(spec, move)) is not None:
                spec = found
                progress = True
    return Shrunk(spec, runs)


def _fewer_faults(spec: SimulationSpec) -> Iterator[dict[str, Any]]:
    """No faults; one half or the other; all but one."""
    faults = spec.faults
    if not faults:
        return
    half = len(faults) // 2
    choices = [(), faults[:half], faults[half:], *(faults[:index] + faults[index + 1 :] for index in range(len(faults)))]
    for kept in dict.fromkeys(choice for choice in choices if len(choice) < len(faults)):
        yield _only(spec, kept)


def _only(spec: SimulationSpec, faults: tuple[str, ...]) -> dict[str, Any]:
    return {"faults": faults, "strengths": {name: strength for name, strength in spec.strengths.items() if name in faults}}


def _without_disks(spec: SimulationSpec) -> Iterator[dict[str, Any]]:
    if spec.durability != "memory":
        possible = faults_for("memory", spec.sequencers)
        yield {"durability": "memory", **_only(spec, tuple(fault for fault in spec.faults if fault in possible))}


def _fewer_replicas(spec: SimulationSpec) -> Iterator[dict[str, Any]]:
    for replicas in range(3, spec.replicas, 2):
        yield {"replicas": replicas}


def _less(name: str, least: int, spec: SimulationSpec) -> Iterator[dict[str, Any]]:
    """The least of a number; a half; a little less."""
    number = getattr(spec, name)
    for smaller in dict.fromkeys((least, number // 2, number * 3 // 4, number - 1)):
        if least <= smaller < number:
            yield {name: smaller}


def _weaker_faults(spec: SimulationSpec) -> Iterator[dict[str, Any]]:
    """Half of one strength of one fault."""
    for fault in spec.faults:
        strength = spec.strength_of(fault)
        for figure in Strength.__struct_fields__:
            half = round(getattr(strength, figure) / 2, 3)
            if half >= 0.01:
                yield {"strengths": spec.strengths | {fault: msgspec.structs.replace(strength, **{figure: half})}}


def _usual(name: str, spec: SimulationSpec) -> Iterator[dict[str, Any]]:
    """The defaults for a whole table, or for one figure of it."""
    table = getattr(spec, name)
    usual = type(table)()
    if table == usual:
        return
    yield {name: usual}
    for figure in table.__struct_fields__:
        if getattr(table, figure) != getattr(usual, figure):
            yield {name: msgspec.structs.replace(table, **{figure: getattr(usual, figure)})}


_LEAST_FAULT_NS = 1_000_000

MOVES: tuple[Move, ...] = (
    _fewer_faults,
    _without_disks,
    _fewer_replicas,
    partial(_less, "operations", 1),
    partial(_less, "fault_ns", _LEAST_FAULT_NS),
    partial(_less, "sessions", 1),
    partial(_less, "clients", 1),
    partial(_less, "keys", 1),
    partial(_less, "think_ns", 0),
    *(partial(_usual, table) for table in ("costs", "limits", "links", "timeouts", "disk")),
    _weaker_faults,
)
