"""The cost of reconciliations in a simulated cluster: how long each takes, and how many operations it rolls back."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import msgspec

from stretto.core.node import Address, Replica
from stretto.core.protocol import ProtocolDefinition
from stretto.core.state_machine import NullMachine
from stretto.simulation.load import short_bytes
from stretto.simulation.run import Simulation
from stretto.simulation.spec import SimulationSpec


@dataclass
class _Reconciliation:
    """One reconciliation, which is the start of a view.

    `divergence`: in operations, see the function `divergence`. `sent`: the number of messages that all replicas had sent before it; after
    its end, the number that they sent during it. `entered`: the replicas that have entered the new view.
    """

    began_ns: int
    divergence: int
    sent: int
    took_ns: int = 0
    entered: set[Address] = field(default_factory=set)


def measure_reconciliations(spec: SimulationSpec, protocol: ProtocolDefinition) -> dict[str, Any]:
    """Run a specification without observers, and measure the reconciliations that were completed.

    - `reconciliations`: their number; `operations`, `virtual_seconds`, `throughput_ops_s`: of the whole run;
    - `divergence`: the median distance between the logs when the first replica started a reconciliation, see `divergence`;
    - `duration_us`: the median time from then until the last replica entered the view;
    - `rolled_back_per_reconciliation`: the number of operations rolled back, over all replicas;
    - `messages_per_reconciliation`: the median number of messages that all replicas sent during one.

    Medians are None without a reconciliation. Raises ConfigurationError if the specification is invalid.
    """
    simulation = Simulation(msgspec.structs.replace(spec.validate(), checks=False), protocol, NullMachine, short_bytes)
    watch = _Watch(simulation, spec.replicas)
    simulation.load.begin(spec.operations)
    simulation.world.run(spec.fault_ns, 1 << 40)
    seconds = simulation.world.now_ns / 1e9
    ended = watch.ended
    rolled_back = sum(machine.node.metrics().get("rolled_back_operations", 0) for machine in simulation.lifecycle.replicas)
    return {
        "operations": simulation.load.completed,
        "virtual_seconds": seconds,
        "throughput_ops_s": simulation.load.completed / seconds,
        "reconciliations": len(ended),
        "divergence": _median([one.divergence for one in ended]),
        "duration_us": _median([one.took_ns / 1e3 for one in ended]),
        "rolled_back_per_reconciliation": rolled_back / len(ended) if ended else None,
        "messages_per_reconciliation": _median([one.sent for one in ended]),
    }


def divergence(replicas: Sequence[Replica]) -> int:
    """The number of operations from the last position at which all logs are equal to the end of the longest log."""
    first, last = max(replica.state.log.start for replica in replicas), min(replica.state.log.last for replica in replicas)

    def differ(position: int) -> bool:
        return len({replica.state.log.hash_at(position) for replica in replicas}) > 1

    # Hashes cover everything before, so logs that differ at a position differ at every later one.
    positions = range(first, last + 1)
    equal = first + bisect(positions, False, key=differ) - 1
    return max(replica.state.log.last for replica in replicas) - equal


def _median(values: list[Any]) -> float | None:
    return float(median(values)) if values else None


class _Watch:
    """Follows the view changes that replicas report."""

    def __init__(self, simulation: Simulation, replicas: int) -> None:
        self.ended: list[_Reconciliation] = []
        self._simulation = simulation
        self._replicas = replicas
        self._nodes = [machine.node for machine in simulation.lifecycle.replicas]
        self._under_way: dict[int, _Reconciliation] = {}
        self._tell_others = simulation.world.on_report
        simulation.world.on_report = self._reported

    def _reported(self, address: Address, event: str, details: dict[str, Any]) -> None:
        if self._tell_others is not None:
            self._tell_others(address, event, details)
        now_ns = self._simulation.world.now_ns
        if event == "view change" and details["view"] not in self._under_way:
            self._under_way[details["view"]] = _Reconciliation(now_ns, divergence(self._nodes), self._sent())
        elif event == "view entered" and (one := self._under_way.get(details["view"])) is not None:
            one.entered.add(address)
            if len(one.entered) == self._replicas:
                del self._under_way[details["view"]]
                one.took_ns, one.sent = now_ns - one.began_ns, self._sent() - one.sent
                self.ended.append(one)

    def _sent(self) -> int:
        return sum(machine.messages_sent for machine in self._simulation.lifecycle.replicas)
