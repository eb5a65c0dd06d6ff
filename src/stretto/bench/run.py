"""One measurement from plan to figures. `stretto bench` repeats it; `stretto demo` makes it for every protocol."""

from __future__ import annotations

from contextlib import nullcontext

from stretto.bench.latency_floor import latency_floor_us
from stretto.bench.machine import measured_on
from stretto.bench.measure import Progress, measure, own_cluster
from stretto.bench.plan import SERVICES, Plan
from stretto.bench.report import Figures, figures_of
from stretto.catalog import check, protocol
from stretto.core.config import ClusterConfig, Durability
from stretto.runtime.local_cluster import loopback_config


def own_config(
    plan: Plan, protocol_name: str, replicas: int | None = None, *, durability: Durability = "memory", multicast: bool = True
) -> ClusterConfig:
    """The configuration of a cluster on this machine that runs the service of the plan, on ports that are free now.

    `replicas` is by default 3, or the limit of the protocol if that is less. Raises ConfigurationError if no such cluster is possible.
    """
    definition = protocol(protocol_name)
    if replicas is None:
        replicas = definition.max_replicas or 3
    config = loopback_config(
        replicas,
        protocol_name,
        SERVICES[plan.operation],
        sequencers=definition.usual_sequencers,
        multicast=multicast,
        durability=durability,
    )
    check(config)
    return config


def run(plan: Plan, config: ClusterConfig, progress: Progress, *, is_own: bool = True, with_floor: bool = False) -> Figures:
    """Measure once. `is_own`: start the cluster of `config` for the measurement and end it; otherwise it runs already.

    `with_floor`: first measure the latency floor, see `latency_floor_us`. Raises StrettoError if a replica or client process fails.
    """
    machine = measured_on()
    floor = None
    if with_floor:
        progress("measuring the latency floor", None)
        floor = latency_floor_us(config, plan.operations(0)[0])
    with own_cluster(config, progress) if is_own else nullcontext() as cluster:
        figures = figures_of(plan, config, measure(plan, config, cluster, progress))
    return figures | {"latency_floor_us": floor, "measured_on": machine}
