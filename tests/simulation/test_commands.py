"""`stretto simulate` and `stretto fuzz`: what they print, what they exit with, and that a run can be had again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from stretto.catalog import protocol_names
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
    assert violation["kind"] == "wrong result"
    assert violation["command"] in printed.err.replace("\n", "")
    assert "--seed 4" in finding["found_with"]
    # It is smaller than what was found, and fails in the same way, as the command and as the file in the corpus say.
    small = finding["spec"]
    assert (small["operations"], small["replicas"], small["faults"]) == (1, 3, [])
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
        ("{", "is no run of a corpus: Input data was truncated"),
        ('{"comment": "", "spec": {"protocol": "speculative", "size": 3}}', "is no run of a corpus: Object contains unknown field `size`"),
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


def test_an_interrupt_ends_it_with_the_totals_so_far(tmp_path: Path) -> None:
    program = "import sys; from stretto.cli.main import run; sys.exit(run(sys.argv[1:]))"
    arguments = ["fuzz", "--seconds", "60", "--workers", "1", "--corpus", str(tmp_path), "--json"]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = monotonic() + 30
        while not any(tmp_path.iterdir()) and monotonic() < deadline:
            sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    totals = json.loads(out)
    assert totals["runs"] > 0
    assert totals["seconds"] < 60
    assert b"interrupted" in err
    assert process.returncode == 0
