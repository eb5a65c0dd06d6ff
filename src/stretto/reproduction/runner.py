"""Runs the points of experiments: simulations on all workers, measurements one after another. Every row is stored at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stretto.bench.workers import work_off_in_any_order
from stretto.reproduction.experiment import Experiment, Scope
from stretto.reproduction.points import AnyPoint, Simulated
from stretto.reproduction.rows import Row, RowFile, code_version, flat, key_of


@dataclass(frozen=True)
class Job:
    """A point of an experiment that has no row yet."""

    experiment: str
    key: str
    point: AnyPoint


@dataclass(frozen=True)
class Plan:
    """The content of a run: the `keys` of all points by experiment, and the `jobs` that are left."""

    keys: dict[str, list[str]]
    jobs: list[Job]

    def expected_s(self, slowness: float, workers: int) -> float:
        """About how many seconds the jobs take on `workers` workers. `slowness`: see the function of that name."""
        alone = sum(job.point.expected_s() for job in self.jobs if job.point.alone)
        return alone + slowness / workers * sum(job.point.expected_s() for job in self.jobs if not job.point.alone)


def plan(experiments: Iterable[Experiment], scope: Scope, file: RowFile) -> Plan:
    """A plan of all points of the experiments. A point has a job unless it has a row that is not a failure."""
    version = code_version()
    keys: dict[str, list[str]] = {}
    jobs = []
    for experiment in experiments:
        points = {key_of(experiment.name, point, version): point for point in experiment.points(scope)}
        keys[experiment.name] = list(points)
        for key, point in points.items():
            if "error" in file.by_key.get(key, {"error": "not run"}):
                jobs.append(Job(experiment.name, key, point))
    return Plan(keys, jobs)


def slowness(scope: Scope) -> float:
    """How many times longer simulations take on this machine than the estimates of points, measured in less than a second."""
    spec = scope.spec(scope.protocols[0], 1, 4, 3_000)
    point = Simulated({}, spec)
    began = time.perf_counter()
    point.run()
    return (time.perf_counter() - began) / point.expected_s()


def perform(job: Job) -> Row:
    """Run a point and return its row, which has an `error` if the point failed."""
    point = job.point
    row: Row = {"key": job.key, "experiment": job.experiment, "kind": type(point).__struct_config__.tag, **point.factors}
    began = time.perf_counter()
    try:
        row |= flat(point.run()) | point.factors  # factors win: they may name a variant of a protocol
    except Exception as error:  # a point that fails must not end the run
        row["error"] = f"{type(error).__name__}: {error}"
    return row | {"command": point.command(), "seconds": round(time.perf_counter() - began, 3)}


def run(jobs: list[Job], file: RowFile, workers: int, dask: str | None, done: Callable[[Job], None]) -> None:
    """Run all jobs, and call `done` after each. Raises StrettoError if no Dask scheduler answers at that address."""
    # The longest first, so that all workers end at about the same time.
    others = sorted((job for job in jobs if not job.point.alone), key=lambda job: -job.point.expected_s())
    if others:
        for position, row in work_off_in_any_order(perform, others, min(workers, len(others)), dask):
            file.add(row)
            done(others[position])
    for job in jobs:
        if job.point.alone:
            file.add(perform(job))
            done(job)
