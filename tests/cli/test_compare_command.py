"""Results side by side: the figures, what is said of them, and how wrong files are refused."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stretto.bench.comparison import probability_apart
from stretto.bench.histogram import Histogram
from stretto.bench.report import combined
from stretto.cli.main import run


def figures(throughput: float = 1_000.0, **changed: Any) -> dict[str, Any]:
    """One run, as `bench --json` prints it, as far as it is compared."""
    histogram = Histogram()
    histogram.record(np.arange(1, 1_001) * 1_000)
    machine = {"processor": "P", "cores": 2, "kernel": "K", "python": "3", "hash_ns": 400.0, "commit": None, "version": "1"}
    return {
        "protocol": "speculative",
        "replicas": 3,
        "durability": "memory",
        "client_processes": 1,
        "sessions": 32,
        "rate_ops_s": None,
        "seed": 0,
        "seconds": 5.0,
        "warm_up_s": 1.0,
        "operation": "null",
        "one_request_per_datagram": False,
        "restart": False,
        "throughput_ops_s": throughput,
        "latency_us": histogram.summary_us(),
        "longest_gap_ms": 3.0,
        "leader": 1,
        "replica_cpu_us_per_op": [4.0, 10.0, 6.0],
        "client_cpu_us_per_op": 8.0,
        "datagrams_per_op": 0.5,
        "kill": None,
        "latency_histogram": histogram.to_json(),
        "measured_on": machine,
    } | changed


def write(file: Path, *runs: dict[str, Any]) -> str:
    """A file of these runs."""
    file.write_text(json.dumps(combined(list(runs))))
    return str(file)


def compared(capsys: pytest.CaptureFixture[str], *files: str) -> dict[str, Any]:
    """What the command says of them."""
    assert run(["compare", *files, "--json"]) == 0
    comparison: dict[str, Any] = json.loads(capsys.readouterr().out)
    return comparison


def test_medians_ratio_and_whether_ranges_are_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / "a.json", figures(100), figures(300), figures(200))
    above = write(tmp_path / "b.json", figures(301), figures(500), figures(400))
    touching = write(tmp_path / "c.json", figures(300), figures(500), figures(400))
    comparison = compared(capsys, first, above, touching)
    a, b, c = comparison["figures"]["throughput_ops_s"]
    assert a == {"median": 200, "least": 100, "greatest": 300}
    assert b == {"median": 400, "least": 301, "greatest": 500, "ratio": 2.0, "verdict": "apart"}
    assert (c["ratio"], c["verdict"]) == (2.0, "overlap")
    assert comparison["by_chance"] == [None, 0.1, 0.1]
    assert comparison["differences"] == {}
    assert comparison["figures"]["leader_cpu_us_per_op"][0]["median"] == 10.0
    assert comparison["figures"]["follower_cpu_us_per_op"][0]["median"] == 5.0
    assert "kill_gap_ms" not in comparison["figures"]


def test_of_few_runs_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path / "a.json", figures(1)), write(tmp_path / "b.json", figures(9), figures(9), figures(9))]
    comparison = compared(capsys, *files)
    assert comparison["figures"]["throughput_ops_s"][1]["verdict"] is None
    assert comparison["by_chance"] == [None, None]
    assert run(["compare", *files]) == 0
    assert "3 runs of b and 1 of a: too few to tell a difference from chance" in capsys.readouterr().out


def test_the_probability_is_that_of_all_ways_to_mix_the_runs() -> None:
    for mine, others in ((3, 3), (3, 5), (4, 4)):
        ways = list(combinations(range(mine + others), mine))
        apart = [way for way in ways if max(way) < mine or min(way) >= others]
        assert probability_apart(mine, others) == len(apart) / len(ways)


def test_what_was_not_the_same_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = figures()["measured_on"] | {"hash_ns": 441.0, "cores": 4}
    first, other = figures(), figures(sessions=64, rate_ops_s=100.0, measured_on=slow, kill={"target": "leader", "gap_ms": 50.0})
    files = [write(tmp_path / "a.json", first), write(tmp_path / "b.json", other | {"protocol": "unreplicated"})]
    expected = {"sessions": [32, 64], "rate_ops_s": [None, 100.0], "kill": [None, "leader"], "cores": [2, 4], "hash_ns": [400.0, 441.0]}
    comparison = compared(capsys, *files)
    assert comparison["differences"] == expected
    assert comparison["figures"]["kill_gap_ms"][0] is None
    assert run(["compare", *files]) == 0
    output = capsys.readouterr().out
    assert "Not the same: sessions 32 | 64" in output
    assert "gap after the kill" in output


def test_results_from_before_there_were_histograms_can_be_compared_but_not_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {name: value for name, value in figures().items() if name not in ("latency_histogram", "leader", "rate_ops_s", "warm_up_s")}
    (tmp_path / "old.json").write_text(json.dumps(old))
    files = [write(tmp_path / "new.json", figures()), str(tmp_path / "old.json")]
    assert compared(capsys, *files)["figures"]["leader_cpu_us_per_op"][1] is None
    assert run(["compare", *files, "--plot", str(tmp_path / "x.png")]) == 2
    assert "old.json: latency_histogram: is missing" in capsys.readouterr().err


def test_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path / "a.json", figures(), figures()), write(tmp_path / "b.json", figures())]
    assert run(["compare", *files, "--plot", str(tmp_path / "x.svg")]) == 0
    assert "<svg" in (tmp_path / "x.svg").read_text()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "bad.json: is not JSON"),
        ("[]", "bad.json: Expected `object`, got `array`"),
        (json.dumps({"protocol": "speculative"}), "bad.json: Object missing required field `replicas`"),
        (json.dumps(figures() | {"measured_on": {}}), "bad.json: measured_on: Object missing required field `processor`"),
        (json.dumps(figures() | {"sessions": "many"}), "bad.json: sessions: Expected `int`, got `str`"),
        (json.dumps(figures() | {"runs": [figures(), figures() | {"leader": 3}]}), "bad.json: runs[1].leader: there is no replica 3"),
        (json.dumps(figures() | {"latency_histogram": {**figures()["latency_histogram"], "counts": [1]}}), "bad.json: latency_histogram"),
    ],
)
def test_a_file_of_something_else(content: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.json").write_text(content)
    assert run(["compare", write(tmp_path / "a.json", figures()), str(tmp_path / "bad.json")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert complaint in output.err
    assert output.err.count("\n") == 1


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.json", figures())
    for arguments, complaint in [
        ([file], "compares at least two files"),
        ([file, str(tmp_path / "none.json")], "none.json: cannot be read: No such file or directory"),
        ([file, file, "--plot", "x.txt"], "--plot: x.txt ends in none of .png, .svg, .pdf"),
        ([file, file, "--plot", "none/x.png"], "--plot: there is no directory"),
    ]:
        assert run(["compare", *arguments]) == 2
        assert complaint in capsys.readouterr().err
