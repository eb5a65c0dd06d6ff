"""Results of `stretto bench --json` side by side, and whether they differ by more than their own runs differ from each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from stretto.bench.histogram import Histogram
from stretto.bench.report import cpu_of_followers_us, cpu_of_leader_us
from stretto.core.errors import ConfigurationError

LEAST_RUNS = 3
"""With fewer runs on either side, no verdict is given."""
_HASH_TOLERANCE = 1.1


class Machine(msgspec.Struct, kw_only=True):
    """The machine of a run; see `stretto.bench.machine.measured_on`."""

    processor: str | None
    cores: int
    kernel: str
    python: str
    hash_ns: float
    commit: str | None = None


class Kept(msgspec.Struct, kw_only=True):
    """A histogram as it is stored in a file."""

    relative_error: float
    greatest_ns: int
    lowest_ns: list[int]
    counts: list[int]

    def histogram(self) -> Histogram:
        """The histogram itself."""
        return Histogram.from_json(msgspec.to_builtins(self))


class Killed(msgspec.Struct, kw_only=True):
    """Which replica was killed, and the longest time without results that followed."""

    target: str
    gap_ms: float


class Run(msgspec.Struct, kw_only=True):
    """The figures of a run that are compared. Files that were written before open loops existed can be read too."""

    protocol: str
    replicas: int
    durability: str
    client_processes: int
    sessions: int
    seconds: float
    operation: str
    one_request_per_datagram: bool
    restart: bool
    throughput_ops_s: float
    latency_us: dict[str, float | None]
    longest_gap_ms: float
    replica_cpu_us_per_op: list[float | None]
    client_cpu_us_per_op: float | None
    datagrams_per_op: float | None
    measured_on: Machine
    kill: Killed | None = None
    leader: int | None = None
    one_order: bool = False
    rate_ops_s: float | None = None
    warm_up_s: float | None = None
    latency_histogram: Kept | None = None


class _File(Run, kw_only=True):
    runs: list[Run] = []


@dataclass(frozen=True)
class Result:
    """A file: its name in tables, its runs, and the histogram of all their operations if the file has one."""

    name: str
    runs: list[Run]
    latency: Histogram | None


@dataclass(frozen=True)
class _Figure:
    name: str
    title: str
    of: Callable[[Run], float | None]
    digits: int = 0


def _latency(name: str) -> Callable[[Run], float | None]:
    return lambda run: run.latency_us.get(name)


FIGURES = (
    _Figure("throughput_ops_s", "operations/s", lambda run: run.throughput_ops_s),
    _Figure("p50_us", "p50 us", _latency("p50")),
    _Figure("p90_us", "p90 us", _latency("p90")),
    _Figure("p99_us", "p99 us", _latency("p99")),
    _Figure("p999_us", "p99.9 us", _latency("p999")),
    _Figure("max_us", "max us", _latency("max")),
    _Figure("leader_cpu_us_per_op", "leader CPU us/op", lambda run: cpu_of_leader_us(run.leader, run.replica_cpu_us_per_op), 2),
    _Figure("follower_cpu_us_per_op", "follower CPU us/op", lambda run: cpu_of_followers_us(run.leader, run.replica_cpu_us_per_op), 2),
    _Figure("client_cpu_us_per_op", "client CPU us/op", lambda run: run.client_cpu_us_per_op, 2),
    _Figure("datagrams_per_op", "datagrams/op", lambda run: run.datagrams_per_op, 3),
    _Figure("longest_gap_ms", "longest gap ms", lambda run: run.longest_gap_ms, 1),
    _Figure("kill_gap_ms", "gap after the kill ms", lambda run: run.kill.gap_ms if run.kill else None, 1),
)

_CONDITIONS = (
    *("replicas", "durability", "client_processes", "sessions", "rate_ops_s", "seconds", "warm_up_s", "operation"),
    *("one_request_per_datagram", "one_order", "restart"),
)


def read(files: list[Path]) -> list[Result]:
    """The results in these files. Raises ConfigurationError with the file, and the key that is missing or wrong."""
    stems = [file.stem for file in files]
    return [_read(file, file.stem if stems.count(file.stem) == 1 else str(file)) for file in files]


def _read(file: Path, name: str) -> Result:
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_File)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        key = where.strip(".`") or None
        raise ConfigurationError(f"{what}; wanted is what stretto bench --json prints", key=key, file=file) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"is not JSON: {error}; wanted is what stretto bench --json prints", file=file) from None
    _check(file, kept)
    return Result(name, list(kept.runs or [kept]), kept.latency_histogram.histogram() if kept.latency_histogram else None)


def _check(file: Path, kept: _File) -> None:
    """Check what the types do not."""
    for prefix, run in [("", kept), *((f"runs[{number}].", run) for number, run in enumerate(kept.runs))]:
        histogram = run.latency_histogram
        if histogram is not None and len(histogram.lowest_ns) != len(histogram.counts):
            reason = f"{len(histogram.counts)} counts of {len(histogram.lowest_ns)} buckets"
            raise ConfigurationError(reason, key=f"{prefix}latency_histogram", file=file)
        if run.leader is not None and not 0 <= run.leader < len(run.replica_cpu_us_per_op):
            raise ConfigurationError(f"there is no replica {run.leader}", key=f"{prefix}leader", file=file)


def compare(results: list[Result]) -> dict[str, Any]:
    """The figures of all results, each beside that of the first.

    - `differences`: the conditions of the measurements that are not the same in all results;
    - `figures`: by name, the median, least and greatest over the runs of each result. All results but the first also have the `ratio` of
      the medians and a `verdict`: `apart` if the ranges of the runs do not overlap, `overlap` if they do, None with fewer than LEAST_RUNS;
    - `by_chance`: the probability that ranges do not overlap although nothing differs, see `probability_apart`.
    """
    return {
        "results": [{"name": result.name, "protocol": result.runs[0].protocol, "runs": len(result.runs)} for result in results],
        "by_chance": [None, *(_by_chance(results[0], result) for result in results[1:])],
        "differences": differences(results),
        "figures": {figure.name: row for figure in FIGURES if (row := _row(figure, results)) is not None},
    }


def probability_apart(runs: int, others: int) -> float:
    """The probability that all of `runs` runs are above, or all below, `others` other runs, if all come from one distribution.

    Two of all possible assignments of the ordered runs to the two sides have this property (a permutation test). The runs must be
    independent.
    """
    return 2 / comb(runs + others, runs)


def differences(results: list[Result]) -> dict[str, list[Any]]:
    """Conditions that are not the same in all results: by name, the value in each result. The protocol is not a condition.

    `hash_ns` is the median over the runs. It counts as different if the greatest is more than a tenth above the least.
    """
    firsts = [result.runs[0] for result in results]
    found = {name: [getattr(run, name) for run in firsts] for name in _CONDITIONS}
    found["kill"] = [run.kill.target if run.kill else None for run in firsts]
    found |= {name: [getattr(run.measured_on, name) for run in firsts] for name in ("processor", "cores", "kernel", "python")}
    unequal = {name: values for name, values in found.items() if any(value != values[0] for value in values)}
    hashes = [median(run.measured_on.hash_ns for run in result.runs) for result in results]
    return unequal | ({"hash_ns": hashes} if max(hashes) > _HASH_TOLERANCE * min(hashes) else {})


def _by_chance(first: Result, other: Result) -> float | None:
    fewest = min(len(first.runs), len(other.runs))
    return probability_apart(len(first.runs), len(other.runs)) if fewest >= LEAST_RUNS else None


def _row(figure: _Figure, results: list[Result]) -> list[dict[str, Any] | None] | None:
    """One figure of all results, with None for a result that does not have it. None if no result has it."""
    values = [[value for run in result.runs if (value := figure.of(run)) is not None] for result in results]
    if not any(values):
        return None
    return [_cell(mine, values[0], is_first=number == 0) for number, mine in enumerate(values)]


def _cell(values: list[float], first: list[float], is_first: bool) -> dict[str, Any] | None:
    if not values:
        return None
    cell: dict[str, Any] = {"median": median(values), "least": min(values), "greatest": max(values)}
    if is_first or not first:
        return cell
    apart = min(values) > max(first) or max(values) < min(first)
    known = min(len(values), len(first)) >= LEAST_RUNS
    ratio = median(values) / median(first) if median(first) else None
    return cell | {"ratio": ratio, "verdict": ("apart" if apart else "overlap") if known else None}
