"""Runs of the network model on several cores or a Dask cluster, and the speed of the model.

Runs are independent, and their settings determine them, so the number of workers does not change the results.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any

from stretto.bench.workers import work_off
from stretto.network.experiment import Outcome, Setting, evaluate, prepare, row
from stretto.network.topologies import named
from stretto.network.topology import Topology


@lru_cache(maxsize=4)
def _topology(name: str) -> Topology:
    return named(name)


def timed(setting: Setting) -> tuple[Outcome, float]:
    """One run: its outcome, and the processor time of the model in seconds, without its preparation and evaluation."""
    prepared = prepare(setting, _topology(setting.topology))
    started = time.process_time()
    deliveries = prepared.run()
    seconds = time.process_time() - started
    return evaluate(setting, prepared, deliveries), seconds


def sweep(settings: Iterable[Setting], workers: int, dask: str | None = None) -> Iterator[tuple[Outcome, float]]:
    """All runs, in the order of their settings, each as soon as it and all before it are done.

    They run on `workers` local processes (1: in this process), or on the Dask cluster whose scheduler is at the address `dask`. Raises
    StrettoError if the extra `dask` is not installed, or if no scheduler answers.
    """
    return work_off(timed, settings, workers, dask)


def rows(outcomes: Iterable[tuple[Outcome, float]]) -> Iterator[dict[str, Any]]:
    """One row for all seeds of a design at a load; the outcomes come in the order of `stretto.network.experiment.settings`."""
    plain: list[Outcome] = []
    for (design, _), several in groupby(outcomes, key=lambda pair: (pair[0].setting.design, pair[0].setting.load)):
        runs, seconds = zip(*several, strict=True)
        if design == "plain":
            plain = list(runs)
        yield row(runs, plain, sum(seconds))


def benchmark(messages: int = 2_000, topology: str = "datacentre") -> Iterator[dict[str, Any]]:
    """Packet-hops per second of processor time, by queue discipline, kind of traffic and load. Drawing the traffic is included."""
    for bursts in ("poisson", "onoff"):
        for load in (0.3, 0.6, 0.9):
            for design in ("plain", "prioritised"):
                setting = Setting(topology, design, load=load, bursts=bursts, messages=messages)
                outcome, seconds = timed(setting)
                yield {
                    "design": design,
                    "bursts": bursts,
                    "load": load,
                    "packet_hops": outcome.census.packet_hops,
                    "dropped": outcome.census.background_dropped,
                    "seconds": round(seconds, 3),
                    "hops_per_second": round(outcome.census.packet_hops / seconds),
                }
