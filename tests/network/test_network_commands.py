from __future__ import annotations

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stretto.bench.network import sweep
from stretto.cli.main import run
from stretto.network.experiment import Setting, settings


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


def invoke(*arguments: str) -> Result:
    """Runs `stretto network`."""
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
        status = run(["network", *arguments])
    return Result(status, output.getvalue(), errors.getvalue())


def lines(*arguments: str) -> list[dict[str, Any]]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


SMALL = ("--topology", "testbed", "--senders", "2", "--receivers", "3")


def test_show_lists_every_path(tmp_path: Path) -> None:
    topology, group = lines("show", *SMALL, "--design", "serialised")
    assert topology["switches"] == 12
    assert all(len(path) == 5 for paths in group["paths"].values() for path in paths.values())
    picture, saved = tmp_path / "paths.png", tmp_path / "testbed.toml"
    assert invoke("show", *SMALL, "--plot", str(picture), "--save", str(saved)).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert lines("show", "--topology", str(saved), "--senders", "1", "--receivers", "1")[0]["hosts"] == 16


def test_printed_rules_can_be_checked(tmp_path: Path) -> None:
    file = tmp_path / "rules.jsonl"
    result = invoke("rules", *SMALL, "--design", "prioritised", "--json")
    file.write_text(result.stdout)
    check = ("verify", *SMALL, "--design", "prioritised", "--rules", str(file), "--json")
    assert invoke(*check).exit_code == 0
    file.write_text("\n".join(result.stdout.splitlines()[1:]))
    broken = invoke(*check)
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["violations"]
    file.write_text('{"switch": "root0"}')
    assert "line 1" in invoke(*check).stderr


def test_rules_of_one_switch_counts_and_difference() -> None:
    everything = lines("rules", *SMALL)
    switch = everything[0]["switch"]
    assert lines("rules", *SMALL, "--switch", switch) == [row for row in everything if row["switch"] == switch]
    assert sum(row["rules"] for row in lines("rules", *SMALL, "--counts")) == len(everything)
    root = next(row["switch"] for row in everything if row["switch"].startswith("root"))
    changes = lines("rules", *SMALL, "--failed", root, "--difference")
    assert {row["change"] for row in changes} == {"remove", "install"}
    assert all(row["switch"] != root for row in changes)


def test_verify_all_hosts_and_failures_out_of_reach() -> None:
    for line in lines("verify", "--topology", "testbed", "--senders", "0", "--receivers", "3", "--group-count", "4"):
        assert (line["checked"], line["violations"]) == (64, [])
    for line in lines("verify", *SMALL, "--failed", "p0t0,p0t1"):
        assert line["violations"] == []
        assert line["cut"] > 0


def test_reorder_rows(tmp_path: Path) -> None:
    picture = tmp_path / "reorder.png"
    arguments = ("reorder", *SMALL, "--load", "0,0.3", "--messages", "200", "--workers", "1", "--plot", str(picture))
    rows = lines(*arguments)
    assert [(row["load"], row["design"]) for row in rows[:4]] == [
        (0.0, "plain"), (0.0, "topology_aware"), (0.0, "prioritised"), (0.0, "serialised"),
    ]  # fmt: skip
    assert list(rows[0]) == [
        "design", "merge", "load", "senders", "receivers", "rate", "messages", "overtaken", "pairwise", "lis", "loss",
        "latency_us", "spread_us", "quorum_added_us", "packet_hops", "seconds",
    ]  # fmt: skip
    assert picture.read_bytes().startswith(b"\x89PNG")
    only = lines("reorder", *SMALL, "--design", "serialised", "--load", "0.3", "--messages", "200", "--workers", "1")
    assert [row["design"] for row in only] == ["serialised"]
    assert {k: v for k, v in only[0].items() if k != "seconds"} == {k: v for k, v in rows[-1].items() if k != "seconds"}
    assert "overtaken" in invoke("reorder", *SMALL, "--load", "0", "--messages", "50", "--workers", "1", "--seeds", "2").stdout


def test_results_do_not_depend_on_the_number_of_workers() -> None:
    runs = list(settings(Setting("testbed", messages=100), ["serialised"], [0.2], 2))
    one, two = list(sweep(runs, 1)), list(sweep(runs, 2))
    for (mine, _), (theirs, _) in zip(one, two, strict=True):
        assert mine.setting == theirs.setting
        assert mine.quorum_ps.tolist() == theirs.quorum_ps.tolist()
        assert (mine.disagreement, mine.latency_us, mine.census) == (theirs.disagreement, theirs.latency_us, theirs.census)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "--topology", "nowhere"), "nowhere"),
        (("show", "--topology", "missing.toml"), "missing.toml: cannot be read"),
        (("show", "--groups", "missing.toml"), "missing.toml: cannot be read"),
        (("rules", "--topology", "testbed", "--switch", "p9t9"), "p9t9"),
        (("verify", "--topology", "testbed", "--design", "fast"), "fast"),
        (("verify", "--topology", "testbed", "--failed", "root9"), "root9"),
        (("reorder", "--topology", "testbed", "--load", "0.2,1.2"), "load: 1.2"),
        (("reorder", "--topology", "testbed", "--load", "x"), "x"),
        (("reorder", "--topology", "testbed", "--rate", "-1"), "rate: -1"),
        (("reorder", "--topology", "testbed", "--senders", "20"), "16 hosts"),
        (("reorder", "--topology", "testbed", "--seeds", "0"), "--seeds"),
        (
            ("reorder", "--topology", "testbed", "--load", "0", "--messages", "10", "--plot", "/no/such/folder/x.png"),
            "there is no directory /no/such",
        ),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: tuple[str, ...], said: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1 or arguments[0] == "reorder"  # which says first what it is going to do
    assert "Traceback" not in result.stderr
