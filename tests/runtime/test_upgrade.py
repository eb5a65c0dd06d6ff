"""`stretto upgrade`, on real processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.cli.main import run
from stretto.runtime.local_cluster import LocalCluster, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

ROOT = Path(__file__).parent.parent.parent
RELEASES = ROOT / "examples" / "upgrade"


def cluster_of(directory: Path, releases: list[str]) -> LocalCluster:
    """Three replicas; each has the release of the inventory that the list says when it starts."""

    def prefix(index: int) -> tuple[str, str]:
        return "env", f"PYTHONPATH={os.pathsep.join([str(RELEASES / releases[index]), str(ROOT / 'src')])}"

    return LocalCluster.create(directory, loopback_config(3, "adaptive", "inventory:Inventory"), prefix)


def wait_until_all_have_said_so(cluster: LocalCluster, codes: dict[str, int]) -> None:
    deadline = time.monotonic() + 60
    while any(state["metrics"] is None or state["metrics"]["code_versions"] != codes for state in cluster.status()):
        assert time.monotonic() < deadline, cluster.status()
        time.sleep(0.02)


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[LocalCluster]:
    """A cluster in which one replica has old code."""
    cluster = cluster_of(tmp_path, ["second", "second", "first"])
    try:
        cluster.start()
        wait_until_all_have_said_so(cluster, {"0": 2, "1": 2, "2": 1})
        yield cluster
    finally:
        cluster.stop()


def test_without_a_replica_that_is_too_old(mixed: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upgrade", "--config", str(mixed.file)]) == 1
    reason = "version 1 is active, and not all know a later one (replica 0: 2, replica 1: 2, replica 2: 1)"
    assert capsys.readouterr().err == f"stretto: {reason}\n"
    assert run(["upgrade", "--config", str(mixed.file), "--without", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": 2, "active": True, "reason": None}
    deadline = time.monotonic() + 60
    while mixed.state(2) == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "version 2 of the service is active, and this replica's code is of version 1" in mixed.last_line(2)
    assert all(mixed.status()[index]["metrics"]["version"] == 2 for index in (0, 1))


def test_wrong_use_is_one_line(mixed: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upgrade", "--config", str(mixed.file), "--without", "3"]) == 2
    assert "--without 3: the replicas are 0 to 2" in capsys.readouterr().err
    assert run(["upgrade", "--config", str(mixed.file), "--without", "0", "--without", "1"]) == 1
    assert "these are not a majority: 1 of 3 replicas" in capsys.readouterr().err
    mixed.stop()
    assert run(["upgrade", "--config", str(mixed.file), "--timeout", "0.3"]) == 1
    assert "no replica that leads has answered" in capsys.readouterr().err
