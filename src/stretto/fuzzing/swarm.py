"""Specifications drawn at random, so that each run has a mix of faults, a load and a configuration of its own.

One run with every fault reaches less than many runs with some of the faults each (Groce, Zhang, Eide, Chen, Regehr, "Swarm Testing",
ISSTA 2012).
"""

from __future__ import annotations

from random import Random
from typing import Literal

import msgspec

from stretto.core.config import Limits, Timeouts
from stretto.simulation.disk import DiskTimes
from stretto.simulation.faults import check_names, faults_for
from stretto.simulation.faults.base import Strength, log_uniform
from stretto.simulation.network import Delay, Links
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs


class Fixed(msgspec.Struct, frozen=True):
    """What is the same in all runs instead of drawn, so that they concentrate on one part of the protocol.

    - `replicas`, `operations`, `durability`: None if they are drawn;
    - `faults`: the possible faults, of which each run has most, with their usual strength; empty if faults are drawn;
    - `settings`: dotted name to value, as in `SimulationSpec.with_settings`.
    """

    replicas: int | None = None
    operations: int | None = None
    durability: Literal["memory", "disk"] | None = None
    faults: tuple[str, ...] = ()
    settings: dict[str, str] = {}


DRAW_ALL = Fixed()


def draw_spec(
    protocol: str, service: str, seed: int, max_replicas: int | None = None, fixed: Fixed = DRAW_ALL, sequencers: int = 0
) -> SimulationSpec:
    """A specification drawn from the seed, except for what is fixed: sizes, faults and their strength, timeouts, limits, delays, costs.

    `max_replicas`, `sequencers`: how many the protocol can use at most, and how many it has. Raises ConfigurationError if a
    fault or a setting that is fixed does not exist.
    """
    check_names(fixed.faults, fixed.durability or "disk", sequencers)
    random = Random(f"spec/{seed}")

    def between(low: float, high: float) -> float:
        return log_uniform(random, low, high)

    sizes = [n for n in (3, 3, 5, 7) if max_replicas is None or n <= max_replicas]
    sessions = round(between(1, 40))
    drawn: Literal["memory", "disk"] = random.choice(("memory", "disk"))
    durability = fixed.durability or drawn
    likely = 0.7 if fixed.faults else 0.35
    possible = [name for name in faults_for(durability, sequencers) if not fixed.faults or name in fixed.faults]
    faults = tuple(name for name in possible if random.random() < likely)
    pace = between(0.05, 1)
    timeouts = {name: round(getattr(Timeouts(), name) * pace * between(0.5, 2), 3) for name in Timeouts.__struct_fields__}
    transit = Delay("uniform", round(between(1_000, 200_000)), round(between(10, 50_000)))
    skew = Delay(random.choice(("uniform", "exponential", "lognormal")), 0, round(between(1, 20_000)))
    costs = Costs()
    if random.random() < 0.5:
        datagram, message = round(between(100, 20_000)), round(between(100, 10_000))
        costs = Costs(datagram, message, datagram, message, queue=round(between(16, 4_096)))
    replicas, operations = random.choice(sizes) if sizes else 1, round(between(30, 600))
    spec = SimulationSpec(
        protocol,
        service,
        replicas=fixed.replicas or replicas,
        # Orders differ only between several client nodes.
        clients=random.randint(1, min(4, sessions)),
        sequencers=sequencers,
        sessions=sessions,
        operations=fixed.operations or operations,
        think_ns=0 if random.random() < 0.5 else round(between(1_000, 5_000_000)),
        durability=durability,
        faults=faults,
        strengths={} if fixed.faults else {name: _draw_strength(random) for name in faults},
        seed=seed,
        timeouts=Timeouts(**timeouts),
        limits=_draw_limits(random, sessions),
        links=Links(transit, skew),
        keys=round(between(1, 1_000)),
        costs=costs,
        disk=_draw_disk(random, pace),
    )
    return spec.with_settings(fixed.settings)


_TRAITS = (
    ("replicas",),
    ("clients", "sessions", "limits"),
    ("operations", "keys", "think_ns"),
    ("durability", "faults", "strengths"),
    ("timeouts", "disk"),
    ("links",),
    ("costs", "client_costs"),
)
"""Settings that make sense only together."""


def cross(spec: SimulationSpec, other: SimulationSpec, random: Random) -> SimulationSpec:
    """A neighbour of `spec`: with the seed of `other`, and perhaps some of its traits."""
    changes = {name: getattr(other, name) for trait in _TRAITS if random.random() < 0.2 for name in trait}
    return msgspec.structs.replace(spec, seed=other.seed, **changes)


def _draw_disk(random: Random, pace: float) -> DiskTimes:
    """A disk that is fast enough for the timeouts."""
    sync_ns, compaction_ns = log_uniform(random, 1_000, 500_000 * pace), log_uniform(random, 1_000, 100_000_000)
    return DiskTimes(Delay("exponential", round(sync_ns), round(sync_ns)), Delay("exponential", 0, round(compaction_ns)))


def _draw_strength(random: Random) -> Strength:
    """From rare, short and mild to so strong that hardly any work is done."""
    frequency, duration = log_uniform(random, 0.02, 1.5), log_uniform(random, 0.02, 1.5)
    return Strength(round(frequency, 3), round(duration, 3), round(random.uniform(0.2, 1), 2))


def _draw_limits(random: Random, sessions: int) -> Limits:
    """Some limits so small that they are reached all the time."""
    drawn: dict[str, int] = {}
    if random.random() < 0.3:
        drawn["max_sessions"] = random.randint(sessions // 2 + 2, 2 * sessions + 2)
    if random.random() < 0.3:
        drawn["sync_operations"] = round(log_uniform(random, 1, 200))
    if random.random() < 0.3:
        drawn["max_pending_requests"] = round(log_uniform(random, 1, 500))
    if random.random() < 0.5:
        drawn["max_transfer_bytes"] = round(log_uniform(random, 64, 100_000))
    if random.random() < 0.8:
        drawn["checkpoint_operations"] = round(log_uniform(random, 5, 500))
    return Limits(**drawn)
