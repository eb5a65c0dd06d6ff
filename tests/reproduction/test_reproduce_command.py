"""The command: a small reproduction from costs to report, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stretto.calibration import costs
from stretto.calibration.costs import CostFile, Fit
from stretto.cli.main import run
from stretto.reproduction import experiments
from stretto.reproduction.experiment import Scope
from stretto.simulation.world import Costs


@pytest.fixture
def costs_file(tmp_path: Path) -> Path:
    spent, fit = Costs(1_000, 500, 1_000, 500), Fit(1, 0.1, 0.1)
    path = tmp_path / "costs.json"
    costs.save(CostFile(spent, spent, {"replica": 0, "client": 0}, {"replica": fit, "client": fit}, {}), path)
    return path


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a few points of the experiment about messages, and small ones."""
    monkeypatch.setattr(Scope, "sized", lambda self, quick, full: 60)
    monkeypatch.setattr("stretto.reproduction.experiments.messages._SESSIONS", 4)


def test_a_reproduction(tmp_path: Path, costs_file: Path, tiny: None, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["reproduce", "--quick", "--only", "messages", "--out", str(out), "--costs", str(costs_file), "--workers", "1"]
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    verdicts = {claim["claim"]: claim["verdict"] for claim in report["claims"]}
    assert verdicts["two-delays"] == "reproduced"
    assert sorted(path.name for path in out.iterdir()) == ["messages.csv", "report.html", "results.json", "rows.jsonl"]
    page = (out / "report.html").read_text()
    assert "2.00 message delays" in page
    assert str(costs_file) in page

    rows = (out / "rows.jsonl").read_bytes()
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert "report:" in said.out
    assert "first seed 1" in " ".join(said.err.split())
    assert (out / "rows.jsonl").read_bytes() == rows, "the second run has nothing to do"
    assert run([*arguments, "--fresh"]) == 0
    assert (out / "rows.jsonl").read_bytes() != rows


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "nonsense"], "'nonsense' is not an experiment; there are comparison, "),
        (["--costs", "nowhere.json"], "nowhere.json"),
        (["--workers", "0"], "0"),
        (["--out", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["reproduce", "--quick", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.strip().count("\n") == 0
    assert "Traceback" not in error


def test_names_of_experiments_are_those_of_their_modules() -> None:
    for name in experiments.NAMES:
        assert experiments.experiment(name).name == name
    assert len({claim.name for name in experiments.NAMES for claim in experiments.experiment(name).claims}) > 10
