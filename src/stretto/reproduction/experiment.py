"""An experiment as data: what is asked, what is run for it, and how rows become something to read."""

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
"""A multicast reaches all replicas in one order, as through one switch that serialises it."""

_MOST_VIRTUAL_NS = 400_000_000
"""How long a point may take in virtual time; a protocol that does little until then has done what it can."""


@dataclass(frozen=True)
class Scope:
    """What holds for all experiments of a run: how thorough it is, the first seed, what machines spend, the protocols that there are."""

    quick: bool
    seed: int
    costs: CostFile
    protocols: tuple[str, ...]

    def seeds(self, quick: int, full: int) -> range:
        """So many seeds."""
        return range(self.seed, self.seed + (quick if self.quick else full))

    def sized(self, quick: int, full: int) -> int:
        """A number of operations."""
        return quick if self.quick else full

    def chosen(self, quick: Iterable[Value], full: Iterable[Value]) -> tuple[Value, ...]:
        """The values of a factor."""
        return tuple(quick if self.quick else full)

    def spec(self, protocol: str, replicas: int, sessions: int, operations: int, **more: object) -> SimulationSpec:
        """A simulated cluster on a network that keeps order, with each session on a machine of its own unless `more` says otherwise."""
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
        # A sequencer is a process on a host like the others.
        return msgspec.structs.replace(spec, sequencer_costs=spec.costs)


@dataclass(frozen=True)
class Experiment:
    """One question. `points` are what is run for it in a scope; `show` makes charts and tables of the rows that came of them."""

    name: str
    title: str
    question: str
    method: str
    points: Callable[[Scope], Iterable[AnyPoint]]
    show: Callable[[Rows], Iterable[Chart | Table | None]]
    claims: tuple[Claim, ...] = ()


def protocols() -> tuple[str, ...]:
    """The protocols that there are, in the order of legends."""
    return tuple(in_order(list(catalog.protocol_names())))


def replicas_of(protocol: str, wanted: int) -> int:
    """So many replicas, or as many as the protocol can use."""
    return min(wanted, catalog.protocol(protocol).max_replicas or wanted)


def replicated(names: Iterable[str]) -> list[str]:
    """Those that use more than one replica."""
    return [name for name in names if replicas_of(name, 3) > 1]
