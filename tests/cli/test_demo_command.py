"""The demonstration: it shows what it says, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stretto.cli.demo_load import Phase
from stretto.cli.main import run

pytestmark = pytest.mark.xdist_group("processes")


def test_service_goes_on_after_a_kill(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--seconds", "2", "--sessions", "4", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["killed_was"] == "leader"
    assert [phase["operations"] > 0 for phase in result["phases"]] == [True, True, True]
    assert result["wrong_answers"] == []
    assert f"{result['killed']} died" in output.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_what_it_started_when_it_is_interrupted(tmp_path: Path, number: signal.Signals, status: int) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "stretto", "demo", "--seconds", "60"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        lines = [demo.stderr.readline() for _ in range(2)]  # the second one is of the load
        assert "ops/s" in lines[1]
        children = [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]
        assert len(children) == 3
        demo.send_signal(number)
        assert demo.wait(20) == status
        assert "Traceback" not in demo.stderr.read()
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 5
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
