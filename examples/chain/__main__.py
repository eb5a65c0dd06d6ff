"""The three ways to run the protocol; see `chain/__init__.py`."""

import sys
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

from chain import CHAIN
from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_model import model
from stretto.apps.kv_workload import workload
from stretto.client.cluster import Cluster
from stretto.exploration.bounds import Bounds
from stretto.exploration.search import Search
from stretto.exploration.world import World
from stretto.runtime.local_cluster import loopback_config
from stretto.runtime.metrics import metrics_or_none
from stretto.runtime.replica import run_replica
from stretto.services.service import ServiceMachine
from stretto.simulation.run import simulate
from stretto.simulation.spec import SimulationSpec

MACHINE = partial(ServiceMachine, KeyValueStore)


def on_sockets() -> str:
    """Three replicas, each in a process of its own, and a client."""
    config = loopback_config(3, "chain", "stretto.apps.kv:KeyValueStore", multicast=False)
    with TemporaryDirectory() as folder:
        processes = []
        for index in range(3):
            options = {"bootstrap": True, "log": Path(folder, f"replica-{index}.log")}
            processes.append(get_context("spawn").Process(target=run_replica, args=(CHAIN, config, index, MACHINE), kwargs=options))
        try:
            for process in processes:
                process.start()
            while not all(metrics_or_none(config, index) for index in range(3)):
                if not all(process.is_alive() for process in processes):
                    raise SystemExit("a replica did not start")
                sleep(0.05)
            with Cluster(CHAIN, config, lambda: KeyValueStore) as cluster:
                cluster.call(KeyValueStore.put, b"key", b"hello")
                return f"three replica processes on this machine: {cluster.call(KeyValueStore.get, b'key')!r}"
        finally:
            for process in processes:
                if process.pid is not None:
                    process.terminate()
                    process.join()


def in_the_simulator(seed: int = 1) -> str:
    """Virtual time and faults from a seed; every step is checked, and the history of all calls at the end."""
    faults = ("loss", "duplication", "reordering", "partition", "power_cut")
    spec = SimulationSpec("chain", clients=2, operations=200, keys=5, durability="disk", faults=faults, seed=seed)
    result = simulate(spec, CHAIN, MACHINE, partial(workload, keys=spec.keys), model=model())
    violation = "none" if result.violation is None else f"{result.violation.kind}: {result.violation.description}"
    return f"{result.operations} operations with lost, duplicated and delayed messages and power cuts: violation {violation}"


def in_the_explorer() -> str:
    """Every order of what may happen in a small world, within bounds."""
    bounds = Bounds(replicas=3, clients=2, operations=2, timers=1, crashes=1)
    search = Search(World(CHAIN, bounds, durable=True))
    for _ in search.run():
        pass
    violation = "none" if search.found is None else str(search.found.violation)
    exhausted = "yes" if search.exhausted else "no"
    return f"every order of 2 calls, 1 timer and 1 crash: exhausted {exhausted}, violation {violation}"


COMMANDS = {"sockets": on_sockets, "simulate": in_the_simulator, "explore": in_the_explorer}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(f"usage: python -m chain {'|'.join(COMMANDS)}")
    print(COMMANDS[sys.argv[1]]())
