"""Directories that were restored from an old copy, on real processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stretto
from stretto.apps.kv import KeyValueStore
from stretto.runtime.local_cluster import LocalCluster, in_service, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

KEYS = 60


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster.create(tmp_path, loopback_config(3, "adaptive", "stretto.apps.kv:KeyValueStore", durability="disk"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def put(cluster: LocalCluster, first: int, last: int) -> None:
    with stretto.connect(cluster.file) as client:
        store = client.service(KeyValueStore)
        for number in range(first, last):
            store.put(b"%d" % number, b"x")


def missing(cluster: LocalCluster) -> list[int]:
    with stretto.connect(cluster.file) as client:
        store = client.service(KeyValueStore)
        return [number for number in range(KEYS) if store.get(b"%d" % number) is None]


def copy_of(cluster: LocalCluster, index: int) -> Path:
    """A copy of a directory, made while nobody writes."""
    copy = cluster.data[index].with_suffix(".copy")
    shutil.copytree(cluster.data[index], copy)
    return copy


def restore(cluster: LocalCluster, index: int, copy: Path) -> None:
    shutil.rmtree(cluster.data[index])
    shutil.copytree(copy, cluster.data[index])


def others_know(cluster: LocalCluster, index: int) -> bool:
    """Whether the others have been told how much a replica has written by now."""
    metrics = [state["metrics"] or {} for state in cluster.status()]
    told = [known.get("written_by_others", {}).get(str(index)) for member, known in enumerate(metrics) if member != index]
    return told == [metrics[index].get("written")] * 2


@pytest.mark.parametrize("index", [0, 1])
def test_one_old_copy_is_refused_and_nothing_is_lost(cluster: LocalCluster, index: int) -> None:
    put(cluster, 0, KEYS // 2)
    copy = copy_of(cluster, index)
    put(cluster, KEYS // 2, KEYS)
    wait_for(lambda: others_know(cluster, index), "the others hear how much it has written")
    cluster.kill(index)
    wait_for(lambda: cluster.state(index) == "died", "it ends")
    restore(cluster, index, copy)
    cluster.restart(index)
    wait_for(lambda: cluster.state(index) != "running", "the old copy is refused")
    assert "this is not the newest data of this replica" in cluster.last_line(index)
    assert missing(cluster) == []
    assert cluster.start(repair=True) == [index]
    assert missing(cluster) == []


def test_all_were_down_and_the_leader_has_an_old_copy(cluster: LocalCluster) -> None:
    put(cluster, 0, KEYS // 2)
    copy = copy_of(cluster, 0)
    put(cluster, KEYS // 2, KEYS)
    wait_for(lambda: len({state["metrics"]["committed"] for state in cluster.status()}) == 1, "all have committed everything")
    for index in range(3):
        cluster.kill(index)
    wait_for(lambda: all(cluster.state(index) == "died" for index in range(3)), "all end")
    restore(cluster, 0, copy)
    for index in range(3):
        cluster.restart(index)
    wait_for(lambda: cluster.state(0) != "running", "it has forgotten, and stops")
    assert "restored from an old copy" in cluster.last_line(0)
    wait_for(lambda: all(in_service(cluster.status()[index]["metrics"]) for index in (1, 2)), "the others serve")
    assert missing(cluster) == []


def test_one_start_line_serves_for_ever(cluster: LocalCluster) -> None:
    put(cluster, 0, KEYS)
    for index in range(3):
        cluster.end(index)
    starts = {index: cluster._start(index, bootstrap=True) for index in range(3)}
    cluster._wait_until_in_service(starts, lambda index: None)
    assert missing(cluster) == []
