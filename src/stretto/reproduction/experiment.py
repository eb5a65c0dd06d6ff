"""An experiment as data: its question, what is run for it, and how rows become charts, tables and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from stretto import catalog
from stretto.calibration.costs import CostFile
from stretto.reproduction.charts import Chart, Table
from stretto.reproduction.claims import Claim
from stretto.reproduction.points import AnyPoint
from stretto.reproduction.rows import Rows
from stretto.reproduction.styles import in_order
from stretto.simulation.network import Delay, Links
from stretto.simulation.spec import SimulationSpec

Value = TypeVar("Value")

IN_ORDER = Links(transit=Delay("uniform", 20_000, 5_000), skew=Delay("constant"))
"""Multicasts reach all replicas in one order, as if one switch serialised them."""

_MOST_VIRTUAL_NS = 400_000_000
"""The longest a point may take in virtual time. A slow protocol completes fewer operations in it."""


@dataclass(frozen=True)
class Scope:
    """What all experiments of a run share: whether it is quick, the first seed, the costs of machines, and the protocols."""

    quick: bool
    seed: int
    costs: CostFile
    protocols: tuple[str, ...]

    def seeds(self, quick: int, full: int) -> range:
        """This number of seeds, for a quick or a full run."""
        return range(self.seed, self.seed + (quick if self.quick else full))

    def sized(self, quick: int, full: int) -> int:
        """A number of operations, for a quick or a full run."""
        return quick if self.quick else full

    def chosen(self, quick: Iterable[Value], full: Iterable[Value]) -> tuple[Value, ...]:
        """The values of a factor, for a quick or a full run."""
        return tuple(quick if self.quick else full)

    def spec(self, protocol: str, replicas: int, sessions: int, operations: int, **more: object) -> SimulationSpec:
        """A simulated cluster on a network that keeps order, with each session on a machine of its own. `more` overrides fields."""
        settings = {"clients": sessions, "links": IN_ORDER, "fault_ns": _MOST_VIRTUAL_NS, "checks": False} | more
        spec = SimulationSpec(
            protocol,
            replicas=replicas,
            sessions=sessions,
            operations=operations,
            sequencers=catalog.protocol(protocol).usual_sequencers,
            **settings,  # type: ignore[arg-type]
        )
        spec = self.costs.of(spec)
        # A sequencer is a process on a host, with the costs of a replica.
        return msgspec.structs.replace(spec, sequencer_costs=spec.costs)


@dataclass(frozen=True)
class Experiment:
    """One question. `points` gives what is run for it in a scope; `show` makes charts and tables from the rows."""

    name: str
    title: str
    question: str
    method: str
    points: Callable[[Scope], Iterable[AnyPoint]]
    show: Callable[[Rows], Iterable[Chart | Table | None]]
    claims: tuple[Claim, ...] = ()


def protocols() -> tuple[str, ...]:
    """All protocols, in the order of the legends."""
    return tuple(in_order(list(catalog.protocol_names())))


def replicas_of(protocol: str, wanted: int) -> int:
    """This number of replicas, or the limit of the protocol if that is less."""
    return min(wanted, catalog.protocol(protocol).max_replicas or wanted)


def replicated(names: Iterable[str]) -> list[str]:
    """The protocols among these that use more than one replica."""
    return [name for name in names if replicas_of(name, 3) > 1]
