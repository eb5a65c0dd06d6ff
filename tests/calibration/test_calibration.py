"""Calibration: the fit finds the costs that samples were made of, the file is checked, and simulation agrees with what it was fitted to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from stretto.calibration import costs, loads, validation
from stretto.calibration.costs import CostFile, Fit
from stretto.calibration.fit import fit, nonnegative_least_squares
from stretto.calibration.loads import Load, Sample, typical
from stretto.calibration.microbenchmarks import Microbenchmarks, run_microbenchmarks
from stretto.calibration.validation import compare, simulated
from stretto.cli.main import run
from stretto.core.errors import ConfigurationError
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

TRUE = {
    "burst_ns": 15_000.0,
    "receive_datagram_ns": 1_200.0,
    "send_datagram_ns": 3_000.0,
    "receive_message_ns": 1_200.0,
    "send_message_ns": 60.0,
    "execute_ns": 1_100.0,
}
COSTS = Costs(**{name: round(cost) for name, cost in TRUE.items()})
FILE = CostFile(
    COSTS,
    COSTS,
    receive_message_ns={"multipaxos": {"replica": 5_000, "client": 900}},
    crowding_ns={"replica": 20_000, "client": 10_000},
    fit={"replica": Fit(1, 0.1, 0.1)},
    measured_on={},
)


def sample(bursts: float, datagrams: float, messages: float, sent: float, noise: float = 1.0, index: int = 0) -> Sample:
    load = Load("speculative", int(messages))
    counts = dict(zip(TRUE, (bursts, datagrams, bursts * 1.5, messages, sent, messages), strict=True)) | {"crowding_ns": 0.0}
    return Sample(load, "replica", index, index == 0, 2.0, noise * sum(TRUE[name] * counts[name] for name in TRUE), 1_000.0, counts)


def test_least_squares_without_negative_costs() -> None:
    a = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert nonnegative_least_squares(a, np.array([1.0, 3.0, 5.0])) == pytest.approx([1, 2])
    # The best of all has a negative slope; the best of those that do not is flat.
    assert nonnegative_least_squares(a, np.array([5.0, 3.0, 1.0])) == pytest.approx([3, 0])


def test_the_fit_finds_the_costs_that_samples_are_made_of() -> None:
    random = Random(1)
    samples = [sample(b, b * d, b * d * m, b * d * m) for b in (10, 100) for d in (1, 4, 16) for m in (1, 8, 64)]
    microbenchmarks = Microbenchmarks(**{name: cost / 2 for name, cost in TRUE.items() if name != "burst_ns"})
    found, quality = fit(samples, microbenchmarks)
    found["receive_message_ns"] = found.pop("receive_message_ns of speculative")
    assert found == pytest.approx(TRUE, rel=0.02)
    assert quality.samples == 18
    assert quality.worst < 0.01
    noisy = [sample(b, b * d, b * d * m, b * d * m, random.uniform(0.9, 1.1)) for b in (10, 100) for d in (1, 4, 16) for m in (1, 8, 64)]
    found, quality = fit(noisy, microbenchmarks)
    assert found["burst_ns"] == pytest.approx(TRUE["burst_ns"], rel=0.25)
    assert 0.01 < quality.rms < 0.1


def test_what_loads_cannot_tell_apart_is_divided_in_the_proportions_of_the_microbenchmarks() -> None:
    samples = [sample(b, b * d, b * d * m, b * d * m) for b in (10, 100) for d in (1, 4) for m in (1, 64)]
    found, _ = fit(samples, Microbenchmarks(1_000, 2_000, receive_message_ns=300, send_message_ns=100, execute_ns=600))
    assert found["execute_ns"] == pytest.approx(2 * found["receive_message_ns of speculative"], rel=0.1)
    together = sum(found[name] for name in ("receive_message_ns of speculative", "send_message_ns", "execute_ns"))
    assert together == pytest.approx(1_200 + 60 + 1_100, rel=0.02)


def test_the_median_of_repeats_stands_for_a_process() -> None:
    repeats = [sample(10, 10, 40, 40, noise, index) for index in (0, 1) for noise in (1.0, 3.0, 1.1)]
    assert [chosen.cpu_ns for chosen in typical(repeats)] == [repeats[2].cpu_ns, repeats[5].cpu_ns]


def test_microbenchmarks_are_measured() -> None:
    microbenchmarks = run_microbenchmarks()
    assert min(vars(microbenchmarks).values()) > 0
    assert microbenchmarks.execute_ns > microbenchmarks.send_message_ns


def test_a_file_is_what_was_saved(tmp_path: Path) -> None:
    costs.save(FILE, tmp_path / "costs.json")
    assert costs.load(tmp_path / "costs.json") == FILE
    assert FILE.of(SimulationSpec("speculative")).costs == COSTS
    assert FILE.of(SimulationSpec("multipaxos")).costs.receive_message_ns == 5_000
    assert FILE.of(SimulationSpec("multipaxos")).client_costs.receive_message_ns == 900
    assert [file.name for file in tmp_path.iterdir()] == ["costs.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "stretto costs 2"}, "costs.json: format: Invalid enum value 'stretto costs 2'"),
        ({"replica": {}}, "costs.json: replica.receive_datagram_ns: is missing"),
        ({"replica": {"burst_ns": "long"}}, "costs.json: replica.burst_ns: Expected `int`, got `str`"),
        ({"client": {**dict.fromkeys(TRUE, 1), "burst_ns": -5}}, "costs.json: client.burst_ns: -5 is too small; 0 or more"),
        ({"client": {**dict.fromkeys(TRUE, 1), "queue": 0}}, "costs.json: client.queue: 0 is too small; 1 or more"),
        ({"crowding_ns": {"replica": 1}}, "costs.json: crowding_ns.client: is missing or negative"),
        ({"receive_message_ns": {"a": {"replica": 1}}}, "costs.json: receive_message_ns.a.client: is missing or negative"),
        ({"speed": 1}, "costs.json: Object contains unknown field `speed`"),
    ],
)
def test_a_file_that_is_wrong(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    costs.save(FILE, file)
    file.write_text(json.dumps(json.loads(file.read_bytes()) | change))
    with pytest.raises(ConfigurationError) as caught:
        costs.load(file)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate", "--check", "/nowhere/costs.json"], "/nowhere/costs.json: cannot be read: No such file or directory"),
        (["calibrate", "--out", "/nowhere/costs.json"], "/nowhere/costs.json: cannot be written: there is no directory /nowhere"),
        (["calibrate", "--protocol", "magic"], "'magic' is not a protocol"),
        (["calibrate", "--seconds", "0"], "Invalid value for '--seconds': 0.0 is not in the range"),
        (["simulate", "--costs", "/nowhere/costs.json"], "make one with: stretto calibrate --out /nowhere/costs.json"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_simulated_machines_spend_what_the_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "costs.json"
    costs.save(FILE, file)
    simulate = ["simulate", "--protocol", "unreplicated", "--sessions", "1", "--operations", "50", "--json"]
    assert run(simulate) == 0
    free = json.loads(capsys.readouterr().out)
    assert run([*simulate, "--costs", str(file), "--set", "costs.burst_ns=1"]) == 0
    charged = json.loads(capsys.readouterr().out)
    assert charged["spec"]["costs"]["burst_ns"] == 1
    assert charged["spec"]["client_costs"]["burst_ns"] == 15_000
    assert charged["latency_us"]["p50"] > free["latency_us"]["p50"] + 15


def test_processes_that_share_cores_are_simulated_so(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load("unreplicated", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    alone = simulated(load, FILE, 1)["leader"]["cpu_us"]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert simulated(load, FILE, 1)["leader"]["cpu_us"] == pytest.approx(alone + 20, rel=0.01)


@pytest.mark.xdist_group("processes")
def test_a_calibration_and_its_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(loads, "_QUICK_SHAPES", ((1, 1, False), (16, 2, True)))
    monkeypatch.setattr(validation, "_SHAPES", ((4, 1, False),))
    file = tmp_path / "costs.json"
    short = ["--protocol", "unreplicated", "--quick", "--seconds", "0.1", "--json"]
    assert run(["calibrate", "--out", str(file), *short]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["replica"]["burst_ns"] + printed["replica"]["send_datagram_ns"] > 0
    assert printed["fit"]["replica"]["samples"] == 2
    assert costs.load(file).replica.execute_ns == printed["replica"]["execute_ns"] > 0
    assert run(["calibrate", "--check", str(file), *short]) == 0
    rows = json.loads(capsys.readouterr().out)["loads"]
    for row in rows:
        assert row["measured"]["leader"]["messages_received"] == pytest.approx(1.0, abs=0.2)
        assert row["simulated"]["leader"]["messages_received"] == pytest.approx(1.0, abs=0.05)
        assert 0.1 < row["simulated_ratio"]["leader"] < 10
        assert 0.1 < row["charged_ratio"]["leader"] < 10


@pytest.mark.xdist_group("processes")
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    command = ["-m", "stretto", "calibrate", "--seconds", "600", "--out", str(tmp_path / "costs.json")]
    process = start_python(*command, env=os.environ | {"TMPDIR": str(tmp_path)})
    deadline = monotonic() + 60
    while not list(tmp_path.glob("*/replica-0.pid")) and monotonic() < deadline:
        sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_has_all_roles() -> None:
    load = Load("speculative", 4)
    counts = dict.fromkeys([*TRUE, "crowding_ns"], 100.0)
    samples = [Sample(load, "replica", index, index == 1, 1.0, 5e6, 100.0, counts) for index in range(3)]
    row = compare(load, samples, FILE)
    assert row["measured"]["leader"] == row["measured"]["follower"]
    assert row["measured"]["leader"]["cpu_us"] == 50.0
    assert row["measured"]["leader"]["bursts"] == 1.0
    assert row["measured"]["leader"]["charged_us"] == pytest.approx((sum(TRUE.values()) + 20_000) / 1e3)
    assert set(row["simulated_ratio"]) == {"leader", "follower"}
