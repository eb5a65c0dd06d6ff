"""A rolling upgrade: the replicas of a loaded cluster get a new release one by one, and no call fails.

`first/inventory.py` and `second/inventory.py` are two releases of one service. Clients of the first release call it all the time, while
each replica is ended and started again with the second. Then version 2 becomes active by itself.

Run it, in this folder:

    $ python roll_out.py
    3 replicas have the first release; 16 clients call it
    a client of the second release: NotActive: reserve exists from version 2 on; version 1 is active
    replica 0 has the second release; the longest time without an answer was 64 ms
    replica 1 has the second release; the longest time without an answer was 101 ms
    replica 2 has the second release; the longest time without an answer was 96 ms
    version 2 is active; the longest time without an answer was 11 ms
    a client of the second release: 40 apples are reserved
    78301 calls, 0 failed, 0 lost, 0 repeated
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import stretto
from stretto.runtime.local_cluster import LocalCluster, in_service, loopback_config

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "first"))

from inventory import Inventory  # type: ignore[import-not-found]  # noqa: E402  (the module of the first release)

CLIENTS = 16
SETTLED_SECONDS = 0.5


class Load:
    """Clients that call without a break. `calls`, `failed`: how many; `longest_s`: the longest time without an answer since it was set."""

    def __init__(self) -> None:
        self.calls = 0
        self.failed: list[Exception] = []
        self.longest_s = 0.0
        self.ends = False
        self._last = time.monotonic()

    async def run(self, cluster: stretto.AsyncCluster) -> None:
        inventory = cluster.service(Inventory)
        while not self.ends:
            try:
                await inventory.change("apples", 1)
            except stretto.StrettoError as error:
                self.failed.append(error)
                await asyncio.sleep(0)
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - self._last)
            self._last = now
            self.calls += 1

    def taken(self) -> int:
        """The longest time without an answer since this was asked last, in milliseconds."""
        longest, self.longest_s = self.longest_s, 0.0
        return round(longest * 1_000)


def serves(cluster: LocalCluster, index: int) -> bool:
    """Whether a replica is in service."""
    return in_service(cluster.status()[index]["metrics"])


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds. Raises TimeoutError that says what was waited for."""
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        await asyncio.sleep(0.02)


async def reserve(cluster: LocalCluster) -> str:
    """What a client of the second release prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places("second"))}
    command = (sys.executable, str(HERE / "reserve.py"), str(cluster.file))
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


async def roll_out(directory: Path) -> None:
    """Start a cluster with the first release, and upgrade it to the second."""
    releases = ["first"] * 3
    config = loopback_config(3, "adaptive", "inventory:Inventory")
    cluster = LocalCluster.create(directory, config, lambda index: ("env", f"PYTHONPATH={os.pathsep.join(places(releases[index]))}"))
    load = Load()
    try:
        await asyncio.to_thread(cluster.start)
        async with stretto.connect_async(config) as client:
            running = [asyncio.create_task(load.run(client)) for _ in range(CLIENTS)]
            print(f"3 replicas have the first release; {CLIENTS} clients call it")
            print(f"a client of the second release: {await reserve(cluster)}")
            await asyncio.sleep(SETTLED_SECONDS)
            load.taken()
            for index in range(3):
                releases[index] = "second"
                await asyncio.to_thread(cluster.end, index)
                cluster.restart(index)
                await until(partial(serves, cluster, index), f"replica {index} does not come back")
                await asyncio.sleep(SETTLED_SECONDS)
                print(f"replica {index} has the second release; the longest time without an answer was {load.taken()} ms", flush=True)
            await until(lambda: all(state["metrics"]["version"] == 2 for state in cluster.status()), "version 2 does not become active")
            await asyncio.sleep(SETTLED_SECONDS)
            print(f"version 2 is active; the longest time without an answer was {load.taken()} ms")
            load.ends = True
            await asyncio.gather(*running)
            print(f"a client of the second release: {await reserve(cluster)}")
            difference = await client.service(Inventory).count("apples") + 40 - (load.calls - len(load.failed))
            lost, repeated = max(0, -difference), max(0, difference)
            print(f"{load.calls} calls, {len(load.failed)} failed, {lost} lost, {repeated} repeated")
    finally:
        await asyncio.to_thread(cluster.stop)


def places(release: str) -> list[str]:
    """Where a replica with that release looks for modules."""
    return [str(HERE / release), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def main() -> None:
    """Roll the second release out, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(roll_out(Path(directory)))


if __name__ == "__main__":
    main()
