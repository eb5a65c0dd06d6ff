"""`stretto fuzz`: what it prints, what it exits with, what its corpus keeps, and that a violation can be reproduced."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from stretto.catalog import protocol_names
from stretto.cli.fuzz import Limits
from stretto.cli.main import run
from stretto.fuzzing.totals import Totals


def test_a_few_random_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fuzz", "--protocol", "unreplicated", "--seed", "3", "--runs", "5", "--workers", "1", "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)
    assert (totals["runs"], totals["seed"], totals["violations"]) == (5, 3, [])
    assert totals["operations"] > 0


def test_all_protocols_by_turns(capsys: pytest.CaptureFixture[str]) -> None:
    names = protocol_names()
    assert run(["fuzz", "--protocol", "all", "--seed", "0", "--runs", str(2 * len(names)), "--workers", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert ", ".join(names) in printed
    assert "1 replicas: 2" in printed


def test_a_budget_of_operations_gives_the_same_runs_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    fuzz = ["fuzz", "--protocol", "unreplicated", "--protocol", "multipaxos", "--seed", "8", "--operations", "500", "--json"]

    def totals(*options: str) -> dict[str, Any]:
        assert run([*fuzz, *options]) == 0
        printed: dict[str, Any] = json.loads(capsys.readouterr().out)
        return printed

    one, two = totals("--workers", "1"), totals("--workers", "2")
    assert one["operations"] + one["unanswered"] >= 500
    assert one["runs"] > 1
    assert [one[name] for name in ("runs", "operations", "messages")] == [two[name] for name in ("runs", "operations", "messages")]
    fixed = totals("--operations-per-run", "100")
    assert (fixed["runs"], fixed["operations"] + fixed["unanswered"]) == (5, 500)
    assert totals("--operations-per-run", "100", "--runs", "2")["runs"] == 2


@pytest.mark.parametrize("limits", [Limits(float("inf"), None, 400), Limits(50, None, None), Limits(1e6, 20, 500)])
def test_the_progress_is_that_of_the_nearest_limit(limits: Limits) -> None:
    totals = Totals(["unreplicated"], "", 0, runs=10, operations=150, unanswered=50)
    assert limits.part_done(totals, 25) == 0.5


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
    fuzz = ["fuzz", "--service", "forked_service:Forked", "--seed", "4", "--runs", "1", "--workers", "1", "--json"]
    assert run([*fuzz, "--corpus", str(tmp_path / "corpus")]) == 1
    printed = capsys.readouterr()
    totals = json.loads(printed.out)
    (finding,) = totals["violations"]
    violation = finding["violation"]
    assert violation["kind"] in ("outcomes differ", "wrong result")
    assert violation["command"] in printed.err.replace("\n", "")
    assert "--seed 4" in finding["found_with"]
    # It is smaller than what was found, and fails in the same way, as the command and as the file in the corpus say.
    small = finding["spec"]
    assert (small["operations"], small["faults"]) == (1, [])
    assert small["replicas"] <= 5
    words = violation["command"].split()
    assert words[0] == "stretto"
    assert run([*words[1:], "--json"]) == 1
    again = json.loads(capsys.readouterr().out)["violation"]
    assert (again["kind"], again["time_ns"], again["seed"]) == (violation["kind"], violation["time_ns"], violation["seed"])
    (file,) = (tmp_path / "corpus").iterdir()
    assert file.name.startswith("failed-adaptive-")
    assert json.loads(file.read_bytes())["spec"] == small
    # Without shrinking, the corpus alone is run again.
    assert run([*fuzz, "--corpus", str(tmp_path / "corpus"), "--shrink", "0"]) == 1
    totals = json.loads(capsys.readouterr().out)
    assert [finding["spec"] for finding in totals["violations"]] == [small]


def test_a_corpus_keeps_what_reached_something_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fuzz = ["fuzz", "--seed", "5", "--workers", "1", "--corpus", str(tmp_path), "--json"]
    assert run([*fuzz, "--runs", "3"]) == 0
    reached = json.loads(capsys.readouterr().out)["features"]
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files
    assert all(name.startswith("reached-adaptive-") for name in files)
    assert run([*fuzz, "--runs", f"{len(files)}"]) == 0  # the same ones, and nothing new
    assert json.loads(capsys.readouterr().out)["features"] <= reached
    assert sorted(file.name for file in tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a corpus entry: Input data was truncated"),
        (
            '{"comment": "", "spec": {"protocol": "speculative", "size": 3}}',
            "is not a corpus entry: Object contains unknown field `size`",
        ),
        ('{"comment": "", "spec": {"protocol": "speculative", "replicas": 4}}', "replicas: 4 replicas are listed"),
    ],
)
def test_a_corpus_that_is_none(content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reached.json"
    file.write_text(content)
    assert run(["fuzz", "--runs", "1", "--corpus", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert f"{file}: " in printed
    assert message in printed


def running(corpus: Path, start_python: Callable[..., subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """A hunt that has begun. Its worker processes share its standard output, which therefore ends only with all of them."""
    process = start_python("-m", "stretto", "fuzz", "--seconds", "600", "--workers", "2", "--corpus", str(corpus), "--json")
    deadline = monotonic() + 60
    while not any(corpus.iterdir()) and monotonic() < deadline:
        sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_it_with_the_totals_so_far(
    number: signal.Signals, tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    process = running(tmp_path, start_python)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    totals = json.loads(out)
    assert totals["runs"] > 0
    assert "interrupted" in err
    assert "Traceback" not in err
    assert process.returncode == 130


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    process = running(tmp_path, start_python)
    process.send_signal(signal.SIGINT)
    sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode in (130, -signal.SIGINT)


def test_no_worker_outlives_a_hunt_that_is_killed(tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    process = running(tmp_path, start_python)
    process.kill()
    process.communicate(timeout=60)
