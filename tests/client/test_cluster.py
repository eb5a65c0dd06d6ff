"""The client library against real replicas: outcomes, threads, asyncio, fork, the end."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import stretto
from hosting import Processes, local_config
from stretto.apps.kv import KeyValueStore
from stretto.core.config import ClusterConfig, Limits, Member, Timeouts
from stretto.core.errors import (
    ApplicationError,
    ClusterClosed,
    ClusterUnavailable,
    ConfigurationError,
    OutcomeUnknown,
    RequestTooLarge,
)
from stretto.protocols.adaptive.client import AdaptiveClient
from stretto.testing import RecordingPort

Start = Callable[[ClusterConfig], Processes]


def single() -> ClusterConfig:
    return local_config(1, protocol="unreplicated")


def down() -> ClusterConfig:
    return msgspec.structs.replace(single(), timeouts=Timeouts(request_timeout_ms=150))


@pytest.mark.parametrize("multicast", [False, True])
def test_calls_reach_the_replicated_service(processes: Start, multicast: bool) -> None:
    cluster_config = local_config(3, multicast=multicast)
    cluster = processes(cluster_config)
    with stretto.connect(cluster_config) as client:
        store = client.service(KeyValueStore)
        store.put(b"key", b"value")
        assert store.get(b"key") == b"value"
        assert client.call(KeyValueStore.get, key=b"none") is None
        with pytest.raises(ApplicationError):
            store.increment(b"key", 1)
        assert client.metrics()["completed"] == 4
    assert all(cluster.metrics(index)["last_position"] >= 5 for index in range(3))
    assert cluster.end() == [0, 0, 0]


def test_large_requests_and_results(processes: Start) -> None:
    config = msgspec.structs.replace(local_config(3), limits=Limits(max_request_bytes=2_000_000))
    processes(config)
    value = os.urandom(30_000)
    with stretto.connect(config) as client:
        store = client.service(KeyValueStore)
        for number in range(5):
            store.put(b"large%d" % number, value)
        assert store.scan(b"large", 10) == [(b"large%d" % number, value) for number in range(5)]
        with pytest.raises(RequestTooLarge, match="max_request_bytes is 2000000"):
            client.execute(bytes(2_000_001))


def test_threads_share_one_client(processes: Start) -> None:
    config = single()
    processes(config)
    failures: list[BaseException] = []
    with stretto.connect(config) as client:
        store = client.service(KeyValueStore)

        def work(thread: int) -> None:
            try:
                for number in range(30):
                    key = b"%d-%d" % (thread, number)
                    store.put(key, key)
                    assert store.get(key) == key
                    store.increment(b"total", 1)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.increment(b"total", 0) == 16 * 30
        metrics = client.metrics()
        assert metrics["completed"] == 16 * 90 + 1
        assert metrics["sessions"] <= 16


def test_many_calls_at_once_in_asyncio_share_datagrams(processes: Start, tmp_path: Path) -> None:
    config = single()
    processes(config)
    file = tmp_path / "cluster.toml"
    file.write_text(config.to_toml())

    async def main() -> None:
        async with stretto.connect_async(file) as client:
            store = client.service(KeyValueStore)
            await asyncio.gather(*(store.increment(b"total", 1) for _ in range(3_000)))
            assert await client.call(KeyValueStore.increment, b"total", 0) == 3_000
            with pytest.raises(ApplicationError):
                await asyncio.gather(store.put(b"text", b"x"), store.increment(b"text", 1))
            assert client.metrics()["datagrams_sent"] < 2_000
            cancelled = asyncio.ensure_future(store.put(b"a", b"b"))
            await asyncio.sleep(0)
            cancelled.cancel()
            assert await store.get(b"text") == b"x"

    asyncio.run(main())


def test_without_replicas_calls_end() -> None:
    config = down()
    with stretto.connect(config) as client, pytest.raises(ClusterUnavailable, match="no replica answered"):
        client.execute(b"")

    async def main() -> None:
        async with stretto.connect_async(config) as client:
            outcomes = await asyncio.gather(*(client.execute(b"") for _ in range(10)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ClusterUnavailable] * 10

    asyncio.run(main())


def test_wrong_use_is_named() -> None:
    class Other:
        def put(self, key: bytes, value: bytes) -> None: ...

        def elsewhere(self) -> None: ...

    with stretto.connect(down()) as client:
        for method in (Other.put, Other.elsewhere, print):
            with pytest.raises(TypeError, match="is not a method of KeyValueStore"):
                client.call(method)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="key"):
            client.call(KeyValueStore.get, "text")  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            client.service(KeyValueStore).no_such_operation()  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="there are"):
        stretto.connect(msgspec.structs.replace(single(), protocol="pasox"))
    with pytest.raises(ConfigurationError, match=r"/no/such/file: cannot be read"):
        stretto.connect("/no/such/file")


def test_after_close_calls_are_refused_and_outstanding_ones_end() -> None:
    client = stretto.connect(msgspec.structs.replace(down(), timeouts=Timeouts()))
    outcomes: list[BaseException] = []

    def call() -> None:
        try:
            client.execute(b"")
        except OutcomeUnknown as error:
            outcomes.append(error)

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    while client.metrics()["outstanding"] < 5:
        time.sleep(0.001)
    client.close()
    client.close()
    for thread in threads:
        thread.join(60)
    assert ["outstanding when the cluster could not be used any more (it was closed)" in str(error) for error in outcomes] == [True] * 5
    for use in (lambda: client.execute(b""), client.metrics):
        with pytest.raises(ClusterClosed, match="it was closed; connect again"):
            use()
    assert not [thread for thread in threading.enumerate() if thread.name == "stretto"]


def test_an_asynchronous_cluster_after_close_and_in_another_loop() -> None:
    async def main() -> stretto.AsyncCluster:
        client = stretto.connect_async(down())
        call = asyncio.ensure_future(client.execute(b""))
        await asyncio.sleep(0)
        await client.close()
        await client.close()
        with pytest.raises(OutcomeUnknown, match="outstanding when the cluster was closed"):
            await call
        with pytest.raises(ClusterClosed, match="it was closed; connect again"):
            await client.execute(b"")
        return stretto.connect_async(down())

    with asyncio.Runner() as first:
        client = first.run(main())
        with asyncio.Runner() as second, pytest.raises(ClusterClosed, match="another event loop"):
            second.run(client.execute(b""))
        first.run(client.close())


def test_use_after_fork_is_refused_and_the_parent_goes_on(processes: Start) -> None:
    config = single()
    processes(config)
    with stretto.connect(config) as client:
        store = client.service(KeyValueStore)
        store.put(b"key", b"parent")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for use in (lambda: store.put(b"key", b"child"), client.metrics, lambda: client.execute(b"")):
                    with pytest.raises(ClusterClosed, match="opened before fork; connect again in the child"):
                        use()
                client.close()
                with stretto.connect(config) as own:
                    assert own.service(KeyValueStore).get(b"key") == b"parent"
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert store.get(b"key") == b"parent"


def test_a_bug_in_the_client_ends_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    client = stretto.connect(msgspec.structs.replace(down(), timeouts=Timeouts()))

    def broken(name: str) -> None:
        raise AssertionError("this contradicts itself")

    monkeypatch.setattr(client._host.node, "on_timer", broken)
    with pytest.raises(OutcomeUnknown, match="this contradicts itself"):
        client.execute(b"")
    with pytest.raises(ClusterClosed, match="this contradicts itself"):
        client.execute(b"")
    client.close()


def test_a_call_ends_by_the_clock_however_late_the_ticks() -> None:
    """A busy process fires its timers late. Counted in ticks, five seconds were up to eleven."""
    port = RecordingPort(1 << 20, replicas=3)
    client = AdaptiveClient(port, ClusterConfig(tuple(Member("127.0.0.1", 1 + index) for index in range(3))))
    ended: dict[str, object] = {}
    client.call(b"by the configuration", 0, lambda outcome: ended.update(long=outcome))
    client.call(b"for this call", 0, lambda outcome: ended.update(short=outcome), timeout_ns=300_000_000)
    times: dict[str, float] = {}
    for _ in range(60):
        port.advance(100_000_000)
        client.on_timer("tick")
        for name in ended.keys() - times.keys():
            times[name] = port.now_ns / 1e9
    assert times == {"short": pytest.approx(0.3), "long": pytest.approx(5.0)}
    assert all(isinstance(outcome, ClusterUnavailable) for outcome in ended.values())


def test_a_client_and_a_call_have_time_outs_of_their_own() -> None:
    config = ClusterConfig((Member("127.0.0.1", 9),), protocol="unreplicated")
    began = time.monotonic()
    with stretto.connect(config) as cluster:
        with pytest.raises(ClusterUnavailable):
            cluster.within(30).call(KeyValueStore.get, b"k")
        with pytest.raises(ClusterUnavailable):
            cluster.within(30).service(KeyValueStore).get(b"k")
        for wrong in (0, -1, 1e12, float("nan")):
            with pytest.raises(ConfigurationError, match="is not a time in milliseconds"):
                cluster.within(wrong)
    with stretto.connect(config, request_timeout_ms=30) as cluster, pytest.raises(ClusterUnavailable):
        cluster.call(KeyValueStore.get, b"k")

    async def run() -> None:
        async with stretto.connect_async(config, request_timeout_ms=30) as cluster:
            with pytest.raises(ClusterUnavailable):
                await cluster.call(KeyValueStore.get, b"k")
        async with stretto.connect_async(config) as cluster:
            with pytest.raises(ClusterUnavailable):
                await cluster.within(30).call(KeyValueStore.get, b"k")
            with pytest.raises(ClusterUnavailable):
                await cluster.within(30).service(KeyValueStore).get(b"k")

    asyncio.run(run())
    assert time.monotonic() - began < 25, "six calls would take 30 s by the configuration"
