"""`stretto explore`: what it prints, what it exits with, and that a violation can be had again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stretto.cli.main import run
from stretto.replication.quorums import Quorums

SMALL = ["explore", "--bounds", "clients=1,operations=1,timers=0"]
GUIDED = ["explore", "--guided", "--seed", "3", "--bounds", "operations=4,timers=12,views=9"]


def test_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["mode"], result["protocol"], result["durability"]) == ("exhaustive", "adaptive", "memory")
    assert result["exhausted"]
    assert result["violation"] is None
    assert result["bounds"]["timers"] == 0
    assert result["states"] > 1
    assert result["transitions"] >= result["states"] - 1
    assert result["depth"] > 1


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--durability", "disk"]) == 0
    printed = capsys.readouterr().out
    assert "bounds exhausted  yes" in printed
    assert "violation         none" in printed


def test_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explore", "--bounds", "timers=2", "--seconds", "0.000001", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["exhausted"]


def test_walks_are_decided_by_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*GUIDED, "--seconds", "0.000001", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out), None
    assert run([*GUIDED, "--seconds", "0.000001", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert first["walks"] == second["walks"] > 0
    assert first["steps"] == second["steps"]


def test_a_superquorum_that_is_one_too_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real protocol with a planted bug: found within 1,000 walks, described, saved and replayed; the right protocol passes the
    replay."""
    right = Quorums.of(3)
    monkeypatch.setattr(Quorums, "of", lambda n: replace(right, superquorum=right.superquorum - 1))
    file = tmp_path / "found.json"
    assert run([*GUIDED, "--seconds", "600", "--save", str(file), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["walks"] <= 1_000
    assert result["violation"]["schedule"]["violation"]["kind"] in ("accepted result lost", "not linearizable", "commits differ")
    assert json.loads(file.read_text()) == result["violation"]["schedule"]
    assert run(["explore", "--replay", str(file)]) == 1
    printed = capsys.readouterr().out.rstrip().splitlines()
    assert printed == result["violation"]["description"]
    assert printed[-1].startswith("  r2: view ")
    monkeypatch.setattr(Quorums, "of", lambda n: right)
    assert run(["explore", "--replay", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["violation"] is None
    # Walks from near its end find it again, if the bug is there.
    schedule = json.loads(file.read_text())
    beginning = tmp_path / "beginning.json"
    beginning.write_text(json.dumps({**schedule, "violation": None, "steps": schedule["steps"][:-2]}))
    assert run([*GUIDED, "--seconds", "0.000001", "--after", str(beginning), "--json"]) == 0
    assert run([*GUIDED, "--protocol", "multipaxos", "--after", str(beginning)]) == 2
    assert "is a schedule of adaptive, not of multipaxos" in capsys.readouterr().err
    monkeypatch.setattr(Quorums, "of", lambda n: replace(right, superquorum=right.superquorum - 1))
    assert run([*GUIDED, "--seconds", "600", "--after", str(beginning), "--json"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bounds", "losses=1"], "bounds: 'losses' is not a bound"),
        (["--protocol", "magic"], "'magic' is not a protocol"),
        (["--protocol", "unreplicated"], "at most 1"),
        (["--seconds", "0"], "Invalid value for '--seconds'"),
        (["--durability", "tape"], "Invalid value for '--durability'"),
        (["--replay", "/nowhere/found.json"], "/nowhere/found.json: cannot be read: No such file"),
        (["--replay", __file__], "is not a schedule"),
        (["--after", __file__], "--after: begins the walks of a guided search: add --guided"),
        (["--guided", "--after", __file__], "is not a schedule"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explore", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
