"""`stretto simulate`: what it prints, what it exits with, and that a run can be repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stretto.cli.main import run
from stretto.core.trace import from_lines as trace_from_lines
from stretto.verify.history import from_lines as history_from_lines

SMALL = ["simulate", "--protocol", "speculative", "--sessions", "4", "--operations", "80"]


def test_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--faults", "loss,crash", "--seed", "7", "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert printed.err == ""
    assert result["operations"] == 80
    assert result["violation"] is None
    assert result["spec"]["faults"] == ["loss", "crash"]
    assert result["messages_per_second"] > 0


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--no-checks"]) == 0
    assert "throughput" in capsys.readouterr().out


def test_files_replay_to_the_byte_in_another_process(tmp_path: Path) -> None:
    """Another process has another hash seed, so an order that rests on hashes would show."""
    traces = []
    for number in ("1", "2"):
        trace, history = tmp_path / f"trace{number}", tmp_path / f"history{number}"
        arguments = [*SMALL, "--faults", "loss,pause", "--clients", "2", "--trace", str(trace), "--history", str(history)]
        program = "import sys; from stretto.cli.main import run; sys.exit(run(sys.argv[1:]))"
        environment = os.environ | {"PYTHONHASHSEED": number}
        subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True, capture_output=True)
        traces.append(trace.read_bytes())
        assert sum(1 for _ in trace_from_lines(traces[-1].splitlines())) > 500
        assert sum(1 for _ in history_from_lines(history.read_bytes().splitlines())) >= 84
    assert traces[0] == traces[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "fire"], "faults: 'fire' is not a fault"),
        (["--faults", "power_cut"], "faults: 'power_cut' strikes disks, and there are none"),
        (["--faults", "loss", "--set", "strengths.crash.frequency=2"], "strengths.crash.frequency: there is no such setting"),
        (["--faults", "loss", "--set", "strengths.loss.severity=2"], "strengths.loss.severity: 2.0 is outside 0 to 1"),
        (["--replicas", "4"], "replicas: 4 replicas"),
        (["--protocol", "unreplicated", "--replicas", "3"], "at most 1"),
        (["--protocol", "magic"], "'magic' is not a protocol"),
        (["--service", "nowhere:Nothing"], "cannot import 'nowhere'"),
        (["--set", "timeouts.sync_interval_ms"], "not of the form key=value"),
        (["--set", "timeouts.sync_interval_ms=soon"], "timeouts.sync_interval_ms: Expected `float`"),
        (["--set", "links.loss=1.5"], "links.loss: 1.5 is not a probability; 0 to 1"),
        (["--set", "links.reorder=-0.1"], "links.reorder: -0.1 is not a probability; 0 to 1"),
        (["--set", "dead=2"], "dead: 2 of 3 replicas are not a minority; 0 to 1"),
        (["--set", "slow_ns=-1"], "slow_ns: -1 is too small; 0 or more"),
        (["--trace", "/nowhere/trace"], "/nowhere/trace: cannot be written"),
        (["--no-checks", "--history", "h"], "--history needs the checks"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_faults_of_disks_need_disks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--durability", "disk", "--faults", "kill,slow_disk", "--set", "strengths.kill.frequency=20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["spec"]["durability"] == "disk"
    assert result["restarts"] == result["struck"]["kill"] > 0
    assert run([*SMALL, "--durability", "disk", "--faults", "kill"]) == 0
    assert "kill" in capsys.readouterr().out
