"""Two source trees measured by turns: the ratios of their figures, pair by pair.

A machine that others share changes its speed from minute to minute, by far more than a change of code costs or saves. So both trees are
measured in many short pairs, each directly after the other, and either one first equally often. What counts is the median of the ratios
within the pairs. Its confidence interval, between two of the ordered ratios, needs no assumption about their distribution.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from math import comb
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import msgspec

from stretto.bench import turns
from stretto.bench.measure import Progress
from stretto.bench.plan import Plan
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.runtime.batching import BATCHED
from stretto.runtime.processes import interrupts_blocked

Measure: TypeAlias = Callable[[], dict[str, float]]
"""Measures one tree once. Returns its figures by name."""

Pair: TypeAlias = tuple[dict[str, float], dict[str, float]]
"""The figures of this tree and of the other, measured at about the same time."""

_DOUBT = 0.05
_END_SECONDS = 10.0
_WARM_UP, _TURNS = 1, 5


def source_of(tree: Path) -> Path:
    """The directory in the checkout `tree` from which Python imports stretto.

    Raises ConfigurationError if it is no checkout, or if it lacks the C extension although this code has it.
    """
    source = tree / "src"
    if not (source / "stretto" / "__main__.py").is_file():
        raise ConfigurationError(f"{tree} is no checkout of stretto: it has no src/stretto/__main__.py", key="--against")
    if BATCHED and not list((source / "stretto" / "runtime").glob("_batch*.so")):
        reason = (
            f"{tree} has no batched sockets, and this code has; build src/stretto/runtime/_batch.c there, or copy this code's _batch*.so"
        )
        raise ConfigurationError(reason, key="--against")
    return source.resolve()


def own_source() -> Path:
    """The directory from which this process imports stretto."""
    return Path(__file__).resolve().parents[2]


def paired(measure_pair: Callable[[int], Pair], pairs: int, progress: Progress) -> dict[str, Any]:
    """Measure pairs, by their numbers from 0 on. Returns `pairs`, and for each figure that both sides have:

    `this`, `other`: the medians; `ratio`: the median of this / other within the pairs; `from`, `to`: its 95% confidence interval, None with
    fewer than six pairs.
    """
    taken = []
    for number in range(pairs):
        progress(f"pair {number + 1} of {pairs}", number / pairs)
        taken.append(measure_pair(number))
    names = [name for name in taken[0][0] if all(name in figures for pair in taken for figures in pair)]
    return {"pairs": pairs, "figures": {name: _figure([(mine[name], others[name]) for mine, others in taken]) for name in names}}


def alternately(this: Measure, other: Measure) -> Callable[[int], Pair]:
    """Pairs of one measurement of each, either one first equally often."""

    def measure_pair(number: int) -> Pair:
        if number % 2 == 0:
            return this(), other()
        second = other()
        return this(), second

    return measure_pair


def _figure(values: Sequence[tuple[float, float]]) -> dict[str, float | None]:
    ratios = sorted(mine / others for mine, others in values)
    rank = _rank(len(ratios))
    low, high = (None, None) if rank is None else (ratios[rank], ratios[-1 - rank])
    this, other = (median(side) for side in zip(*values, strict=True))
    return {"this": this, "other": other, "ratio": median(ratios), "from": low, "to": high}


def _rank(count: int) -> int | None:
    """How many of `count` ordered values lie outside the interval at each end, so that it has the median with 95% certainty."""
    outside, rank = 0.0, None
    for number in range((count + 1) // 2):
        outside += 2 * comb(count, number) / 2**count
        if outside > _DOUBT:
            break
        rank = number
    return rank


# What is measured


def cluster(source: Path, arguments: Sequence[str]) -> Measure:
    """Measures by `stretto bench` with these arguments, on the code in `source`."""
    command = [sys.executable, "-P", "-m", "stretto", "bench", *arguments, "--json"]

    def measure() -> dict[str, float]:
        with _process(command, source) as process:
            output, errors = process.communicate()
        if process.returncode:
            raise StrettoError(f"stretto bench on the code in {source} failed: {_last_line(errors)}")
        return _of_cluster(msgspec.json.decode(output))

    return measure


def _of_cluster(figures: Mapping[str, Any]) -> dict[str, float]:
    known = [cpu for cpu in figures["replica_cpu_us_per_op"] if cpu is not None]
    chosen = {
        "throughput_ops_s": figures["throughput_ops_s"],
        "replica_cpu_us_per_op": sum(known) / len(known) if known else None,
        "client_cpu_us_per_op": figures["client_cpu_us_per_op"],
        "datagrams_per_op": figures["datagrams_per_op"],
        **{f"{name}_us": value for name, value in figures["latency_us"].items() if name in ("p50", "p99")},
    }
    return {name: value for name, value in chosen.items() if value}


@contextmanager
def in_one_process(source: Path, plan: Plan, protocol: str, replicas: int | None) -> Iterator[Measure]:
    """Measures by `stretto.bench.turns`, as this tree has it, on the code in `source`. Ends its process on leaving the context."""
    settings = msgspec.json.encode(asdict(plan)).decode()
    command = [sys.executable, "-P", turns.__file__, settings, protocol, "" if replicas is None else str(replicas)]
    with _process(command, source) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to_it, from_it = process.stdin, process.stdout

        def measure() -> dict[str, float]:
            try:
                to_it.write(f"{turns.OPERATIONS}\n")
                to_it.flush()
                line = from_it.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                raise StrettoError(f"turns on the code in {source} failed: {_last_line(process.communicate()[1])}")
            figures: dict[str, float] = msgspec.json.decode(line)
            return figures

        yield measure


@contextmanager
def _process(command: list[str], source: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that imports stretto from `source`, ended on leaving the context: by SIGTERM, so that it ends its own first."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    with interrupts_blocked():
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _last_line(errors: str) -> str:
    return (errors.strip().splitlines() or ["without a word"])[-1]


def both_in_clusters(other: Path, arguments: Sequence[str], pairs: int, progress: Progress) -> dict[str, Any]:
    """`paired` figures of `stretto bench` with these arguments, of this tree and of the code in `other`."""
    return paired(alternately(cluster(own_source(), arguments), cluster(other, arguments)), pairs, progress)


def both_in_one_process(other: Path, plan: Plan, protocol: str, replicas: int | None, pairs: int, progress: Progress) -> dict[str, Any]:
    """`paired` figures of `stretto.bench.turns`, of this tree and of the code in `other`.

    Each pair has new processes, since the layout of a process in memory makes it faster or slower for its whole life, by up to a twentieth.
    In a pair, both take turns, and the median of each is its figure.
    """

    def measure_pair(number: int) -> Pair:
        sources = (own_source(), other) if number % 2 == 0 else (other, own_source())
        with ExitStack() as stack:
            measures = [stack.enter_context(in_one_process(source, plan, protocol, replicas)) for source in sources]
            taken = [[measure() for measure in measures] for _ in range(_WARM_UP + _TURNS)][_WARM_UP:]
        first, second = ({name: median(one[name] for one in turn) for name in turns.FIGURES} for turn in zip(*taken, strict=True))
        return (first, second) if number % 2 == 0 else (second, first)

    return paired(measure_pair, pairs, progress)
