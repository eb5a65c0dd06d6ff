"""The demonstration: it shows what it says, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stretto.bench.plan import Plan
from stretto.bench.protocols import measure_protocols
from stretto.cli.main import run
from stretto.core.config import ClusterConfig
from stretto.demo.display import print_comparison
from stretto.demo.load import Phase
from stretto.runtime.local_cluster import ClusterFailure

pytestmark = pytest.mark.xdist_group("processes")


def test_service_goes_on_after_a_kill(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--seconds", "2", "--sessions", "4", "--no-comparison", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["killed_was"] == "leader"
    assert [phase["operations"] > 0 for phase in result["phases"]] == [True, True, True]
    assert result["wrong_answers"] == []
    assert f"{result['killed']} died" in output.err
    assert result["comparison"] == []


def test_it_ends_with_all_protocols_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stretto.catalog.protocol_names", lambda: ("speculative", "unreplicated"))
    monkeypatch.setattr("stretto.cli.demo._COMPARED_SECONDS", 0.3)
    picture = tmp_path / "protocols.svg"
    assert run(["demo", "--seconds", "1.5", "--sessions", "4", "--plot", str(picture), "--json"]) == 0
    speculative, unreplicated = json.loads(capsys.readouterr().out)["comparison"]
    assert (speculative["protocol"], speculative["replicas"]) == ("speculative", 3)
    assert (unreplicated["protocol"], unreplicated["replicas"]) == ("unreplicated", 1)
    assert 0 < speculative["p50_us"] <= speculative["p99_us"]
    assert all(speculative[name] > 0 for name in ("throughput_ops_s", "leader_cpu_us_per_op", "follower_cpu_us_per_op"))
    assert unreplicated["follower_cpu_us_per_op"] is None
    assert "<svg" in picture.read_text()


def test_a_protocol_that_cannot_be_measured_is_named_and_the_others_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(plan: Plan, config: ClusterConfig, progress: object) -> dict[str, Any]:
        if config.protocol == "speculative":
            raise ClusterFailure("replica 1 has died")
        return {
            "protocol": config.protocol,
            "replicas": config.n,
            "throughput_ops_s": 12_345.0,
            "latency_us": {"p50": 100.0, "p99": None},
            "leader": 0,
            "replica_cpu_us_per_op": [4.0],
            "measured_on": {"hash_ns": 400.0},
        }

    monkeypatch.setattr("stretto.bench.protocols.run", measured)
    rows = list(measure_protocols(["speculative", "unreplicated"], Plan(), 3, lambda what, done: None))
    assert rows[0] == {"protocol": "speculative", "replicas": 3, "error": "replica 1 has died"}
    print_comparison("all", rows)
    output = capsys.readouterr().out
    for text in ("unreplicated", "12,345", "█", "speculative could not be measured: replica 1 has died"):
        assert text in output


@pytest.mark.parametrize(("arguments", "complaint"), [(["x.txt"], "ends in none"), (["x.png", "--no-comparison"], "--no-comparison")])
def test_a_picture_that_cannot_be_drawn_is_refused_at_once(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", "--plot", *arguments]) == 2
    output = capsys.readouterr()
    assert complaint in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_what_it_started_when_it_is_interrupted(
    tmp_path: Path, number: signal.Signals, status: int, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    demo = start_python("-m", "stretto", "demo", "--seconds", "600", env=os.environ | {"TMPDIR": str(tmp_path)})
    assert demo.stderr is not None
    lines = [demo.stderr.readline() for _ in range(2)]  # the second one is of the load
    assert "ops/s" in lines[1]
    children = [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]
    assert len(children) == 3
    demo.send_signal(number)
    assert demo.wait(60) == status
    assert "Traceback" not in demo.stderr.read()
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 30
    while any(_is_replica(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_figures_of_a_phase() -> None:
    phase = Phase("x", began_ns=0, ended_ns=2_000_000_000, latencies_ns=[1_000 * n for n in range(100, 0, -1)], longest_gap_ns=1_500_000)
    assert phase.row() == {
        "phase": "x",
        "seconds": 2.0,
        "operations": 100,
        "throughput_ops_s": 50,
        "p50_us": 51,
        "p99_us": 100,
        "longest_gap_ms": 1.5,
    }


def _is_replica(pid: int) -> bool:
    try:
        return b"replica" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
