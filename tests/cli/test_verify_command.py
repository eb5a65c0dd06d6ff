"""`stretto verify`: what it prints, draws and returns, also when the input is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_workload import workload
from stretto.cli import verify
from stretto.cli.main import run
from stretto.services.service import ServiceMachine
from stretto.verify import linearizability
from stretto.verify.generate import concurrent_history
from stretto.verify.history import to_lines

HISTORIES = Path(__file__).parents[1] / "verify" / "histories"
REGISTER = ("--format", "jepsen", "--model", "cas-register")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A history that a store with a mistake gave."""
    file = tmp_path / "history.jsonl"
    operations = concurrent_history(ServiceMachine(KeyValueStore), lambda random: workload(random, 3), Random(1), 400, 5, 0.01, 200)
    file.write_bytes(b"".join(to_lines(operations)))
    return file


def rows(text: str) -> list[Any]:
    """The JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_row_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(HISTORIES / name) for name in ("register-ok.log", "register-bad.log")]
    assert run(["verify", *files, *REGISTER, "--json"]) == 1
    good, bad = rows(capsys.readouterr().out)
    assert (good["file"], good["verdict"], good["operations"], good["failure"]) == (files[0], "ok", 9, None)
    assert good["seconds"] >= 0
    assert (bad["file"], bad["verdict"]) == (files[1], "not linearizable")
    failure = bad["failure"]
    assert (failure["failing"]["operation"], failure["failing"]["called"], failure["failing"]["returned"]) == ("read: 3", 19, 20)
    assert failure["failing"]["place"] is None
    assert failure["failing"] in failure["involved"]
    assert (failure["prefix"], failure["is_shortest"], failure["keys"]) == (8, True, ["the register"])


def test_all_are_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(HISTORIES / "kv-ok.txt"), "--format", "edn", "--model", "kv"]) == 0
    assert "ok" in capsys.readouterr().out


def test_the_output_explains_the_violation(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "plot.html"
    assert run(["verify", str(recorded), "--plot", str(plot)]) == 1
    shown = capsys.readouterr()
    assert f"{recorded}: no order explains the answer to process" in shown.out
    assert "shortest beginning that fails has" in shown.out
    assert f"1 of 1 histories drawn in {plot}" in shown.err
    assert "<svg" in plot.read_text()


def test_the_budget(recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_MOST_CONFIGURATIONS", 1)
    assert run(["verify", str(recorded), "--json"]) == 1
    [row] = rows(capsys.readouterr().out)
    assert row["verdict"] in ("unknown", "not linearizable")
    assert row["undecided"] or row["failure"]["is_shortest"] is False


def test_ctrl_c_keeps_what_there_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    checked = linearizability.check_steps

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(verify, "check_steps", _interrupt)
        return checked(*arguments)

    monkeypatch.setattr(verify, "check_steps", interrupted)
    file = str(HISTORIES / "register-ok.log")
    assert run(["verify", file, file, *REGISTER, "--json"]) == 130
    shown = capsys.readouterr()
    assert len(rows(shown.out)) == 1
    assert f"interrupted at {file}" in shown.err


def _interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("text", "arguments", "problem"),
    [
        (b"{}", (), "history: line 1: Object missing required field"),
        (b'{"process":0,"operation":"/w==","called_ns":0}', (), "history: line 1: no operation of KeyValueStore"),
        (b"", (), "history: no operation was found"),
        (b"", REGISTER, "history: no operation was found"),
        (b"hello\n", REGISTER, "history: line 1: not of the form"),
        (b"\xff\n", ("--format", "edn"), "history: line 1: "),
        (b"", ("--model", "cas-register"), "format: histories for the model cas-register are in jepsen or edn, not in jsonl"),
    ],
)
def test_files_that_are_wrong(
    text: bytes,
    arguments: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("history").write_bytes(text)
    assert run(["verify", "history", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"stretto: {problem}")
    assert shown.err.count("\n") == 1


def test_what_cannot_be_read_or_written(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "/nowhere/history"]) == 2
    assert "/nowhere/history: cannot be read: No such file" in capsys.readouterr().err
    assert run(["verify", str(recorded), "--plot", "/nowhere/plot.html"]) == 2
    assert "/nowhere/plot.html: cannot be written: No such file" in capsys.readouterr().err
    assert run(["verify"]) == 2
    assert "Missing argument 'FILE...'" in capsys.readouterr().err


def test_the_benchmark(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from stretto.bench import verification

    small = (verification.Case("small", 200, 100, scans=True), verification.Case("lost", 800, 100, scans=True, lose_at=400))
    monkeypatch.setattr(verification, "CASES", small)
    assert run(["verify", "--benchmark", "--json"]) == 0
    assert [(row["case"], row["verdict"]) for row in rows(capsys.readouterr().out)] == [("small", "ok"), ("lost", "not linearizable")]
    assert run(["verify", "--benchmark"]) == 0
    assert "not linearizable" in capsys.readouterr().out
