"""`stretto bench` on real processes: what it tells, and that nothing is left running. Never how fast."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stretto.bench.clients import LoadFailure
from stretto.bench.divergence import found_after_ms
from stretto.bench.histogram import Histogram
from stretto.bench.latency_floor import datagram_sizes
from stretto.bench.measure import measure, own_cluster
from stretto.bench.plan import Plan
from stretto.cli.main import run
from stretto.core.errors import StrettoError
from stretto.core.framing import HEADER_BYTES
from stretto.runtime.local_cluster import ClusterFailure, LocalCluster, loopback_config
from waiting import alive, wait_for

pytestmark = pytest.mark.xdist_group("processes")

NULL_SERVICE = "stretto.core.state_machine:NullMachine"
SHORT = ("--seconds", "1", "--warm-up", "0.1")


def bench(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    """The figures of a short run."""
    assert run(["bench", *SHORT, *arguments, "--json"]) == status
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


def check(figures: dict[str, Any]) -> None:
    """What holds for every run in which nothing went wrong."""
    assert figures["operations"] > 0
    assert figures["throughput_ops_s"] == figures["operations"] / figures["seconds"]
    assert sum(figures["operations_by_second"]) == figures["operations"]
    latency = figures["latency_us"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    histogram = Histogram.from_json(figures["latency_histogram"])
    assert histogram.total == figures["operations"]
    assert histogram.summary_us() == latency
    assert figures["leader"] in range(figures["replicas"])
    assert 0 < figures["longest_gap_ms"] <= 1_000 * figures["seconds"]
    assert figures["failures"] == {}
    assert figures["client_cpu_us_per_op"] > 0
    assert len(figures["replica_cpu_us_per_op"]) == figures["replicas"]
    assert figures["datagrams_per_op"] > 0
    assert len(figures["replica_rss_mb"]["end"]) == len(figures["replica_collections"]) == figures["replicas"]
    assert {"commit", "python", "kernel", "processor"} <= set(figures["measured_on"])


def test_kv_with_floor(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--operation", "kv", "--sessions", "8", "--floor")
    check(figures)
    assert (figures["protocol"], figures["replicas"], figures["sessions"], figures["operation"]) == ("adaptive", 3, 8, "kv")
    assert all(cpu > 0 for cpu in figures["replica_cpu_us_per_op"])
    assert figures["latency_floor_us"] > 0
    assert figures["kill"] is None


def test_unreplicated_has_one_replica(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--protocol", "unreplicated", "--sessions", "4")
    check(figures)
    assert figures["replicas"] == 1
    assert figures["latency_floor_us"] is None


def test_disk_is_synced_once_a_burst(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--durability", "disk", "--sessions", "16")
    check(figures)
    assert figures["durability"] == "disk"
    assert all(0 < fsyncs <= 3 for fsyncs in figures["fsyncs_per_op"])
    assert all(size > 10 for size in figures["bytes_persisted_per_op"])
    assert all(0 < times["p50"] <= times["p99"] for times in figures["fsync_us"])


def test_client_processes_and_one_request_per_datagram(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--client-processes", "2", "--sessions", "41", "--one-request-per-datagram")
    check(figures)
    # One datagram for each request, and some for the replicas' answers; with requests that share, it would be a small part of one.
    assert figures["datagrams_per_op"] > 1


def test_in_one_order_nothing_is_rolled_back(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--client-processes", "2", "--sessions", "16", "--one-order")
    check(figures)
    assert figures["one_order"]
    assert figures["rolled_back_operations"] == 0


@pytest.mark.parametrize("target", ["leader", "follower"])
def test_a_killed_replica(capsys: pytest.CaptureFixture[str], target: str) -> None:
    figures = bench(capsys, "--kill", target, "--sessions", "8")
    check(figures)
    kill = figures["kill"]
    assert kill["target"] == target
    assert (kill["replica"] == 0) == (target == "leader")
    assert kill["latency_us"]["p50"] > 0
    assert kill["gap_ms"] <= figures["longest_gap_ms"]
    assert [cpu is None for cpu in figures["replica_cpu_us_per_op"]].index(True) == kill["replica"]
    assert figures["view_changes"] == (target == "leader")


def test_without_a_follower_speculative_paxos_reconciles(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--protocol", "speculative", "--kill", "follower", "--sessions", "8")
    assert figures["view_changes"] == 0
    assert figures["reconciliations"] > 0


def test_a_killed_replica_that_is_started_again(capsys: pytest.CaptureFixture[str]) -> None:
    for seconds in ("6", "15", "40"):  # a busy machine takes longer to start the replica again
        figures = bench(capsys, "--kill", "follower", "--restart", "--memory", "--sessions", "8", "--seconds", seconds)
        check(figures)
        if figures["kill"]["back_in_service_ms"] is not None:
            break
    assert figures["kill"]["back_in_service_ms"] > 0
    assert [cpu is None for cpu in figures["replica_cpu_us_per_op"]].index(True) == figures["kill"]["replica"]
    samples = figures["memory"]
    assert samples[-1]["operations"] > 0
    assert all(5 < rss < 500 for sample in samples for rss in sample["rss_mb"] if rss is not None)


def test_an_open_loop(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--rate", "500", "--seed", "7", "--sessions", "8", "--client-processes", "2", "--repeat", "2")
    assert (figures["rate_ops_s"], figures["seed"], [run["seed"] for run in figures["runs"]]) == (500, 7, [7, 8])
    for one in figures["runs"]:
        check(one)
        assert 50 < one["operations"] < 1_500
        assert 0 <= one["wait_us"]["p50"] <= one["wait_us"]["max"] < one["latency_us"]["max"]


def test_an_overloaded_open_loop_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench(capsys, "--rate", "500000", "--sessions", "2")
    check(figures)
    assert figures["throughput_ops_s"] < 250_000
    assert figures["latency_us"]["p50"] > 100_000  # all but the first have been due since the load began
    assert figures["oldest_call_ms"] > 500


def test_a_running_cluster_several_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = LocalCluster.create(tmp_path, loopback_config(3, "speculative", "stretto.apps.kv:KeyValueStore"))
    try:
        cluster.start()
        figures = bench(capsys, "--config", str(cluster.file), "--operation", "kv", "--repeat", "2")
        assert [cluster.state(index) for index in range(3)] == ["running"] * 3
    finally:
        cluster.stop()
    assert figures["repeat"] == len(figures["runs"]) == 2
    for one in figures["runs"]:
        check(one)


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *SHORT, "--protocol", "unreplicated", "--repeat", "2", "--floor"]) == 0
    output = capsys.readouterr().out
    for word in ("unreplicated", "medians of 2 runs", "throughput", "p99", "latency floor", "processor time", "measured on"):
        assert word in output


@pytest.mark.parametrize("protocol", ["adaptive", "multipaxos"])
def test_a_replica_whose_state_differs_is_found_out(capsys: pytest.CaptureFixture[str], protocol: str) -> None:
    assert run(["bench", "--differ", "--sessions", "16", "--protocol", protocol, "--repeat", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["protocol"], figures["replicas"], figures["sessions"], len(figures["runs_ms"])) == (protocol, 3, 16, 2)
    assert 0 <= min(figures["runs_ms"]) <= figures["found_after_ms"] <= max(figures["runs_ms"])


def test_without_a_difference_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stretto.bench.divergence._MARK", "STRETTO_NOBODY_LOOKS_FOR_THIS")
    monkeypatch.setattr("stretto.bench.divergence._SECONDS", 2.0)
    with pytest.raises(StrettoError, match="replica 2 differs, and has not stopped in 2 s"):
        found_after_ms(Plan(sessions=4), loopback_config(3, "adaptive", NULL_SERVICE), lambda what, done: None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--differ", "--kill", "leader"], "--kill: does not apply to a load under which a replica's state differs"),
        (["--differ", "--protocol", "unreplicated"], "--differ: 1 of the 3 or more replicas that it takes to tell which one differs"),
        (["--protocol", "paxos"], "'paxos' is not a protocol"),
        (["--protocol", "unreplicated", "--replicas", "3"], "at most 1"),
        (["--replicas", "4"], "4"),
        (["--sessions", "1", "--client-processes", "2"], "--sessions: 1 sessions"),
        (["--client-processes", "0"], "--client-processes"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--warm-up", "-1"], "--warm-up"),
        (["--protocol", "unreplicated", "--kill", "leader"], "--kill"),
        (["--rate", "0"], "--rate: 0 operations a second is not a valid rate; more than 0, at most 1,000,000"),
        (["--restart"], "--restart: restarts the replica that was killed; name it with --kill"),
        (["--config", "no.toml"], "no.toml"),
        (["--operation", "sql"], "'sql'"),
    ],
)
def test_wrong_use(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert complaint in output.err
    assert output.err.count("\n") == 1


def test_a_running_cluster_is_not_described_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = LocalCluster.create(tmp_path, loopback_config(3, "speculative", NULL_SERVICE))
    assert run(["bench", "--config", str(cluster.file), "--kill", "leader"]) == 2
    assert "--kill" in capsys.readouterr().err
    assert run(["bench", "--config", str(cluster.file), "--operation", "kv"]) == 2
    assert "--operation: kv is an operation of stretto.apps.kv:KeyValueStore" in capsys.readouterr().err


def test_a_replica_that_dies_is_named() -> None:
    config = loopback_config(3, "speculative", NULL_SERVICE)
    with own_cluster(config, lambda what, done: None) as cluster:

        def kill_one(what: str, done: float | None) -> None:
            if what == "measuring":
                cluster.kill(1)

        with pytest.raises(ClusterFailure, match=r"replica 1 has died during the measurement: .*replica-1\.log"):
            measure(Plan(seconds=5, warm_up_s=0), config, cluster, kill_one)


def test_without_a_cluster_nothing_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stretto.bench.clients.OPEN_SECONDS", 0.5)
    with pytest.raises(LoadFailure, match="client process 0 could not open its sessions within"):
        measure(Plan(seconds=1), loopback_config(3, "speculative", NULL_SERVICE), None, lambda what, done: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_everything(tmp_path: Path, number: signal.Signals, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    process = start_python("-m", "stretto", "bench", "--seconds", "600", env=os.environ | {"TMPDIR": str(tmp_path)})
    wait_for(lambda: len(alive(tmp_path)) >= 5, "bench, three replicas and a client")
    time.sleep(0.5)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert "Traceback" not in errors
    wait_for(lambda: not alive(tmp_path), "no process")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", ["speculative", "unreplicated"])
def test_the_datagrams_of_the_latency_floor_are_those_of_the_protocol(protocol: str) -> None:
    config = loopback_config(1 if protocol == "unreplicated" else 3, protocol, NULL_SERVICE)
    request, reply = datagram_sizes(config, b"")
    longer_request, same_reply = datagram_sizes(config, bytes(100))
    assert HEADER_BYTES < reply == same_reply < request < 100
    assert longer_request == request + 100
