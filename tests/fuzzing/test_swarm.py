"""Specifications at random: all of them make sense, they differ in everything, and neighbours have something of both."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest

from stretto.core.errors import ConfigurationError
from stretto.fuzzing.swarm import Fixed, cross, draw_spec
from stretto.simulation.faults import faults_for
from stretto.simulation.spec import SimulationSpec

SERVICE = "a.module:Class"


def test_every_draw_makes_sense_and_all_that_there_is_is_drawn() -> None:
    specs = [draw_spec("speculative", SERVICE, seed).validate() for seed in range(300)]
    assert {spec.replicas for spec in specs} == {3, 5, 7}
    assert {spec.durability for spec in specs} == {"memory", "disk"}
    struck = Counter(fault for spec in specs for fault in spec.faults)
    assert min(struck[name] for name in faults_for("disk")) > 20
    assert "sequencer_restart" not in struck
    with_sequencers = [draw_spec("nopaxos", SERVICE, seed, sequencers=2).validate() for seed in range(50)]
    assert {spec.sequencers for spec in with_sequencers} == {2}
    assert sum("sequencer_restart" in spec.faults for spec in with_sequencers) > 5
    assert all(set(spec.strengths) == set(spec.faults) for spec in specs)
    assert min(spec.limits.checkpoint_operations for spec in specs) < 10
    assert {draw_spec("unreplicated", SERVICE, seed, max_replicas=1).replicas for seed in range(20)} == {1}


def test_a_seed_decides_everything() -> None:
    assert draw_spec("speculative", SERVICE, 5) == draw_spec("speculative", SERVICE, 5)
    assert draw_spec("speculative", SERVICE, 5) != draw_spec("speculative", SERVICE, 6)


def test_what_is_fixed_is_not_drawn() -> None:
    fixed = Fixed(replicas=3, operations=50, faults=("kill", "restart"), settings={"limits.checkpoint_operations": "7"})
    specs = [draw_spec("speculative", SERVICE, seed, None, fixed).validate() for seed in range(50)]
    assert {(spec.replicas, spec.operations, spec.limits.checkpoint_operations) for spec in specs} == {(3, 50, 7)}
    assert {fault for spec in specs for fault in spec.faults} == {"kill", "restart"}
    assert not any("kill" in spec.faults for spec in specs if spec.durability == "memory")
    assert len({spec.sessions for spec in specs}) > 10
    for wrong, message in (
        (Fixed(faults=("fire",)), "'fire' is not a fault"),
        (Fixed(faults=("kill",), durability="memory"), "'kill' strikes disks"),
        (Fixed(faults=("sequencer_restart",)), "'sequencer_restart' strikes sequencers, and the protocol has none"),
        (Fixed(settings={"size": "3"}), "size: there is no such setting"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            draw_spec("speculative", SERVICE, 0, None, wrong)


@pytest.mark.parametrize("seed", range(3))
def test_the_command_line_has_all_of_a_specification(seed: int) -> None:
    """What it does not say is as the defaults are."""
    spec = draw_spec("speculative", SERVICE, seed)
    words = msgspec.structs.replace(spec, checks=False).command().split()
    changes = dict(word.split("=", 1) for word in words if "=" in word)
    options = {word[2:]: words[place + 1] for place, word in enumerate(words[:-1]) if word.startswith("--") and word != "--set"}
    assert options["durability"] == spec.durability if spec.durability == "disk" else "durability" not in options
    base = SimulationSpec(
        "speculative",
        SERVICE,
        spec.replicas,
        spec.clients,
        spec.sessions,
        spec.operations,
        durability=spec.durability,
        faults=spec.faults,
        seed=spec.seed,
    )
    assert base.with_settings(changes) == spec
    assert "--no-checks" in words


def test_a_neighbour_has_most_of_the_one_and_some_of_the_other() -> None:
    one, other = draw_spec("speculative", SERVICE, 1), draw_spec("speculative", SERVICE, 2)
    same = Counter[str]()
    for seed in range(200):
        near = cross(one, other, Random(seed)).validate()
        assert near.seed == other.seed
        assert (near.sessions == one.sessions) == (near.limits == one.limits)
        for name in SimulationSpec.__struct_fields__:
            assert getattr(near, name) in (getattr(one, name), getattr(other, name))
            same[name] += getattr(near, name) == getattr(one, name)
    assert all(100 < same[name] < 200 for name in ("sessions", "operations", "faults", "timeouts", "links"))
