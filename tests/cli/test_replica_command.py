"""`stretto replica`: what keeps it from starting is one line."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from stretto.cli.main import run
from stretto.core.config import ClusterConfig, Multicast
from stretto.runtime.local_cluster import loopback_config


@pytest.fixture
def config() -> ClusterConfig:
    """Three replicas on ports that are free."""
    return loopback_config(3, "speculative", "stretto.core.state_machine:NullMachine")


def refusal(config: ClusterConfig, directory: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `stretto replica` says when it does not start."""
    file = directory / "cluster.toml"
    file.write_text(config.to_toml())
    assert run(["replica", "--config", str(file), *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "Traceback" not in output.err
    return output.err


@pytest.mark.parametrize("index", ["3", "-1"])
def test_an_index_that_does_not_exist(config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], index: str) -> None:
    said = refusal(config, tmp_path, capsys, "--index", index, "--bootstrap")
    assert f"there is no replica {index}; the indices are 0 to 2" in said


def test_disk_needs_a_directory(config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on_disk = msgspec.structs.replace(config, durability="disk")
    assert 'cluster.toml: durability: "disk" needs a directory' in refusal(on_disk, tmp_path, capsys, "--index", "0", "--bootstrap")


def test_there_is_nothing_to_repair_at_a_first_start(config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--repair: a replica that starts for the first time" in refusal(
        config, tmp_path, capsys, "--index", "0", "--bootstrap", "--repair"
    )


def test_a_data_directory_that_cannot_be_made(config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    on_disk = msgspec.structs.replace(config, durability="disk")
    said = refusal(on_disk, tmp_path, capsys, "--index", "0", "--bootstrap", "--data", str(tmp_path / "file"))
    assert said == f"stretto: {tmp_path / 'file'}: cannot be used for the replica's data: File exists\n"


def test_a_port_in_use(config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = config.replicas[0].port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        said = refusal(config, tmp_path, capsys, "--index", "0", "--bootstrap")
    assert f"cluster.toml: replicas[0].port: TCP port {port} of 127.0.0.1 is in use" in said


def test_no_way_for_the_multicast(config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config.multicast is not None
    elsewhere = msgspec.structs.replace(config, multicast=Multicast("239.83.84.1", config.multicast.port, "192.0.2.1"))
    said = refusal(elsewhere, tmp_path, capsys, "--index", "0", "--bootstrap")
    assert "multicast.interface: 192.0.2.1 carries no multicast" in said


def test_a_log_that_cannot_be_written(config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(config, tmp_path, capsys, "--index", "0", "--bootstrap", "--log", str(tmp_path / "nowhere" / "a.log"))
    assert "a.log: the log cannot be written: No such file or directory" in said


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ('protocol = "speculative"', 'protocol = "raft"', "cluster.toml: protocol: 'raft' is not a protocol"),
        ("stretto.core.state_machine:NullMachine", "nosuch:Class", "cluster.toml: service: cannot import 'nosuch'"),
        ('protocol = "speculative"', 'protocol = "unreplicated"', "cluster.toml: replicas: 3 replicas are listed"),
        ('protocol = "speculative"', 'color = "red"', "cluster.toml: color: there is no such key; there are protocol"),
    ],
)
def test_a_wrong_configuration(
    config: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, part: str
) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(config.to_toml().replace(old, new))
    assert run(["replica", "--config", str(file), "--index", "0", "--bootstrap"]) == 2
    assert part in capsys.readouterr().err
