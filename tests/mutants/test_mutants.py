"""Planted bugs: each still fits the source, some are found here and now, and what changes nothing is not taken for found."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from types import ModuleType

import pytest

from stretto.cli import mutants as mutants_command
from stretto.cli.main import run
from stretto.mutants.hunters import network, swarm
from stretto.mutants.hunting import mutated
from stretto.mutants.mutant import Mutant, MutantError
from stretto.mutants.schedules import ScheduleError, Script
from stretto.mutants.table import MUTANTS

HARMLESS = Mutant(
    "harmless",
    "Nothing",
    "stretto.protocols.speculative.client",
    "self._conflicts += 1",
    "self._conflicts += 2",
    network(3),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_source_and_runs(mutant: Mutant) -> None:
    import_module(mutant.module)  # dataclasses look their module up
    exec(compile(mutated(mutant), mutant.module, "exec"), ModuleType(mutant.module).__dict__)


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.hunter.beginning], ids=lambda mutant: mutant.name)
def test_every_schedule_can_still_be_played(mutant: Mutant) -> None:
    script = mutant.hunter.beginning
    assert script is not None
    schedule = script.played()
    assert len(schedule.steps) == len(script.steps.split("\n")) - 2
    assert schedule.violation is None


@pytest.mark.parametrize("step", ["r0 gets Request from c0", "r1 restarts", "r0 timer nothing"])
def test_a_step_that_is_not_possible_is_named(step: str) -> None:
    with pytest.raises(ScheduleError, match=step):
        Script("multipaxos", "operations=1,crashes=0", f"r1 late leader\n{step}").played()


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25


@pytest.mark.parametrize(("source", "count"), [("a = 1", 0), ("self._conflicts += 1; self._conflicts += 1", 2)])
def test_a_place_that_is_not_found_or_not_the_only_one_is_a_failure(source: str, count: int) -> None:
    with pytest.raises(MutantError, match=f"mutant harmless: its old text occurs {count} times in stretto.protocols.*, not once"):
        HARMLESS.plant(source)


def test_some_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        "undo-without-machine",
        "merge-with-duplicates",
        "vote-after-state-loss",
        "entry-not-persisted",
        "answers-of-two-views-counted",
    ]
    assert run(["mutants", *(word for name in names for word in ("--only", name)), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["mutants"], report["found"]) == (5, 5)
    assert [finding["mutant"] for finding in report["findings"]] == names
    assert all(finding["effort"]["runs"] > 0 for finding in report["findings"][:4])
    assert report["findings"][4]["effort"]["walks"] > 0


def test_what_changes_nothing_is_not_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mutants_command, "MUTANTS", (HARMLESS,))
    assert run(["mutants", "--budget", "1", "--markdown"]) == 1
    heading, _, row = capsys.readouterr().out.splitlines()
    assert heading.startswith("| mutant | rule |")
    assert row.startswith("| harmless | Nothing | fuzz --protocol speculative --replicas 3 ")
    assert "| NOT FOUND |" in row


def test_what_fails_without_the_mutant_too_is_not_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    impatient = replace(HARMLESS, hunter=swarm("--operations-per-run", "5", "--set", "settle_ns=1"))
    monkeypatch.setattr(mutants_command, "MUTANTS", (impatient,))
    assert run(["mutants", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert not finding["found"]
    assert finding["kind"] == "found without the mutant too"


def test_a_hunter_that_fails_has_not_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mutants_command, "MUTANTS", (replace(HARMLESS, hunter=swarm("--faults", "fire")),))
    assert run(["mutants", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["kind"] == "the hunter failed"
    assert "'fire' is not a fault" in finding["description"]


def test_a_mutant_that_does_not_fit_ends_it_before_it_begins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mutants_command, "MUTANTS", (HARMLESS, replace(HARMLESS, old="no such text")))
    assert run(["mutants"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "its old text occurs 0 times" in printed.err


def test_an_unknown_mutant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mutants", "--only", "nobody"]) == 2
    assert "'nobody' is not a mutant" in capsys.readouterr().err


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mutants", "--list", "--only", "undo-without-machine", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["mutant"] == "undo-without-machine"
    assert row["hunter"].startswith("fuzz --protocol speculative --replicas 3")
    assert run(["mutants", "--list"]) == 0
    assert "undo-without-machine" in capsys.readouterr().out


def test_ctrl_c_ends_it_with_what_there_is(start_python: Callable[..., subprocess.Popen[str]]) -> None:
    names = ["merge-with-duplicates", "last-normal-view-from-the-log"]
    process = start_python("-m", "stretto", "mutants", *(word for name in names for word in ("--only", name)), "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    first = next(line for line in process.stderr if "merge-with-duplicates:" in line)
    process.send_signal(signal.SIGINT)
    errors = process.stderr.read()
    report = json.loads(process.stdout.read())
    assert process.wait(60) == 130
    assert "NOT FOUND" not in first
    assert (report["mutants"], report["found"]) == (2, 1)
    assert "interrupted" in errors
    assert "Traceback" not in errors
