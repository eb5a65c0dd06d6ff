"""Shrinking: down to what a failure needs and no further, within a budget; on planted failures, and on a real mistake."""

from __future__ import annotations

import msgspec
import pytest

from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_workload import workload
from stretto.fuzzing.shrinking import shrink
from stretto.fuzzing.swarm import draw_spec
from stretto.protocols.speculative import SPECULATIVE
from stretto.replication.messages import Request
from stretto.replication.sessions import SessionTable, SessionUndo
from stretto.services.service import ServiceMachine
from stretto.simulation.run import simulate
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

LARGE = msgspec.structs.replace(
    draw_spec("speculative", "a.module:Class", 1),
    replicas=7,
    clients=4,
    sessions=30,
    operations=500,
    durability="disk",
    faults=("loss", "crash", "pause", "kill", "slow", "restart"),
    strengths={},
)


def test_what_the_failure_does_not_need_goes() -> None:
    shrunk = shrink(LARGE, lambda _: True, budget=1_000)
    assert shrunk.spec == SimulationSpec("speculative", "a.module:Class", operations=1, sessions=1, keys=1, seed=1, fault_ns=1_000_000)


@pytest.mark.parametrize("seed", range(5))
def test_what_it_needs_stays(seed: int) -> None:
    def fails(spec: SimulationSpec) -> bool:
        enough = spec.replicas >= 5 and spec.operations >= 40 + seed and spec.sessions >= 3
        return enough and {"kill", "loss"} <= set(spec.faults) and spec.costs == LARGE.costs and spec.strength_of("loss").severity >= 0.25

    assert fails(LARGE)
    spec = shrink(LARGE, fails, budget=2_000).spec
    assert (spec.replicas, spec.operations, spec.sessions, spec.clients) == (5, 40 + seed, 3, 1)
    assert (spec.faults, spec.durability, spec.costs) == (("loss", "kill"), "disk", LARGE.costs)
    assert spec.strength_of("loss").severity == 0.25
    assert spec.strength_of("loss").frequency < 0.02
    assert spec.timeouts == SimulationSpec("").timeouts


def test_other_seeds_are_tried_and_every_candidate_makes_sense() -> None:
    seeds = set()

    def fails(spec: SimulationSpec) -> bool:
        spec.validate()
        seeds.add(spec.seed)
        return spec.seed % 3 == spec.operations % 3

    shrunk = shrink(LARGE, fails, budget=1_000)
    assert len(seeds) >= 3
    assert shrunk.spec.operations == 1


def test_it_ends_with_its_budget() -> None:
    ran: list[SimulationSpec] = []

    def fails(spec: SimulationSpec) -> bool:
        ran.append(spec)
        return True

    shrunk = shrink(LARGE, fails, budget=7)
    assert shrunk.runs == len(ran) == 7
    assert shrunk.spec == ran[-1]
    assert shrink(LARGE, lambda _: False, budget=10_000).spec == LARGE


def test_a_real_mistake_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A roll-back that leaves the session table as it is."""

    def forget(table: SessionTable, request: Request, undo: SessionUndo) -> None:
        pass

    monkeypatch.setattr(SessionTable, "undo", forget)

    def kind_of(spec: SimulationSpec) -> str | None:
        violation = simulate(spec, SPECULATIVE, lambda: ServiceMachine(KeyValueStore), workload).violation
        return None if violation is None else violation.kind

    first = next(spec for seed in range(20) if kind_of(spec := draw_spec("speculative", "stretto.apps.kv:KeyValueStore", seed)))
    kind = kind_of(first)
    small = shrink(first, lambda spec: kind_of(spec) == kind, budget=150).spec
    assert kind_of(small) == kind
    assert len(small.faults) <= 1
    assert small.operations <= 40 < first.operations
    assert small.replicas <= first.replicas
    assert small.costs == Costs()
