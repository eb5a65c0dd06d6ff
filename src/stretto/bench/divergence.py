"""How long a replica whose state differs from the others' goes on under load, until that is found out and it stops.

The load is that of a closed loop of operations without effect. Far into it stands one whose result is another at one replica. That replica
notes in its log when it executed it; the log also says when the replica stopped.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from stretto.bench.clients import client_processes
from stretto.bench.measure import Progress
from stretto.bench.plan import Plan
from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.core.state_machine import NullMachine, Undo
from stretto.runtime.local_cluster import LocalCluster

SERVICE = "stretto.bench.divergence:DifferingMachine"
_DIFFER = b"differ"
_MARK = "STRETTO_BENCH_DIFFERS"
_BEFORE = 20_000
"""How many operations of the load come before the one that differs."""

_FEWEST = 3
_SECONDS = 60.0
_POLL_SECONDS = 0.02


class DifferingMachine(NullMachine):
    """A machine without state, in which one replica has another result of one operation."""

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """See StateMachine."""
        if operation == _DIFFER and _MARK in os.environ:
            logging.getLogger("stretto.replica").info("differs")
            return _DIFFER, None
        return super().execute(operation, time_ns, entropy)


@dataclass(frozen=True)
class _DifferingPlan(Plan):
    def operations(self, process: int) -> list[bytes]:
        """See `Plan`."""
        return [b""] * _BEFORE + [_DIFFER]


def check_size(config: ClusterConfig) -> None:
    """Raise ConfigurationError if the cluster has too few replicas to tell which of them differs."""
    if config.n < _FEWEST:
        raise ConfigurationError(f"{config.n} of the {_FEWEST} or more replicas that it takes to tell which one differs", key="--differ")


def found_after_ms(plan: Plan, config: ClusterConfig, progress: Progress) -> float:
    """Start a cluster of `config`, but with a service of its own, and let the last replica's state differ under the load of `plan`.

    Returns the milliseconds from its first operation that differed until it stopped. Raises StrettoError if it does not stop.
    """
    odd = config.n - 1
    config = msgspec.structs.replace(config, service=SERVICE)
    with TemporaryDirectory(prefix="stretto-bench-") as directory:
        cluster = LocalCluster.create(Path(directory), config, lambda index: ("env", f"{_MARK}=1") if index == odd else ())
        progress("starting replicas", None)
        cluster.start()
        try:
            with client_processes(config, _DifferingPlan(**vars(plan))) as clients:
                progress("opening sessions", None)
                clients.wait_until_open()
                progress("waiting until the replica that differs stops", None)
                deadline = time.monotonic() + _SECONDS
                while cluster.state(odd) == "running":
                    if time.monotonic() > deadline:
                        raise StrettoError(f"replica {odd} differs, and has not stopped in {_SECONDS:.0f} s")
                    time.sleep(_POLL_SECONDS)
            return _span_ms(cluster.logs[odd])
        finally:
            cluster.stop()


def _span_ms(log: Path) -> float:
    lines = [msgspec.json.decode(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    first = {line["event"]: line["time_s"] for line in reversed(lines)}
    if not {"differs", "replica stopped"} <= first.keys():
        raise StrettoError(f"the replica that differs stopped for another reason; the last line of its log is: {lines[-1]}")
    return float(first["replica stopped"] - first["differs"]) * 1e3
