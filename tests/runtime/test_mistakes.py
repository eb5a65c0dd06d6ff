"""Mistakes that users make, on real processes: none ends in a wrong answer. docs/reliability.md lists them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import stretto
from mistaken_services import Mistaken
from stretto.core.config import Timeouts
from stretto.core.errors import ConfigurationError, OperationFailed, OutcomeUnknown
from stretto.runtime.local_cluster import LocalCluster, in_service, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

SERVICE = "mistaken_services:Mistaken"
ODD = 2
"""The replica that has another environment."""


def cluster_of(directory: Path, monkeypatch: pytest.MonkeyPatch, durability: str = "memory") -> LocalCluster:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=":")
    config = loopback_config(3, "adaptive", SERVICE, durability=durability)  # type: ignore[arg-type]
    config = msgspec.structs.replace(config, timeouts=Timeouts(request_timeout_ms=20_000))
    return LocalCluster.create(directory, config, lambda index: ("env", f"NUMBER={int(index == ODD)}", f"PYTHONHASHSEED={index + 1}"))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    cluster = cluster_of(tmp_path, monkeypatch)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def wait_for(condition: object, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("method", ["set_to_process_id", "set_to_hash", "set_to_clock"])
def test_three_different_results_answer_nobody(cluster: LocalCluster, method: str) -> None:
    """Each replica has another one, so nobody can be right."""
    with stretto.connect(cluster.file) as client:
        service = client.service(Mistaken)
        assert service.set(5) == 5
        with pytest.raises(OutcomeUnknown):
            getattr(client.within(1_500).service(Mistaken), method)()
    wait_for(lambda: any("outcomes differ" in log.read_text() for log in cluster.logs), "a line in a log")
    assert all(state["state"] == "running" for state in cluster.status())


@pytest.mark.parametrize("durability", ["memory", "disk"])
def test_the_one_that_differs_stops_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    cluster = cluster_of(tmp_path, monkeypatch, durability)
    try:
        cluster.start()
        with stretto.connect(cluster.file) as client:
            service = client.service(Mistaken)
            assert service.set_to_environment() == 0
            assert service.read() == 0
            wait_for(lambda: cluster.state(ODD) != "running", "the odd one stops")
            line = cluster.last_line(ODD)
            assert f"the state of replica {ODD} differs from that of replicas 0 and 1" in line
            assert "set_to_environment" in line
            assert service.read() == 0
            if durability == "disk":
                cluster.restart(ODD)
                wait_for(lambda: cluster.state(ODD) != "running", "its directory is not used again")
                assert "its data must not be used again" in cluster.last_line(ODD)
    finally:
        cluster.stop()


@pytest.mark.parametrize("method", ["ask_for_memory", "leave", "interrupt"])
def test_no_call_ends_a_replica(cluster: LocalCluster, method: str) -> None:
    with stretto.connect(cluster.file) as client:
        service = client.service(Mistaken)
        assert service.set(7) == 7
        with pytest.raises(OperationFailed, match=r"MemoryError|SystemExit: 3|KeyboardInterrupt"):
            getattr(service, method)()
        assert service.read() == 7
    assert all(in_service(status["metrics"]) for status in cluster.status())


def test_a_checkpoint_of_other_code_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code was replaced by older code, which lacks a container."""
    code = tmp_path / "code"
    code.mkdir()
    text = (
        "from stretto import Cell, Service, operation\n"
        "class Two(Service):\n"
        "    def __init__(self):\n"
        "        self.value = Cell[int](0)\n"
        "        self.other = Cell[int](0)\n"
        "    @operation\n"
        "    def add(self) -> int:\n"
        "        self.value.value += 1\n"
        "        return self.value.value\n"
    )
    (code / "two.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=":")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    config = loopback_config(1, "unreplicated", "two:Two", durability="disk")
    config = msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, checkpoint_operations=10))
    cluster = LocalCluster.create(tmp_path / "cluster", config)
    try:
        cluster.start()
        with stretto.connect(cluster.file) as client:
            for _ in range(30):
                client.execute(msgspec.msgpack.encode(["add"]))
        cluster.stop()
        (code / "two.py").write_text(text.replace("        self.other = Cell[int](0)\n", ""))
        with pytest.raises(ConfigurationError, match="holds a checkpoint that is not one of two:Two as it is now"):
            cluster.start()
        assert "holds a checkpoint that is not one of two:Two as it is now" in cluster.last_line(0)
        assert "Traceback" not in cluster.logs[0].read_text()
    finally:
        cluster.stop()
