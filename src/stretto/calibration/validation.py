"""How far simulation and measurement differ: the same loads on real processes, and in simulation with calibrated costs.

Messages, datagrams, bursts and processor time of one operation are compared, at the leader and at the followers. Where processes share
cores, a burst costs more; the simulated machines are then charged that too (`crowding_ns`), so that both sides have the same conditions.
Between the two stands a third figure: the costs multiplied by the *measured* bursts, datagrams and messages. Its distance from the
measured time is the error of the costs. The rest of the difference comes from a simulation that counts other bursts, datagrams or messages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import msgspec

from stretto import catalog
from stretto.bench.report import Figures
from stretto.bench.simulated import measure_simulated
from stretto.calibration.costs import CLIENT, REPLICA, CostFile
from stretto.calibration.loads import CROWDING, Load, Sample, crowded
from stretto.runtime.local_cluster import LOOPBACK_DATAGRAM_BYTES
from stretto.simulation.network import Delay, Links
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

_LOOPBACK = Links(Delay("uniform", 5_000, 1_000), Delay())
_REQUEST_BYTES = 64
_OPERATIONS = 4_000
_SHAPES = ((1, 1, False), (4, 1, False), (16, 1, False), (16, 1, True), (64, 1, False), (64, 4, True), (256, 1, False))
ROLES = ("leader", "follower")


def loads_to_compare(protocols: Sequence[str], quick: bool) -> list[Load]:
    """The loads of a validation."""
    return [Load(name, *shape) for shape in (_SHAPES[::3] if quick else _SHAPES) for name in protocols]


def measured(samples: Iterable[Sample], costs: CostFile) -> Figures:
    """Processor time, bursts, messages and datagrams of one operation, from the samples of one load: medians over replicas and repetitions.

    `charged_us` is the processor time that follows from the costs and the counts.
    """
    found: dict[str, dict[str, list[float]]] = {role: defaultdict(list) for role in ROLES}
    for sample in samples:
        if sample.role == REPLICA:
            of_role = found["leader" if sample.leads else "follower"]
            of_role["cpu_us"].append(sample.per_operation(sample.cpu_ns / 1e3))
            prices = msgspec.to_builtins(costs.costs(REPLICA, sample.load.protocol)) | {CROWDING: costs.crowding_ns[REPLICA]}
            of_role["charged_us"].append(sample.per_operation(sum(prices[name] * n for name, n in sample.counts.items()) / 1e3))
            for name, cost in _FLOWS.items():
                of_role[name].append(sample.per_operation(sample.counts[cost]))
    return {role: {name: median(values) for name, values in of_role.items()} for role, of_role in found.items() if of_role}


_FLOWS = {
    "bursts": "burst_ns",
    "messages_received": "receive_message_ns",
    "messages_sent": "send_message_ns",
    "datagrams_received": "receive_datagram_ns",
    "datagrams_sent": "send_datagram_ns",
}
"""The cost of each figure, by which the samples count it."""


def simulated(load: Load, costs: CostFile, replicas: int) -> Figures:
    """The same figures of the same load in simulation, on machines with these costs."""
    crowding = costs.crowding_ns if crowded(load, replicas) else {}
    messages = LOOPBACK_DATAGRAM_BYTES // _REQUEST_BYTES

    def on_loopback(machine: Costs, role: str, datagram_messages: int) -> Costs:
        burst_ns = machine.burst_ns + crowding.get(role, 0)
        return msgspec.structs.replace(machine, burst_ns=burst_ns, datagram_messages=datagram_messages)

    spec = SimulationSpec(
        load.protocol,
        replicas=replicas,
        clients=load.client_processes,
        sessions=load.sessions,
        sequencers=catalog.protocol(load.protocol).usual_sequencers,
        operations=_OPERATIONS,
        links=_LOOPBACK,
        costs=on_loopback(costs.costs(REPLICA, load.protocol), REPLICA, messages),
        client_costs=on_loopback(costs.costs(CLIENT, load.protocol), CLIENT, 1 if load.one_request_per_datagram else messages),
    )
    figures = measure_simulated(spec, catalog.protocol(load.protocol))
    return {role: _of_role(figures, role) for role in ROLES if figures["cpu_us_per_op"][role] is not None} | {
        "throughput_ops_s": figures["throughput_ops_s"]
    }


def _of_role(figures: Figures, role: str) -> dict[str, float]:
    flows = {
        f"{unit}_{direction}": figures[f"{unit}_per_op"][role][direction]
        for unit in ("messages", "datagrams")
        for direction in ("received", "sent")
    }
    return {"cpu_us": figures["cpu_us_per_op"][role], "bursts": figures["bursts_per_op"][role]} | flows


def compare(load: Load, samples: Sequence[Sample], costs: CostFile) -> dict[str, Any]:
    """One load, measured and simulated. `charged_ratio`, `simulated_ratio`: processor time divided by that which was measured."""
    replicas = max(sample.index for sample in samples if sample.role == REPLICA) + 1
    seen, forecast = measured(samples, costs), simulated(load, costs, replicas)
    return {
        **asdict(load),
        "replicas": replicas,
        "crowded": crowded(load, replicas),
        "measured": {**seen, "throughput_ops_s": median(sample.throughput_ops_s for sample in samples)},
        "simulated": forecast,
        "charged_ratio": {role: seen[role]["charged_us"] / seen[role]["cpu_us"] for role in seen},
        "simulated_ratio": {role: forecast[role]["cpu_us"] / seen[role]["cpu_us"] for role in seen},
    }
