"""`stretto sequencer`, and sequencers beside the replicas of a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stretto.cli.main import run
from stretto.core.config import ClusterConfig
from stretto.runtime.local_cluster import LocalCluster, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

NULL = "stretto.core.state_machine:NullMachine"


def refusal(config: ClusterConfig, directory: Path, capsys: pytest.CaptureFixture[str], index: str) -> str:
    """What the command says when it does not start."""
    file = directory / "cluster.toml"
    file.write_text(config.to_toml())
    assert run(["sequencer", "--config", str(file), "--index", index]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


@pytest.mark.parametrize("index", ["2", "-1"])
def test_an_index_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str], index: str) -> None:
    config = loopback_config(3, "nopaxos", NULL, sequencers=2)
    assert f"there is no sequencer {index}; the indices are 0 to 1" in refusal(config, tmp_path, capsys, index)


def test_a_protocol_without_sequencers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = loopback_config(3, "speculative", NULL)
    assert "there is no sequencer 0; speculative has none" in refusal(config, tmp_path, capsys, "0")


def test_a_cluster_goes_on_when_its_sequencer_is_killed_and_takes_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "cluster"
    file = str(directory / "cluster.toml")
    assert run(["cluster", "init", "--no-multicast", "--protocol", "nopaxos", str(directory)]) == 0
    assert "3 replicas and 2 sequencers, protocol nopaxos" in capsys.readouterr().out
    cluster = LocalCluster(directory)
    try:
        assert run(["cluster", "up", str(directory)]) == 0
        assert run(["kv", "incr", "--config", file, "visits"]) == 0
        cluster.kill(3)
        assert cluster.pid_files[3].wait(60)
        assert run(["kv", "incr", "--config", file, "visits"]) == 0
        assert run(["cluster", "status", str(directory)]) == 1
        capsys.readouterr()
        assert run(["cluster", "up", str(directory)]) == 0
        assert capsys.readouterr().err == "sequencer 0 is up\n"
        assert run(["cluster", "status", "--json", str(directory)]) == 0
        status = json.loads(capsys.readouterr().out)
        assert [sequencer["state"] for sequencer in status["sequencers"]] == ["running"] * 2
        assert min(replica["metrics"]["view"] for replica in status["replicas"]) >= 3  # more, if the machine was busy
        assert cluster.stop() == 3
    finally:
        cluster.stop()
    assert [cluster.state(address) for address in range(5)] == ["stopped"] * 5
