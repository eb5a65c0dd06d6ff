"""Real replicas on disk are all killed at random moments under load, repeatedly. Acknowledged operations survive, exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

import stretto
from stretto.apps.kv import KeyValueStore
from stretto.core.config import ClusterConfig
from stretto.core.errors import StrettoError
from stretto.runtime.local_cluster import LocalCluster, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

SESSIONS = 8
ROUNDS = 4


class Counting:
    """Sessions that increment, each a key of its own. `counted`: acknowledged increments; `unknown`: those with unknown outcome."""

    def __init__(self) -> None:
        self.counted = [0] * SESSIONS
        self.unknown = [0] * SESSIONS
        self.over = False

    async def run(self, cluster: stretto.AsyncCluster, session: int) -> None:
        while not self.over:
            try:
                value = await cluster.call(KeyValueStore.increment, b"%d" % session, 1)
            except StrettoError:
                self.unknown[session] += 1
                continue
            assert self.counted[session] < value <= self.counted[session] + self.unknown[session] + 1
            self.unknown[session] -= value - self.counted[session] - 1
            self.counted[session] = value


def kill_all(cluster: LocalCluster) -> None:
    for index in range(cluster.config.n):
        cluster.kill(index)
    assert all(pid_file.wait(60) for pid_file in cluster.pid_files)


async def under_load(cluster: LocalCluster, config: ClusterConfig, random: Random) -> Counting:
    counting = Counting()
    async with stretto.connect_async(config) as client:
        sessions = [asyncio.create_task(counting.run(client, session)) for session in range(SESSIONS)]
        for _ in range(ROUNDS):
            await asyncio.sleep(random.uniform(0.05, 0.6))
            await asyncio.to_thread(kill_all, cluster)
            before = sum(counting.counted)
            await asyncio.to_thread(cluster.start)
            while sum(counting.counted) < before + 100:
                await asyncio.sleep(0.01)
                assert not any(session.done() for session in sessions), [session.exception() for session in sessions if session.done()]
        counting.over = True
        await asyncio.gather(*sessions)
        for session in range(SESSIONS):
            value = int(await client.call(KeyValueStore.get, b"%d" % session) or 0)
            assert counting.counted[session] <= value <= counting.counted[session] + counting.unknown[session]
    return counting


def test_acknowledged_increments_survive_kills_of_all_replicas(tmp_path: Path) -> None:
    random = Random(4)
    config = loopback_config(3, "speculative", "stretto.apps.kv:KeyValueStore", durability="disk", checkpoint_operations=50)
    cluster = LocalCluster.create(tmp_path, config)
    try:
        cluster.start()
        counting = asyncio.run(under_load(cluster, config, random))
        assert sum(counting.counted) >= 100 * ROUNDS
        assert all(replica["metrics"]["log_start"] > 0 for replica in cluster.status())
    finally:
        cluster.stop()
