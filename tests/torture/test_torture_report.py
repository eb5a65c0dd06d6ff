"""The report of a run: what counts as a failure, and which files are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stretto.core.config import ClusterConfig, Member
from stretto.runtime.local_cluster import LocalCluster
from stretto.torture.environment import Environment
from stretto.torture.report import FAULTS, HISTORY, REPORT, keep, report_of
from stretto.torture.run import Outcome
from stretto.verify.history import Operation, from_lines

OUTCOME = Outcome(
    seconds=10.04,
    faults={"kill": 2},
    recoveries_ms=[410.0, 500.04, 440.0],
    died={},
    operations=1_000,
    unanswered=1,
    last_error="RequestTimeout: no quorum",
    longest_gap_ms=90.06,
    back_in_service_ms=12.34,
    read_back=(0, 0),
    history=[Operation(0, b"get", 5, 9, b"\xc0"), Operation(1, b"put", 7, error="RequestTimeout")],
)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    config = ClusterConfig(tuple(Member("127.0.0.1", 7000 + index) for index in range(3)))
    cluster = LocalCluster.create(tmp_path / "cluster", config)
    for log in cluster.logs:
        log.write_text("started\n")
    (tmp_path / FAULTS).write_text('{"at_ns":1,"event":"begun"}\n')
    return Environment(tmp_path, cluster, None, None, {"mute": "network namespaces need root"})


def test_a_good_run(environment: Environment) -> None:
    report = report_of(environment, 7, OUTCOME, "ok")
    assert report.ok
    assert (report.seed, report.replicas, report.seconds, report.checked) == (7, 3, 10.0, 2)
    assert (report.recoveries.count, report.recoveries.median_ms, report.recoveries.max_ms) == (3, 440.0, 500.0)
    assert (report.longest_gap_ms, report.back_in_service_ms) == (90.1, 12.3)
    assert report.skipped == {"mute": "network namespaces need root"}


@pytest.mark.parametrize(
    ("outcome", "checked", "verdict"),
    [
        (OUTCOME, "not linearizable", "not linearizable"),
        (OUTCOME, "unknown", "unknown"),
        (replace(OUTCOME, read_back=(1, 0)), "ok", "not linearizable"),
        (replace(OUTCOME, read_back=(0, 1)), "unknown", "not linearizable"),
        (replace(OUTCOME, back_in_service_ms=None), "ok", "ok"),
        (replace(OUTCOME, read_back=None), "ok", "ok"),
        (replace(OUTCOME, died={2: "replica failed"}), "ok", "ok"),
    ],
)
def test_each_fault_in_an_outcome_makes_the_run_a_failure(environment: Environment, outcome: Outcome, checked: str, verdict: str) -> None:
    report = report_of(environment, 7, outcome, checked)
    assert report.verdict == verdict
    assert not report.ok


def test_recovery_times_are_none_if_there_were_no_recoveries(environment: Environment) -> None:
    recoveries = report_of(environment, 7, replace(OUTCOME, recoveries_ms=[]), "ok").recoveries
    assert (recoveries.count, recoveries.median_ms, recoveries.max_ms) == (0, None, None)


def test_history_faults_report_configuration_and_logs_are_kept(environment: Environment, tmp_path: Path) -> None:
    report = report_of(environment, 7, OUTCOME, "ok")
    kept = tmp_path / "there" / "kept"
    keep(environment, OUTCOME, report, kept)
    assert report.kept == str(kept)
    assert list(from_lines((kept / HISTORY).open("rb"))) == OUTCOME.history
    assert json.loads((kept / REPORT).read_text())["kept"] == str(kept)
    assert {path.name for path in kept.iterdir()} == {
        *(FAULTS, HISTORY, REPORT, "cluster.toml"),
        *(f"replica-{index}.log" for index in range(3)),
    }
