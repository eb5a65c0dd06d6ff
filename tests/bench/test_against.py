"""`stretto bench --against`: two source trees measured by turns. What it tells, and that nothing is left running. Never how fast."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stretto.bench.against import alternately, own_source, paired, source_of
from stretto.cli.main import run
from stretto.core.errors import ConfigurationError
from waiting import alive, wait_for

pytestmark = pytest.mark.xdist_group("processes")

HERE = Path(__file__).parents[2]


def quiet(what: str, done: float | None) -> None:
    """No progress."""


class Tree:
    """A tree whose figures are given."""

    def __init__(self, name: str, figures: list[dict[str, float]], order: list[str]) -> None:
        self._name = name
        self._figures = iter(figures)
        self._order = order

    def measure(self) -> dict[str, float]:
        """The next figures."""
        self._order.append(self._name)
        return next(self._figures)


def test_a_ratio_is_the_median_over_the_pairs_and_not_the_ratio_of_the_medians() -> None:
    order: list[str] = []
    this = Tree("this", [{"us": 2.0}, {"us": 30.0}, {"us": 9.0}], order)
    other = Tree("other", [{"us": 1.0, "new": 1.0}, {"us": 10.0}, {"us": 9.0}], order)
    result = paired(alternately(this.measure, other.measure), 3, quiet)
    assert result == {"pairs": 3, "figures": {"us": {"this": 9.0, "other": 9.0, "ratio": 2.0, "from": None, "to": None}}}
    assert order == ["this", "other", "other", "this", "this", "other"]  # each is first in turn


@pytest.mark.parametrize(("pairs", "interval"), [(5, (None, None)), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (40, (14, 27))])
def test_the_interval_is_that_of_the_sign_test(pairs: int, interval: tuple[int | None, int | None]) -> None:
    values = [{"us": float(number)} for number in range(1, pairs + 1)]
    result = paired(lambda number: (values[number], {"us": 1.0}), pairs, quiet)
    figure = result["figures"]["us"]
    assert (figure["from"], figure["to"]) == interval


def compare(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a comparison of this tree with itself prints."""
    assert run(["bench", "--against", str(HERE), *arguments, "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


@pytest.mark.parametrize("protocol", ["adaptive", "nopaxos", "unreplicated"])
def test_nodes_in_one_process(capsys: pytest.CaptureFixture[str], protocol: str) -> None:
    printed = compare(capsys, "--turns", "--pairs", "2", "--protocol", protocol, "--sessions", "7", "--operation", "kv")
    assert (printed["pairs"], printed["protocol"], printed["sessions"], printed["turns"]) == (2, protocol, 7, True)
    figures = printed["figures"]
    assert set(figures) == {"replica_us_per_op", "client_us_per_op", "process_us_per_op"}
    for figure in figures.values():
        assert figure["this"] > 0
        assert figure["other"] > 0
        assert figure["ratio"] > 0
    replicas = 1 if protocol == "unreplicated" else 3
    assert figures["process_us_per_op"]["this"] > replicas * figures["replica_us_per_op"]["this"] + figures["client_us_per_op"]["this"] / 2


def test_clusters_get_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    printed = compare(capsys, "--pairs", "1", "--seconds", "0.5", "--warm-up", "0.1", "--sessions", "4", "--one-request-per-datagram")
    figures = printed["figures"]
    assert {"throughput_ops_s", "replica_cpu_us_per_op", "client_cpu_us_per_op", "p50_us", "p99_us"} <= set(figures)
    # A datagram of its own for each request; with requests that share, four sessions need less than one.
    assert figures["datagrams_per_op"]["this"] > 1
    assert figures["datagrams_per_op"]["other"] > 1


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--against", str(HERE), "--turns", "--pairs", "1", "--protocol", "unreplicated"]) == 0
    output = capsys.readouterr().out
    for word in ("ratio", "replica_us_per_op", "client_us_per_op"):
        assert word in output


def test_a_tree_that_cannot_be_measured_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = checkout(tmp_path)
    for arguments, complaint in ((["--turns"], "No module named"), (["--seconds", "0.1"], "not today")):
        assert run(["bench", "--against", str(tmp_path), *arguments]) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert "\n" not in output.err.strip()
        assert str(package.parent) in output.err
        assert complaint in output.err


def checkout(directory: Path) -> Path:
    """The package in a tree that has hardly more than it must."""
    package = directory / "src" / "stretto"
    (package / "runtime").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("raise SystemExit('not today')")
    (package / "runtime" / "_batch.so").touch()
    return package


def test_what_is_no_checkout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="is no checkout of stretto"):
        source_of(tmp_path)
    package = checkout(tmp_path)
    assert source_of(tmp_path) == package.parent
    (package / "runtime" / "_batch.so").unlink()
    monkeypatch.setattr("stretto.bench.against.BATCHED", True)
    with pytest.raises(ConfigurationError, match="has no batched sockets"):
        source_of(tmp_path)
    monkeypatch.setattr("stretto.bench.against.BATCHED", False)
    assert source_of(HERE) == own_source()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--turns"], "--turns: only applies to a comparison of two source trees; name the other one with --against"),
        (["--pairs", "3"], "--pairs: only applies"),
        (["--against", str(HERE), "--pairs", "0"], "--pairs"),
        (["--against", "/no/such/place"], "--against: /no/such/place is no checkout of stretto"),
        (["--against", str(HERE), "--kill", "leader"], "--kill: does not apply to a comparison of two source trees"),
        (["--against", str(HERE), "--repeat", "3"], "--repeat: does not apply"),
        (["--against", str(HERE), "--config", "a.toml"], "--config: does not apply"),
        (["--against", str(HERE), "--turns", "--rate", "5"], "--rate: does not apply to nodes in one process"),
        (["--against", str(HERE), "--sessions", "0"], "--sessions"),
        (["--against", str(HERE), "--protocol", "paxos"], "'paxos' is not a protocol"),
    ],
)
def test_wrong_use(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert complaint in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--turns", "--pairs", "10000"], ["--seconds", "600"]])
def test_an_interrupt_ends_everything(tmp_path: Path, arguments: list[str], start_python: Callable[..., subprocess.Popen[str]]) -> None:
    command = ["-m", "stretto", "bench", "--against", str(HERE), *arguments]
    process = start_python(*command, env=os.environ | {"TMPDIR": str(tmp_path)})
    wait_for(lambda: len(alive(tmp_path)) >= 3, "bench and what it measures")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert "Traceback" not in errors
    wait_for(lambda: not alive(tmp_path), "no process")
    assert list(tmp_path.iterdir()) == []
