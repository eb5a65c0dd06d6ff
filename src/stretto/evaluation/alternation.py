"""What a protocol makes of a network that is good and bad in turns: how much it does in each, and how soon it has adapted."""

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
"""How often it is looked."""

_FIRST_SPELL = 2
"""The first that counts: sessions are opened and queues fill before."""


@dataclass(frozen=True)
class Sample:
    """What there is to see at a moment: how many operations have ended, and whether some leader sends its order all the time."""

    now_ns: int
    completed: int
    ordering: bool


def measure_alternation(spec: SimulationSpec, protocol: ProtocolDefinition) -> dict[str, Any]:
    """Run a specification with `links.spell_ns` for `fault_ns`, without observers, and tell spells apart.

    - `operations`, `throughput_ops_s`: over all spells but the first good and the first bad one; `good_ops_s`, `bad_ops_s`: of each kind;
    - `ordering_after_ms`: from the beginning of a bad spell until the leader sends its order, the median; `resting_after_ms`: from that of
      a good one until it has ceased. Spells that begin so, or never come to it, do not count; None if none does;
    - `ordering_share`: of the time; `activations_per_bad_spell`: how often it began, for each bad spell: more than one is flapping;
    - `view_changes`: the most that any replica counted.
    """
    simulation = Simulation(msgspec.structs.replace(spec.validate(), checks=False), protocol, NullMachine, short_bytes)
    simulation.load.begin(1 << 62)
    samples = []
    while simulation.world.now_ns < spec.fault_ns:
        simulation.world.run(simulation.world.now_ns + _SLICE_NS, 1 << 40)
        metrics = [machine.node.metrics() for machine in simulation.lifecycle.replicas]
        samples.append(Sample(simulation.world.now_ns, simulation.load.completed, any(of.get("ordering") for of in metrics)))
    return told(samples, spec.links.spell_ns) | {"view_changes": max(of.get("view_changes", 0) for of in metrics)}


def told(samples: Sequence[Sample], spell_ns: int) -> dict[str, Any]:
    """The figures of samples taken at equal intervals, all of the whole spells among them that count."""
    spells: dict[int, list[Sample]] = {}
    for sample in samples:
        # What is seen at the very end of a spell belongs to it.
        spells.setdefault((sample.now_ns - 1) // spell_ns, []).append(sample)
    whole = {number: spells[number] for number in spells if number >= _FIRST_SPELL and spells[number][-1].now_ns == (number + 1) * spell_ns}
    done = {number: spell[-1].completed - spells[number - 1][-1].completed for number, spell in whole.items()}
    good, bad = ([number for number in whole if number % 2 == kind] for kind in (0, 1))
    first, last = spells[min(whole) - 1][-1], whole[max(whole)][-1]
    counted = [sample.ordering for spell in whole.values() for sample in spell]
    begun = sum(later and not earlier for earlier, later in zip([first.ordering, *counted], counted, strict=False))

    def rate(numbers: Sequence[int]) -> float:
        return sum(done[number] for number in numbers) / (len(numbers) * spell_ns / 1e9)

    def after_ms(numbers: Sequence[int], ordering: bool) -> float | None:
        waits = []
        for number in numbers:
            reached = [sample.now_ns for sample in whole[number] if sample.ordering == ordering]
            if spells[number - 1][-1].ordering != ordering and reached:
                waits.append((reached[0] - number * spell_ns) / 1e6)
        return float(median(waits)) if waits else None

    return {
        "operations": last.completed - first.completed,
        "throughput_ops_s": rate(list(whole)),
        "good_ops_s": rate(good),
        "bad_ops_s": rate(bad),
        "ordering_after_ms": after_ms(bad, True),
        "resting_after_ms": after_ms(good, False),
        "ordering_share": sum(counted) / len(counted),
        "activations_per_bad_spell": begun / len(bad),
    }
