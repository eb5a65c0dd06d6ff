"""`stretto testbed bench`: protocols over real switches, and a root that dies under them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stretto.cli.main import run

pytestmark = pytest.mark.xdist_group("testbed")
TOPOLOGY = "leaf_spine(3,2,3,host_gbps=1,fabric_gbps=1)"
SMALL = ["--topology", TOPOLOGY, "--client-processes", "1", "--sessions", "4", "--warm-up", "0.5", "--json"]


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run(["testbed", "bench", *SMALL, *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_service_continues_when_a_root_dies(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = rows(capsys, "--name", name, "--protocol", "adaptive", "--design", "serialised", "--seconds", "2", "--kill-root")
    assert (row["protocol"], row["design"], row["replicas"]) == ("adaptive", "serialised", 3)
    assert row["kill"]["target"].startswith("spine")
    assert row["kill"]["replica"] is None
    assert row["kill"]["throughput_ops_s"] > 0
    assert not row["failures"]


def test_protocols_of_all_shapes_over_a_design(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    load = ("--seconds", "0.5", "--background", "0.2")
    found = rows(capsys, "--name", name, "--protocol", "speculative,nopaxos,unreplicated", "--design", "prioritised", *load)
    assert [row["protocol"] for row in found] == ["speculative", "nopaxos", "unreplicated"]
    for row in found:
        assert row["operations"] > 0, row
        hosts = row["hosts"]
        assert len(hosts["replicas"]) == row["replicas"]
        assert bool(hosts["sequencers"]) == (row["protocol"] == "nopaxos")


def test_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["testbed", "bench", "--protocol", "raft"]) == 2
    assert "'raft' is not a protocol; there are adaptive" in capsys.readouterr().err
    assert run(["testbed", "bench", "--design", "star"]) == 2
    assert "'star' is not one of plain" in capsys.readouterr().err
    assert run(["testbed", "bench", "--plot", "x.gif"]) == 2
    assert "--plot" in capsys.readouterr().err
