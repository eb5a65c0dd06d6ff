"""`stretto testbed reorder` and `failover` as commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stretto.cli.main import run
from stretto.testbed import fabric, failover
from stretto.testbed.background import background
from stretto.testbed.fabric import Fabric

TOPOLOGY = "leaf_spine(2,2,3,host_gbps=1,fabric_gbps=1)"
MODEL_KEYS = [
    "design", "merge", "load", "senders", "receivers", "rate", "messages", "overtaken", "pairwise", "lis", "loss",
    "latency_us", "spread_us", "quorum_added_us", "packet_hops", "seconds", "on",
]  # fmt: skip


@pytest.mark.xdist_group("testbed")
def test_reorder_on_a_testbed_for_this_run_only(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "reorder.png"
    arguments = ["testbed", "reorder", "--name", name, "--topology", TOPOLOGY, "--design", "topology_aware,serialised", "--senders", "2"]
    arguments += ["--receivers", "2", "--rate", "500", "--messages", "150", "--background", "0.3", "--seed", "1"]
    assert run([*arguments, "--model", "--json", "--plot", str(picture)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["on"], row["design"]) for row in rows] == [
        ("testbed", "topology_aware"), ("testbed", "serialised"), ("model", "topology_aware"), ("model", "serialised"),
    ]  # fmt: skip
    for row in rows:
        assert list(row)[: len(MODEL_KEYS)] == MODEL_KEYS
        assert row["latency_us"]["p50"] > 0
        assert row["quorum_added_us"]["p50"] is not None
    measured = rows[1]
    assert measured["overtaken"] == measured["pairwise"] == 0
    assert measured["link_load"] > 0
    assert list(measured)[len(MODEL_KEYS) :] == ["late_us", "link_load", "ignored"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not fabric.down(name), "something of it was left"


@pytest.mark.xdist_group("testbed")
def test_results_so_far_are_shown_when_interrupted(
    testbed: Fabric, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stretto.testbed.reordering.background", _interrupted_at(2))
    arguments = ["testbed", "reorder", "--name", testbed.plan.name, "--senders", "2", "--receivers", "2", "--messages", "60"]
    assert run([*arguments, "--design", "plain,serialised", "--json"]) == 130
    assert [json.loads(line)["design"] for line in capsys.readouterr().out.splitlines()] == ["plain"]
    assert testbed.status().complete


def _interrupted_at(count: int) -> Callable[..., Any]:
    """A replacement for `background` that raises Ctrl-C at that call."""
    calls: list[object] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == count:
            raise KeyboardInterrupt
        return background(*arguments)

    return interrupted


@pytest.mark.xdist_group("testbed")
def test_failover_reports_both_events(testbed: Fabric, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "BEFORE_S", 0.2)
    monkeypatch.setattr(failover, "SPAN_S", 0.8)
    assert run(["testbed", "failover", "--name", testbed.plan.name, "--senders", "2", "--receivers", "2", "--rate", "300"]) == 0
    output = capsys.readouterr().out
    assert "killed" in output
    assert "revived" in output
    assert output.count("messages lost") == 4
    assert "0.00% after" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reorder", "--design", "fast"), "fast"),
        (("reorder", "--design", ""), "--design"),
        (("reorder", "--rate", "0"), "rate: 0"),
        (("reorder", "--rate", "x"), "x"),
        (("reorder", "--background", "1"), "load: 1"),
        (("reorder", "--messages", "0"), "messages: 0"),
        (("reorder", "--message-bytes", "80"), "message_bytes: 80"),
        (("reorder", "--seeds", "0"), "--seeds"),
        (("reorder", "--plot", "/no/such/folder/x.png"), "there is no directory /no/such/folder"),
        (("failover", "--rate", "0"), "rate: 0"),
        (("failover", "--what", "host"), "host"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["testbed", *arguments, "--name", f"never-{os.getpid()}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.xdist_group("testbed")
def test_a_group_that_does_not_fit_leaves_nothing_behind(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--name", name, "--topology", TOPOLOGY, "--senders", "9"]
    for command in ("reorder", "failover"):
        assert run(["testbed", command, *arguments]) == 2
        assert "6 hosts" in capsys.readouterr().err
    assert not fabric.down(name), "something of it was left"
