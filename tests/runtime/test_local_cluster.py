"""A local cluster as other programs use it: a command prefix, and the restart of one replica."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stretto.runtime.local_cluster import ClusterFailure, LocalCluster, in_service, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

NULL = "stretto.core.state_machine:NullMachine"


def serves(cluster: LocalCluster, index: int) -> bool:
    return in_service(cluster.status()[index]["metrics"])


def test_the_prefix_comes_before_the_command(tmp_path: Path) -> None:
    config = loopback_config(1, "unreplicated", NULL)
    cluster = LocalCluster.create(tmp_path, config, lambda index: ("env", f"STARTED_AS={index}"))
    try:
        assert cluster.start() == [0]
        assert b"STARTED_AS=0" in Path(f"/proc/{cluster.pid_files[0].pid()}/environ").read_bytes()
        assert cluster.start() == []
    finally:
        cluster.stop()


@pytest.mark.parametrize("durability", ["memory", "disk"])
def test_one_replica_is_restarted(tmp_path: Path, durability: str) -> None:
    cluster = LocalCluster.create(tmp_path, loopback_config(3, "speculative", NULL, durability=durability))  # type: ignore[arg-type]
    try:
        cluster.start()
        cluster.kill(2)
        assert cluster.pid_files[2].wait(60)
        cluster.restart(2)
        deadline = time.monotonic() + 60
        while not serves(cluster, 2):
            assert time.monotonic() < deadline
        incarnations = [incarnation >> 40 for incarnation in cluster.status()[2]["metrics"]["incarnations"]]
        assert incarnations == ([1, 1, 1] if durability == "disk" else [1, 1, 2])
    finally:
        cluster.stop()


def test_a_replica_that_cannot_recover_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All data was deleted, so every replica asks the others for a state that none of them has."""
    cluster = LocalCluster.create(tmp_path, loopback_config(3, "speculative", NULL, durability="disk"))
    try:
        cluster.start()
        for index in range(3):
            cluster.kill(index)
        assert all(pid_file.wait(60) for pid_file in cluster.pid_files)
        for data in cluster.data:
            for file in data.iterdir():
                file.unlink()
        monkeypatch.setattr("stretto.runtime.local_cluster.START_SECONDS", 2.0)
        with pytest.raises(ClusterFailure, match=r"replica \d (is not in service but lost state|does not answer)"):
            cluster.start()
    finally:
        cluster.stop()
