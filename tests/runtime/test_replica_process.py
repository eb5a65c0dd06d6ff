"""A replica as a process: how it starts, answers, logs and ends."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hosting import Processes, local_config
from stretto import catalog
from stretto.core.config import ClusterConfig
from stretto.core.errors import ClusterUnavailable, ConfigurationError, StrettoError
from stretto.core.protocol import ProtocolDefinition
from stretto.core.state_machine import NullMachine
from stretto.protocols.unreplicated import UNREPLICATED
from stretto.runtime.metrics import fetch_metrics
from stretto.runtime.replica import run_replica

Start = Callable[..., Processes]
NULL = "stretto.core.state_machine:NullMachine"


def single(**changes: Any) -> ClusterConfig:
    return local_config(1, protocol="unreplicated", service=NULL, **changes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(processes: Start, number: signal.Signals) -> None:
    cluster = processes(single())
    child = cluster.children[0]
    assert child.pid is not None
    os.kill(child.pid, number)
    child.join(60)
    assert child.exitcode == 0
    lines = [json.loads(line) for line in cluster.log(0).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["bootstrapping", "view entered", "replica started", "replica ends"]
    assert lines[2]["endpoint"] == f"127.0.0.1:{cluster.config.replicas[0].port}"
    assert lines[3]["signal"] == number.name
    assert all(line["level"] == "info" and line["time_s"] > 1e9 for line in lines)


def test_metrics_can_be_fetched(processes: Start) -> None:
    config = local_config(3, multicast=True, service=NULL)
    cluster = processes(config)
    for index in range(3):
        metrics = cluster.metrics(index)
        assert metrics["pid"] == cluster.children[index].pid
        assert {"view", "leader", "last_position", "committed", "ignored_messages", "datagrams_received", "cpu_s", "rss_bytes"} <= set(
            metrics
        )
        assert metrics["rss_bytes"] > 1 << 20
        assert 0 < metrics["uptime_s"] < 600
    with pytest.raises(ClusterUnavailable, match="runs with another configuration"):
        fetch_metrics(msgspec.structs.replace(config, service="a:B"), 0)
    with pytest.raises(ConfigurationError, match="there is no replica 3"):
        fetch_metrics(config, 3)
    assert cluster.metrics(0)["ignored_messages"]["not a Stretto datagram"] == 1
    assert cluster.end() == [0, 0, 0]
    with pytest.raises(ClusterUnavailable, match=r"replica 1 at 127\.0\.0\.1:\d+ does not answer: Connection refused"):
        fetch_metrics(config, 1)


def refused(config: ClusterConfig, index: int = 0, **options: Any) -> str:
    options = {"bootstrap": True} | options
    with pytest.raises(ConfigurationError) as caught:
        run_replica(UNREPLICATED, config, index, NullMachine, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_single_replica_with_lost_state_stops(tmp_path: Path) -> None:
    with pytest.raises(StrettoError, match="a single replica that has lost its state has lost everything"):
        run_replica(UNREPLICATED, single(), 0, NullMachine, bootstrap=False, log=tmp_path / "log")
    [line] = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["event"] == "replica stopped"


def test_errors_name_the_reason_why_it_cannot_start(tmp_path: Path, processes: Start) -> None:
    config = single()
    assert "there is no replica 1" in refused(config, 1)
    missing = tmp_path / "no such folder" / "log"
    assert refused(config, log=missing) == f"{missing}: the log cannot be written: No such file or directory"
    assert refused(config, log=tmp_path).endswith("the log cannot be written: Is a directory")
    processes(config)
    assert "is in use" in refused(config)


class Silent:
    def on_message(self, source: int, message: Any) -> None:
        raise AssertionError("this node gets no messages")


def test_a_bug_ends_the_process_with_an_error_and_a_traceback_in_the_log(tmp_path: Path) -> None:
    class Broken(Silent):
        def __init__(self, port: Any, *rest: Any) -> None:
            port.set_timer("soon", 1_000_000)

        def on_timer(self, name: str) -> None:
            raise AssertionError("this contradicts itself")

    definition = ProtocolDefinition("broken", UNREPLICATED.message_types, (), Broken, UNREPLICATED.client)  # type: ignore[arg-type]
    with pytest.raises(StrettoError, match="this contradicts itself"):
        run_replica(definition, single(), 0, NullMachine, bootstrap=True, log=tmp_path / "log")
    last = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    assert last["level"] == "critical"
    assert "AssertionError: this contradicts itself" in last["traceback"]


def test_reports_of_the_node_are_logged(tmp_path: Path) -> None:
    class Talkative(Silent):
        def __init__(self, port: Any, *rest: Any) -> None:
            port.report("view entered", view=7, what={1, 2})

    definition = ProtocolDefinition("talkative", UNREPLICATED.message_types, (), Talkative, UNREPLICATED.client)  # type: ignore[arg-type]

    def end() -> None:
        while not (tmp_path / "log").exists() or "started" not in (tmp_path / "log").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end).start()
    run_replica(definition, single(), 0, NullMachine, bootstrap=True, log=tmp_path / "log")
    first = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert first["event"] == "view entered"
    assert first["view"] == 7


def test_every_protocol_runs_in_processes(processes: Start) -> None:
    for name in catalog.protocol_names():
        limit = catalog.protocol(name).max_replicas
        config = local_config(limit or 3, protocol=name, service=NULL)
        assert processes(config).end() == [0] * len(config.members)
