"""Torture on real processes: a short run of each durability, and that it leaves nothing, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stretto.cli.main import run
from stretto.runtime.namespaces import WHERE
from stretto.torture.leftovers import remove_leftovers
from stretto.torture.schedule import KINDS

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where runs make their directories, which are removed in the end; the working directory is another."""
    place = tmp_path / "tmp"
    place.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path / "here")
    yield place
    remove_leftovers()


def check_nothing_is_left(place: Path) -> None:
    assert list(place.iterdir()) == []
    assert str(place) not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize("durability", ["memory", "disk"])
def test_a_cluster_survives_torture(capsys: pytest.CaptureFixture[str], place: Path, durability: str) -> None:
    seed = 11
    status = run(["torture", "--seconds", "10", "--seed", str(seed), "--durability", durability, "--keep", "kept", "--json"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == 0, f"stretto torture --seconds 10 --seed {seed} --durability {durability}: {report}"
    assert (report["verdict"], report["lost"], report["repeated"], report["died"]) == ("ok", 0, 0, {})
    assert (report["seed"], report["replicas"], report["durability"]) == (seed, 3, durability)
    assert report["operations"] > report["checked"] > 50
    assert set(report["faults"]) | set(report["skipped"]) <= set(KINDS)
    assert not set(report["faults"]) & set(report["skipped"])
    assert len(report["faults"]) >= 3
    assert ("wipe" in report["skipped"]) == ("power_cut" in report["skipped"]) == (durability == "memory")
    assert report["back_in_service_ms"] is not None
    check_nothing_is_left(place)
    check_kept(Path("kept"), report)


def check_kept(kept: Path, report: dict[str, Any]) -> None:
    assert sum(1 for _ in (kept / "history.jsonl").open()) == report["checked"]
    events = [json.loads(line) for line in (kept / "faults.jsonl").read_text().splitlines()]
    begun = [event["fault"] for event in events if event["event"] == "begun"]
    assert {kind: begun.count(kind) for kind in begun} == report["faults"]
    assert len([event for event in events if event["event"] == "back"]) == report["recoveries"]["count"]
    assert json.loads((kept / "report.json").read_text()) == report
    assert {path.name for path in kept.iterdir()} >= {"cluster.toml", "replica-0.log", "replica-1.log", "replica-2.log"}


def test_without_root_it_is_on_loopback_and_says_what_it_skips(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stretto.runtime.namespaces.os.geteuid", lambda: os.getuid() + 1)
    assert run(["torture", "--seconds", "2", "--seed", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    network = {kind for kind in KINDS if KINDS[kind].network}
    assert {report["skipped"][kind] for kind in network} == {"network namespaces need root"}
    assert report["faults"]
    assert not set(report["faults"]) & network
    check_nothing_is_left(place)


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["torture", "--seconds", "1", "--seed", "3", "--faults", "pause"]) == 0
    output = capsys.readouterr()
    assert "seed 3" in output.out
    assert "0 lost (acknowledged and gone), 0 repeated" in output.out
    assert "ok (" in output.out


class Run:
    """A run in a process of its own, under way."""

    def __init__(self, place: Path, start_python: Callable[..., subprocess.Popen[str]], *arguments: str) -> None:
        self.process = start_python("-m", "stretto", "torture", "--json", *arguments)
        deadline = time.monotonic() + 60
        while not any(event["event"] == "begun" for event in self.events(place)):
            assert time.monotonic() < deadline, "no fault has struck"
            time.sleep(0.05)

    def events(self, place: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for path in place.rglob("faults.jsonl") for line in path.read_text().splitlines()]

    def end(self) -> tuple[int, dict[str, Any]]:
        output, errors = self.process.communicate(timeout=60)
        assert "Traceback" not in errors
        return self.process.returncode, json.loads(output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_early_with_what_there_is(place: Path, number: signal.Signals, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    torture = Run(place, start_python, "--seconds", "600", "--seed", "5")
    torture.process.send_signal(number)
    status, report = torture.end()
    assert status == 0
    assert report["seconds"] < 600
    assert report["faults"]
    assert report["operations"] > report["checked"] > 0
    check_nothing_is_left(place)


def test_a_replica_that_ends_by_itself_is_reported_and_everything_kept(
    place: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    torture = Run(place, start_python, "--seconds", "600", "--seed", "5", "--faults", "pause")
    pid = int(next(place.rglob("replica-2.pid")).read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    status, report = torture.end()
    assert status == 1
    assert list(report["died"]) == ["2"]
    assert report["lost"] == 0
    assert report["kept"] == "stretto-torture-5"
    check_kept(Path(report["kept"]), report)
    check_nothing_is_left(place)


def test_a_run_that_is_killed_is_cleaned_up_by_the_next(
    capsys: pytest.CaptureFixture[str], place: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    torture = Run(place, start_python, "--seconds", "600", "--seed", "5")
    (left,) = place.iterdir()
    pids = [int(path.read_text().split()[0]) for path in left.rglob("replica-*.pid")]
    torture.process.kill()
    torture.process.communicate()
    assert run(["torture", "--seconds", "1", "--faults", "pause"]) == 0
    assert f"removed what an earlier run left: {left}" in capsys.readouterr().err
    assert not any(b"stretto" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids if Path(f"/proc/{pid}").exists())
    assert list(WHERE.glob(f"{left.name}*")) == []
    check_nothing_is_left(place)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replicas", "1"], "--replicas: 1 replicas survive no fault; 3 or more"),
        (["--replicas", "4"], "4 replicas are listed; an odd number"),
        (["--faults", "kill,flood"], "--faults: 'flood' is not a kind of fault; there are kill, terminate"),
        (["--faults", "wipe"], "--faults: wipe: the replicas have no disk; --durability disk gives them one"),
        (["--protocol", "raft"], "'raft' is not a protocol"),
        (["--protocol", "unreplicated"], "3 replicas are listed; the protocol unreplicated has at most 1"),
        (["--seconds", "0"], "--seconds"),
        (["--rate", "1"], "--rate"),
    ],
)
def test_wrong_use_is_reported_in_one_line(capsys: pytest.CaptureFixture[str], place: Path, arguments: list[str], message: str) -> None:
    assert run(["torture", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    check_nothing_is_left(place)
