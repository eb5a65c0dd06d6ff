"""The report of a run, and the directory that keeps the evidence for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import median

import msgspec

from stretto.torture.environment import Environment
from stretto.torture.run import Outcome
from stretto.verify.history import to_lines
from stretto.verify.linearizability import NOT_LINEARIZABLE, OK

FAULTS, HISTORY, REPORT = "faults.jsonl", "history.jsonl", "report.json"


class Recoveries(msgspec.Struct):
    """How often a restarted replica served again without another fault in between, and how long that took from its start."""

    count: int
    median_ms: float | None
    max_ms: float | None


class Report(msgspec.Struct):
    """The result of a run. `stretto.torture.run.Outcome` describes the fields that are not listed here.

    - `skipped`: the kinds of faults that this machine or configuration does not allow, and why;
    - `checked`: how many calls the checker was given;
    - `lost`, `repeated`: how many tokens were acknowledged but not found, and how many were found more than once; None if not known;
    - `verdict`: the checker's, or "not linearizable" if anything was lost or repeated;
    - `kept`: the directory with the history, the faults and the logs, if they were kept.
    """

    protocol: str
    replicas: int
    durability: str
    seconds: float
    seed: int
    faults: dict[str, int]
    skipped: dict[str, str]
    operations: int
    checked: int
    lost: int | None
    repeated: int | None
    unanswered: int
    last_error: str | None
    longest_gap_ms: float
    recoveries: Recoveries
    back_in_service_ms: float | None
    died: dict[int, str]
    verdict: str
    kept: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the history is correct, no replica died, and the cluster served at the end."""
        return self.verdict == OK and None not in (self.back_in_service_ms, self.lost) and not self.died


def report_of(environment: Environment, seed: int, outcome: Outcome, checked: str) -> Report:
    """The report of a run. `checked` is the checker's verdict on its history."""
    config = environment.cluster.config
    lost, repeated = outcome.read_back or (None, None)
    times_ms = outcome.recoveries_ms
    return Report(
        protocol=config.protocol,
        replicas=config.n,
        durability=config.durability,
        seconds=round(outcome.seconds, 1),
        seed=seed,
        faults=outcome.faults,
        skipped=environment.skipped,
        operations=outcome.operations,
        checked=len(outcome.history),
        lost=lost,
        repeated=repeated,
        unanswered=outcome.unanswered,
        last_error=outcome.last_error,
        longest_gap_ms=round(outcome.longest_gap_ms, 1),
        recoveries=Recoveries(len(times_ms), _rounded(median(times_ms) if times_ms else None), _rounded(max(times_ms, default=None))),
        back_in_service_ms=_rounded(outcome.back_in_service_ms),
        died=outcome.died,
        verdict=NOT_LINEARIZABLE if lost or repeated else checked,
    )


def _rounded(time_ms: float | None) -> float | None:
    return None if time_ms is None else round(time_ms, 1)


def keep(environment: Environment, outcome: Outcome, report: Report, directory: Path) -> None:
    """Write the history, the faults, the report, the configuration and the replicas' logs to a directory, which is made if needed."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(environment.directory / FAULTS, directory)
    with (directory / HISTORY).open("wb") as file:
        file.writelines(to_lines(outcome.history))
    for path in (environment.cluster.file, *environment.cluster.logs):
        shutil.copy(path, directory)
    report.kept = str(directory)
    (directory / REPORT).write_bytes(msgspec.json.encode(report) + b"\n")
