"""A protocol on a network that alternates between good and bad spells: its throughput in each, and how soon it adapts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec

from stretto.core.protocol import ProtocolDefinition
from stretto.core.state_machine import NullMachine
from stretto.simulation.load import short_bytes
from stretto.simulation.run import Simulation
from stretto.simulation.spec import SimulationSpec

_SLICE_NS = 250_000
"""The interval between two samples."""

_FIRST_SPELL = 2
"""The first spell that counts. Before it, sessions are opened and queues fill."""


@dataclass(frozen=True)
class Sample:
    """The state at one time: how many operations have completed, and whether the slow path is active at some leader."""

    now_ns: int
    completed: int
    slow_path: bool


def measure_alternation(spec: SimulationSpec, protocol: ProtocolDefinition) -> dict[str, Any]:
    """Run a specification with `links.spell_ns` for `fault_ns`, without observers, and measure good and bad spells separately.

    - `operations`, `throughput_ops_s`: over all spells but the first good and the first bad one; `good_ops_s`, `bad_ops_s`: of each kind;
    - `slow_path_after_ms`: the median time from the start of a bad spell until the slow path is active; `fast_path_after_ms`: from the
      start of a good spell until it is no longer active. Spells that start in the new state, or do not reach it, do not count; None if no
      spell counts;
    - `slow_path_share`: the part of the time in which the slow path is active; `activations_per_bad_spell`: how often it becomes active,
      divided by the number of bad spells: more than one is flapping;
    - `view_changes`: the greatest count of any replica.

    Raises ConfigurationError if the specification is invalid.
    """
    simulation = Simulation(msgspec.structs.replace(spec.validate(), checks=False), protocol, NullMachine, short_bytes)
    simulation.load.begin(1 << 62)
    samples = []
    while simulation.world.now_ns < spec.fault_ns:
        simulation.world.run(simulation.world.now_ns + _SLICE_NS, 1 << 40)
        metrics = [machine.node.metrics() for machine in simulation.lifecycle.replicas]
        samples.append(Sample(simulation.world.now_ns, simulation.load.completed, any(of.get("slow_path") for of in metrics)))
    return figures_of(samples, spec.links.spell_ns) | {"view_changes": max(of.get("view_changes", 0) for of in metrics)}


def figures_of(samples: Sequence[Sample], spell_ns: int) -> dict[str, Any]:
    """The figures of samples at equal intervals. Only complete spells count, and not the first two."""
    spells: dict[int, list[Sample]] = {}
    for sample in samples:
        # A sample at the very end of a spell belongs to it.
        spells.setdefault((sample.now_ns - 1) // spell_ns, []).append(sample)
    whole = {number: spells[number] for number in spells if number >= _FIRST_SPELL and spells[number][-1].now_ns == (number + 1) * spell_ns}
    done = {number: spell[-1].completed - spells[number - 1][-1].completed for number, spell in whole.items()}
    good, bad = ([number for number in whole if number % 2 == kind] for kind in (0, 1))
    first, last = spells[min(whole) - 1][-1], whole[max(whole)][-1]
    active = [sample.slow_path for spell in whole.values() for sample in spell]
    begun = sum(later and not earlier for earlier, later in zip([first.slow_path, *active], active, strict=False))

    def rate(numbers: Sequence[int]) -> float:
        return sum(done[number] for number in numbers) / (len(numbers) * spell_ns / 1e9)

    def after_ms(numbers: Sequence[int], slow_path: bool) -> float | None:
        waits = []
        for number in numbers:
            reached = [sample.now_ns for sample in whole[number] if sample.slow_path == slow_path]
            if spells[number - 1][-1].slow_path != slow_path and reached:
                waits.append((reached[0] - number * spell_ns) / 1e6)
        return float(median(waits)) if waits else None

    return {
        "operations": last.completed - first.completed,
        "throughput_ops_s": rate(list(whole)),
        "good_ops_s": rate(good),
        "bad_ops_s": rate(bad),
        "slow_path_after_ms": after_ms(bad, True),
        "fast_path_after_ms": after_ms(good, False),
        "slow_path_share": sum(active) / len(active),
        "activations_per_bad_spell": begun / len(bad),
    }
