"""What is measured, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError

NULL, KV = "null", "kv"
SERVICES = {NULL: "stretto.core.state_machine:NullMachine", KV: "stretto.apps.kv:KeyValueStore"}
"""The kinds of operations of a load, and the service that executes each."""

GREATEST_RATE = 1_000_000.0
_DRAWN_GAPS = 4_096
_DRAWN_OPERATIONS = 65_536
"""Enough that each key is put or deleted among them. They are sent repeatedly, and a key that is only appended to would grow forever."""


@dataclass(frozen=True)
class Plan:
    """One measurement.

    - `sessions`: the total over all client processes;
    - `seconds`: the measured time; `warm_up_s`: how long the load runs before it, from the first result of the last session;
    - `operation`: a key of SERVICES;
    - `one_request_per_datagram`: requests of a client process do not share datagrams;
    - `one_order`: client processes send one at a time, so that all replicas receive requests in one order;
    - `kill`: `leader`, `follower` or None; `restart`: the killed replica is started again at once;
    - `memory`: the resident memory of the replicas is sampled;
    - `rate_ops_s`: an open loop of so many operations a second, over all client processes, which are due at random times (a Poisson
      process); None: closed loops;
    - `seed`: determines these times, and the operations.
    """

    client_processes: int = 1
    sessions: int = 32
    seconds: float = 5.0
    operation: str = NULL
    one_request_per_datagram: bool = False
    one_order: bool = False
    kill: str | None = None
    restart: bool = False
    memory: bool = False
    warm_up_s: float = 1.0
    rate_ops_s: float | None = None
    seed: int = 0

    def validate(self, config: ClusterConfig) -> Plan:
        """This plan, if it fits a cluster of that configuration. Raises ConfigurationError that names the option."""
        if self.client_processes < 1:
            raise ConfigurationError(f"{self.client_processes} processes cannot make a load; 1 or more", key="--client-processes")
        if not self.client_processes <= self.sessions <= config.limits.max_sessions:
            reason = f"{self.sessions} sessions; at least one for each client process ({self.client_processes}), "
            raise ConfigurationError(reason + f"and at most max_sessions ({config.limits.max_sessions})", key="--sessions")
        if not 0 < self.seconds <= 3_600:
            raise ConfigurationError(f"{self.seconds} seconds cannot be measured; more than 0, at most 3600", key="--seconds")
        if not 0 <= self.warm_up_s <= 3_600:
            raise ConfigurationError(f"{self.warm_up_s} seconds is not a valid time to warm up; 0 to 3600", key="--warm-up")
        if self.rate_ops_s is not None and not 0 < self.rate_ops_s <= GREATEST_RATE:
            reason = f"{self.rate_ops_s:g} operations a second is not a valid rate; more than 0, at most {GREATEST_RATE:,.0f}"
            raise ConfigurationError(reason, key="--rate")
        if self.kill is not None and config.n == 1:
            raise ConfigurationError("the cluster has one replica, and without it there is no service", key="--kill")
        if self.restart and self.kill is None:
            raise ConfigurationError("restarts the replica that was killed; name it with --kill", key="--restart")
        if config.service != SERVICES[self.operation]:
            reason = f"{self.operation} is an operation of {SERVICES[self.operation]}; the cluster runs {config.service}"
            raise ConfigurationError(reason, key="--operation")
        longest = max(map(len, self.operations(0)))
        if longest > config.limits.max_request_bytes:
            reason = f"max_request_bytes is {config.limits.max_request_bytes}; the load has an operation of {longest}"
            raise ConfigurationError(reason, key="limits.max_request_bytes")
        return self

    def sessions_of(self, process: int) -> int:
        """The number of sessions of this client process: an even share. The first processes have one more if there is a remainder."""
        share, rest = divmod(self.sessions, self.client_processes)
        return share + (process < rest)

    def operations(self, process: int) -> list[bytes]:
        """The operations that this client process sends repeatedly. They are drawn before the measurement and so cost it nothing."""
        if self.operation == NULL:
            return [b""]
        from stretto.apps.kv_workload import workload

        random = Random(f"{self.seed}/{process}")
        return [workload(random) for _ in range(_DRAWN_OPERATIONS)]

    def gaps_ns(self, process: int) -> Iterator[int]:
        """An endless stream of the times between the due operations of this client process, in an open loop.

        All processes together have the plan's rate, because the sum of independent Poisson processes is a Poisson process.
        """
        assert self.rate_ops_s is not None
        mean_ns = 1e9 * self.client_processes / self.rate_ops_s
        random = np.random.default_rng([self.seed, process])
        while True:
            yield from np.rint(random.exponential(mean_ns, _DRAWN_GAPS)).astype(np.int64).tolist()
