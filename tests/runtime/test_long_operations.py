"""Operations and disks that take longer than a leader may be silent: no view changes, and others are served afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import stretto
from slow_services import Slow
from stretto.core.config import Timeouts
from stretto.runtime.local_cluster import LocalCluster, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

TIMEOUTS = Timeouts(leader_timeout_ms=400, view_change_timeout_ms=400, request_timeout_ms=60_000)
"""Long enough for a busy machine, and much shorter than what is done here."""


def cluster_of(directory: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, durability: str, timeouts: Timeouts) -> LocalCluster:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=":")
    config = loopback_config(3, protocol, "slow_services:Slow", durability=durability)  # type: ignore[arg-type]
    return LocalCluster.create(directory, msgspec.structs.replace(config, timeouts=timeouts), lambda index: ("env", f"NUMBER={index}"))


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LocalCluster]]:
    made: list[LocalCluster] = []
    try:
        yield made
    finally:
        for cluster in made:
            cluster.stop()


def views(cluster: LocalCluster) -> list[int]:
    return [state["metrics"]["view"] for state in cluster.status()]


def views_known(cluster: LocalCluster) -> list[int]:
    """The views of the replicas that answer."""
    return [state["metrics"]["view"] for state in cluster.status() if state["metrics"] is not None]


@pytest.mark.parametrize("protocol", ["adaptive", "speculative", "multipaxos", "fastpaxos"])
@pytest.mark.parametrize("method", ["compute", "wait"])
def test_a_long_operation_changes_no_view(
    clusters: list[LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, method: str
) -> None:
    cluster = cluster_of(tmp_path, monkeypatch, protocol, "memory", TIMEOUTS)
    clusters.append(cluster)
    cluster.start()
    with stretto.connect(cluster.file) as client:
        service = client.service(Slow)
        assert service.add(1) == 1
        before = views(cluster)
        others: list[int] = []
        thread = threading.Thread(target=lambda: others.extend(service.add(1) for _ in range(20)))
        thread.start()
        getattr(service, method)(2_000)
        thread.join()
        assert others[-1] == 21
        assert service.add(1) == 22
        assert views(cluster) == before
    busy = [line for log in cluster.logs for line in log.read_text().splitlines() if "busy for long" in line]
    assert len(busy) >= 3
    assert all(method in line for line in busy), busy


def test_a_disk_that_is_slow_changes_no_view(clusters: list[LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sync takes longer than a leader may be silent."""
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if 'replica' in ' '.join(sys.orig_argv):\n"
        "    sync = os.fdatasync\n"
        "    def fdatasync(fd):\n"
        "        sync(fd)\n"
        "        time.sleep(0.3)\n"
        "    os.fdatasync = fdatasync\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(slow), prepend=":")
    timeouts = msgspec.structs.replace(TIMEOUTS, leader_timeout_ms=200, view_change_timeout_ms=200)
    cluster = cluster_of(tmp_path / "cluster", monkeypatch, "adaptive", "disk", timeouts)
    clusters.append(cluster)
    cluster.start()
    with stretto.connect(cluster.file) as client:
        service = client.service(Slow)
        before = views(cluster)
        assert [service.add(1) for _ in range(5)] == [1, 2, 3, 4, 5]
        assert views(cluster) == before


def test_what_lasts_longer_than_max_operation_ms_counts_as_silent(
    clusters: list[LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader alone stands still, in one operation that the others finish at once."""
    timeouts = msgspec.structs.replace(TIMEOUTS, max_operation_ms=1_000)
    cluster = cluster_of(tmp_path, monkeypatch, "adaptive", "memory", timeouts)
    clusters.append(cluster)
    cluster.start()
    with stretto.connect(cluster.file) as client:
        service = client.service(Slow)
        before = views(cluster)
        assert service.wait_at(before[0] % 3, 4_000) == 0
        deadline = time.monotonic() + 60
        while min(views_known(cluster)) <= before[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert service.add(1) == 1
