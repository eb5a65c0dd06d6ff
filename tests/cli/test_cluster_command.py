"""A cluster of real processes, by the commands that people use."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stretto.cli.main import run
from stretto.core.config import load_config
from stretto.runtime.local_cluster import LocalCluster, loopback_config

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a cluster that is up."""
    directory = tmp_path_factory.mktemp("cluster")
    assert run(["cluster", "init", str(directory)]) == 0
    try:
        assert run(["cluster", "up", str(directory)]) == 0
        yield directory
    finally:
        assert run(["cluster", "down", str(directory)]) == 0


@pytest.fixture
def kv(running: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `stretto kv` on the running cluster: its status, output, and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(["kv", arguments[0], "--config", str(running / "cluster.toml"), *arguments[1:]])
        output = capsys.readouterr()
        return status, output.out, output.err

    return call


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where a test may make a cluster of its own, which is ended after it."""
    yield tmp_path
    if (tmp_path / "cluster.toml").exists():
        LocalCluster(tmp_path).stop()


def test_the_store(kv: Callable[..., tuple[int, str, str]]) -> None:
    assert kv("get", "a") == (1, "", "stretto: 'a' has no value\n")
    assert kv("put", "a", "hello") == (0, "", "")
    assert kv("append", "a", " world") == (0, "11\n", "")
    assert kv("get", "a") == (0, "hello world\n", "")
    assert kv("get", "--json", "a") == (0, '{"result":"hello world"}\n', "")
    assert kv("cas", "a", "other", "x") == (1, "", "stretto: 'a' is not 'other'; nothing changed\n")
    assert kv("cas", "a", "hello world", "x") == (0, "", "")
    assert kv("cas", "--absent", "a", "x")[0] == 1
    assert kv("cas", "--absent", "b", "y") == (0, "", "")
    assert kv("incr", "n", "5") == (0, "5\n", "")
    assert kv("incr", "n", "-7") == (0, "-2\n", "")
    assert kv("scan") == (0, "a\tx\nb\ty\nn\t-2\n", "")
    assert kv("scan", "--limit", "1", "--json") == (0, '{"result":[["a","x"]]}\n', "")
    assert kv("delete", "b") == (0, "", "")
    assert kv("delete", "b") == (1, "", "stretto: 'b' had no value\n")
    assert kv("put", "--hex", "ff00", "0aFE") == (0, "", "")
    assert kv("get", "--hex", "ff00") == (0, "0afe\n", "")


def test_the_store_says_what_is_wrong(kv: Callable[..., tuple[int, str, str]]) -> None:
    assert kv("put", "word", "x")[0] == 0
    status, _, error = kv("incr", "word")
    assert (status, "no decimal number" in error) == (1, True)
    assert kv("put", "k" * 1025, "v")[0] == 1
    assert kv("put", "k", "v" * 70_000)[0] == 1
    assert kv("cas", "k", "v")[0] == 2
    assert kv("get", "--hex", "xyz")[0] == 2


def test_up_twice_and_status(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [(running / f"replica-{index}.pid").read_text() for index in range(3)]
    assert run(["cluster", "up", str(running)]) == 0
    assert [(running / f"replica-{index}.pid").read_text() for index in range(3)] == before
    capsys.readouterr()
    assert run(["cluster", "status", str(running), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["protocol"] == "adaptive"
    assert [replica["state"] for replica in status["replicas"]] == ["running"] * 3
    assert [replica["metrics"]["pid"] for replica in status["replicas"]] == [int(text.split()[0]) for text in before]


def init(directory: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> LocalCluster:
    """A cluster that is up, without multicast."""
    assert run(["cluster", "init", "--no-multicast", *arguments, str(directory)]) == 0
    assert load_config(directory / "cluster.toml").multicast is None
    assert run(["cluster", "up", str(directory)]) == 0
    capsys.readouterr()
    return LocalCluster(directory)


def kill(cluster: LocalCluster, *indices: int) -> None:
    """End replicas as a crash would, all at once."""
    for index in indices:
        cluster.kill(index)
    assert all(cluster.pid_files[index].wait(60) for index in indices)


def store(directory: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `stretto kv` prints."""
    capsys.readouterr()
    assert run(["kv", arguments[0], "--config", str(directory / "cluster.toml"), *arguments[1:]]) == 0
    return capsys.readouterr().out


def test_a_replica_that_died_comes_back_from_the_others(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = init(directory, capsys)
    store(directory, capsys, "put", "a", "1")
    kill(cluster, 1)
    assert run(["cluster", "status", str(directory)]) == 1
    assert "died" in capsys.readouterr().out
    assert run(["cluster", "up", str(directory)]) == 0
    output = capsys.readouterr()
    assert output.err == "replica 1 is up\n"
    assert output.out == f"3 replicas up, durability memory; logs are in {directory}\n"
    kill(cluster, 0)
    assert store(directory, capsys, "get", "a") == "1\n"


def test_the_loss_of_a_majority_in_memory_mode_is_reported(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = init(directory, capsys)
    kill(cluster, 0, 2)
    assert run(["cluster", "up", str(directory)]) == 1
    assert "replicas 0, 2 have died, and no majority is left to recover from: the stored data is lost" in capsys.readouterr().err
    assert [cluster.state(index) for index in range(3)] == ["died", "running", "died"]
    assert run(["cluster", "down", str(directory)]) == 0
    assert run(["cluster", "status", str(directory), "--json"]) == 1
    assert [replica["state"] for replica in json.loads(capsys.readouterr().out.splitlines()[-1])["replicas"]] == ["stopped"] * 3
    assert run(["cluster", "up", str(directory)]) == 0
    assert [cluster.state(index) for index in range(3)] == ["running"] * 3


def test_what_is_on_disk_outlives_all_replicas(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = init(directory, capsys, "--durability", "disk")
    store(directory, capsys, "put", "a", "1")
    kill(cluster, 0, 1, 2)
    assert run(["cluster", "up", str(directory)]) == 0
    assert store(directory, capsys, "get", "a") == "1\n"
    store(directory, capsys, "put", "b", "2")
    assert run(["cluster", "down", str(directory)]) == 0
    assert run(["cluster", "up", str(directory)]) == 0
    assert store(directory, capsys, "scan") == "a\t1\nb\t2\n"
    incarnations = [replica["metrics"]["incarnations"] for replica in cluster.status()]
    assert [incarnation >> 40 for incarnation in incarnations[0]] == [1, 1, 1]  # they went on, and did not recover
    assert run(["replica", "--config", str(cluster.file), "--index", "0", "--data", str(cluster.data[0])]) == 2
    assert "replica-0.data: is in use by another replica process" in capsys.readouterr().err


def test_damaged_data_is_refused_and_repaired_from_the_others(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = init(directory, capsys, "--durability", "disk")
    store(directory, capsys, "put", "a", "1")
    assert run(["cluster", "down", str(directory)]) == 0
    [segment] = cluster.data[2].glob("log-*")
    content = bytearray(segment.read_bytes())
    content[60] ^= 1
    segment.write_bytes(content)
    assert run(["cluster", "up", str(directory)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"replica 2 did not start: {segment}: byte 52: there is no intact frame" in error
    assert "start this replica with --repair" in error
    assert [cluster.state(index) for index in range(3)] == ["stopped"] * 3
    assert run(["cluster", "up", "--repair", str(directory)]) == 0
    [aside] = directory.glob("replica-2.data.damaged-*")
    assert (aside / segment.name).read_bytes() == content
    kill(cluster, 0)
    assert store(directory, capsys, "get", "a") == "1\n"


def test_a_first_start_that_did_not_come_about_can_be_tried_again(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = loopback_config(3, "speculative", "stretto.core.state_machine:NullMachine", durability="disk")
    cluster = LocalCluster.create(directory, config)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", config.replicas[2].port))
        assert run(["cluster", "up", str(directory)]) == 2
    assert [list(data.glob("*")) for data in cluster.data] == [[], [], []]
    assert run(["cluster", "up", str(directory)]) == 0
    assert run(["cluster", "down", str(directory)]) == 0


def test_a_replica_that_is_stopped_is_silent_and_ended_all_the_same(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stretto.runtime.local_cluster.STOP_SECONDS", 0.2)
    cluster = LocalCluster.create(directory, loopback_config(1, "unreplicated", "stretto.core.state_machine:NullMachine"))
    cluster.start()
    assert cluster.pid_files[0].signal(signal.SIGSTOP)
    assert cluster.status()[0]["state"] == "silent"
    assert cluster.stop() == 1
    assert cluster.state(0) == "stopped"


def test_a_port_in_use_is_said_and_nothing_stays_behind(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = LocalCluster.create(directory, loopback_config(3, "speculative", "stretto.core.state_machine:NullMachine"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", cluster.config.replicas[2].port))
        assert run(["cluster", "up", str(directory)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("stretto: replica 2 did not start: ")
    assert str(cluster.config.replicas[2].port) in error
    assert list(directory.glob("*.pid")) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--replicas", "4"], "4 replicas are listed; an odd number"),
        (["--replicas", "-1"], "0 replicas are listed"),
        (["--protocol", "raft"], "'raft' is not a protocol; there are adaptive"),
        (["--protocol", "unreplicated"], "the protocol unreplicated has at most 1"),
        (["--service", "nosuch.module:Class"], "No module named 'nosuch'"),
        (["--service", "stretto.apps.kv:Nothing"], "it has KeyValueStore"),
        (["--service", "kv"], "is not of the form"),
    ],
)
def test_what_init_refuses(directory: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cluster", "init", *arguments, str(directory)]) == 2
    assert part in capsys.readouterr().err
    assert not (directory / "cluster.toml").exists()


def test_init_overwrites_nothing(directory: Path) -> None:
    (directory / "cluster.toml").write_text("mine")
    assert run(["cluster", "init", str(directory)]) == 2
    assert (directory / "cluster.toml").read_text() == "mine"
    (directory / "cluster.toml").unlink()


@pytest.mark.parametrize("name", ["up", "down", "status"])
def test_a_directory_without_a_cluster(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cluster", name, str(tmp_path)]) == 2
    assert "there is none" in capsys.readouterr().err


def test_the_store_of_a_cluster_that_is_down(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = loopback_config(3, "speculative", "stretto.apps.kv:KeyValueStore")
    text = config.to_toml() + "\n[timeouts]\nrequest_timeout_ms = 200\n"
    (directory / "cluster.toml").write_text(text)
    assert run(["kv", "get", "--config", str(directory / "cluster.toml"), "a"]) == 1
    assert "no replica answered" in capsys.readouterr().err


def test_the_store_of_a_cluster_with_another_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LocalCluster.create(tmp_path, loopback_config(3, "speculative", "stretto.core.state_machine:NullMachine"))
    assert run(["kv", "get", "--config", str(tmp_path / "cluster.toml"), "a"]) == 2
    assert "is not a key-value store" in capsys.readouterr().err


def test_the_nearest_configuration_is_found(running: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    below = running / "below" / "that"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert run(["kv", "put", "near", "yes"]) == 0
    assert run(["kv", "get", "near"]) == 0
    assert capsys.readouterr().out == "yes\n"


def test_sigterm_ends_a_replica_cleanly(directory: Path) -> None:
    cluster = LocalCluster.create(directory, loopback_config(1, "unreplicated", "stretto.core.state_machine:NullMachine"))
    cluster.start()
    pid = cluster.pid_files[0].pid()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "SIGTERM" in cluster.logs[0].read_text().splitlines()[-1]


def test_down_ends_a_replica_that_the_configuration_no_longer_has(directory: Path) -> None:
    service = "stretto.core.state_machine:NullMachine"
    cluster = LocalCluster.create(directory, loopback_config(3, "speculative", service))
    cluster.start()
    cluster.file.write_text(loopback_config(1, "speculative", service).to_toml())
    assert LocalCluster(directory).stop() == 3
    assert [cluster.state(index) for index in range(3)] == ["stopped"] * 3


def test_a_log_that_cannot_be_written(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = LocalCluster.create(directory, loopback_config(1, "unreplicated", "stretto.core.state_machine:NullMachine"))
    cluster.logs[0].mkdir()
    assert run(["cluster", "up", str(directory)]) == 2
    assert "replica-0.log: cannot be written: Is a directory" in capsys.readouterr().err


def test_two_commands_at_once(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = LocalCluster.create(directory, loopback_config(1, "unreplicated", "stretto.core.state_machine:NullMachine"))
    with cluster._locked():
        assert run(["cluster", "up", str(directory)]) == 1
    assert "another command is starting or stopping" in capsys.readouterr().err
