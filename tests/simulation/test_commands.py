"""`stretto simulate` and `stretto fuzz`: what they print, what they exit with, and that a run can be had again."""

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
        (["--replicas", "4"], "replicas: 4 replicas"),
        (["--protocol", "unreplicated", "--replicas", "3"], "at most 1"),
        (["--protocol", "magic"], "'magic' is not a protocol"),
        (["--service", "nowhere:Nothing"], "cannot import 'nowhere'"),
        (["--set", "timeouts.sync_interval_ms"], "not of the form key=value"),
        (["--set", "timeouts.sync_interval_ms=soon"], "timeouts.sync_interval_ms: Expected `float`"),
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


def test_a_few_random_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fuzz", "--protocol", "unreplicated", "--seed", "3", "--runs", "5", "--workers", "1", "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)
    assert (totals["runs"], totals["seed"], totals["violations"]) == (5, 3, [])
    assert totals["operations"] > 0


BROKEN_SERVICE = """
from stretto.core.state_machine import NullMachine

class Forked(NullMachine):
    'Every machine that is made answers differently.'
    made = 0

    def __init__(self):
        Forked.made += 1
        self.number = Forked.made

    def execute(self, operation, time_ns, entropy):
        return b'%d' % self.number, None
"""


def test_a_violation_is_status_1_and_can_be_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forked_service.py").write_text(BROKEN_SERVICE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    fuzz = ["fuzz", "--service", "forked_service:Forked", "--seed", "3", "--runs", "1", "--workers", "1", "--json"]
    assert run(fuzz) == 1
    printed = capsys.readouterr()
    (violation,) = json.loads(printed.out)["violations"]
    assert violation["kind"] == "wrong result"
    assert violation["command"] in printed.err.replace("\n", "")
    words = violation["command"].split()
    assert words[0] == "stretto"
    assert run([*words[1:], "--json"]) == 1
    again = json.loads(capsys.readouterr().out)["violation"]
    assert (again["kind"], again["time_ns"], again["seed"]) == (violation["kind"], violation["time_ns"], 3)
