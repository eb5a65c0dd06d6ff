"""Several protocols on this machine, one after another, under the same load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from stretto.bench.measure import Progress
from stretto.bench.plan import Plan
from stretto.bench.report import Figures, cpu_of_followers_us, cpu_of_leader_us
from stretto.bench.run import own_config, run
from stretto.catalog import protocol
from stretto.core.errors import StrettoError


def measure_protocols(
    names: Sequence[str], plan: Plan, replicas: int, progress: Progress, *, multicast: bool = True
) -> Iterator[dict[str, Any]]:
    """Measure each protocol by the plan, with `replicas` replicas or its limit if that is less. Yields a row of figures for each.

    A row has an `error` instead of figures if the protocol could not be measured.
    """
    for name in names:
        limit = protocol(name).max_replicas
        config = own_config(plan, name, min(replicas, limit or replicas), multicast=multicast)
        try:
            yield _row(run(plan, config, partial(_tell, progress, name)))
        except StrettoError as error:
            yield {"protocol": name, "replicas": config.n, "error": str(error)}


def _tell(progress: Progress, name: str, what: str, done: float | None) -> None:
    progress(f"{name}: {what}", done)


def _row(figures: Figures) -> dict[str, Any]:
    return {
        "protocol": figures["protocol"],
        "replicas": figures["replicas"],
        "throughput_ops_s": figures["throughput_ops_s"],
        "p50_us": figures["latency_us"]["p50"],
        "p99_us": figures["latency_us"]["p99"],
        "leader_cpu_us_per_op": cpu_of_leader_us(figures["leader"], figures["replica_cpu_us_per_op"]),
        "follower_cpu_us_per_op": cpu_of_followers_us(figures["leader"], figures["replica_cpu_us_per_op"]),
        "hash_ns": figures["measured_on"]["hash_ns"],
    }
