"""What is to be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError

NULL, KV = "null", "kv"
SERVICES = {NULL: "stretto.core.state_machine:NullMachine", KV: "stretto.apps.kv:KeyValueStore"}
"""The operations that a load can be made of, and the service that each is for."""

GREATEST_RATE = 1_000_000.0
_DRAWN_GAPS = 4_096
_DRAWN_OPERATIONS = 65_536
"""So many that each key is put or deleted among them: they come again and again, and a key only ever appended to would grow for ever."""


@dataclass(frozen=True)
class Plan:
    """One measurement. `sessions` is the total over all client processes; `kill` is `leader`, `follower` or None.

    `one_order`: client processes send one at a time, so that all replicas receive requests in one order.
    `restart`: the killed replica is started again at once. `memory`: replicas are asked now and then how much memory they have.
    `warm_up_s`: how long the load runs between the first result of the last session and the start of the measured `seconds`.
    `rate_ops_s`: an open loop of so many operations a second, over all client processes, which are due at random times (a Poisson
    process); None: closed loops. `seed` decides these times, and what the operations are.
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
        """This plan, if a cluster of that configuration can be measured by it. Raises ConfigurationError that names the option."""
        if self.client_processes < 1:
            raise ConfigurationError(f"{self.client_processes} processes can make no load; 1 or more", key="--client-processes")
        if not self.client_processes <= self.sessions <= config.limits.max_sessions:
            reason = f"{self.sessions} sessions; at least one for each client process ({self.client_processes}), "
            raise ConfigurationError(reason + f"and at most max_sessions ({config.limits.max_sessions})", key="--sessions")
        if not 0 < self.seconds <= 3_600:
            raise ConfigurationError(f"{self.seconds} seconds cannot be measured; more than 0, at most 3600", key="--seconds")
        if not 0 <= self.warm_up_s <= 3_600:
            raise ConfigurationError(f"{self.warm_up_s} seconds is no time to warm up; 0 to 3600", key="--warm-up")
        if self.rate_ops_s is not None and not 0 < self.rate_ops_s <= GREATEST_RATE:
            reason = f"{self.rate_ops_s:g} operations a second is no rate; more than 0, at most {GREATEST_RATE:,.0f}"
            raise ConfigurationError(reason, key="--rate")
        if self.kill is not None and config.n == 1:
            raise ConfigurationError("there is one replica, and nothing is left without it", key="--kill")
        if self.restart and self.kill is None:
            raise ConfigurationError("starts a killed replica again; say which one is killed with --kill", key="--restart")
        if config.service != SERVICES[self.operation]:
            reason = f"{self.operation} is an operation of {SERVICES[self.operation]}; the cluster runs {config.service}"
            raise ConfigurationError(reason, key="--operation")
        longest = max(map(len, self.operations(0)))
        if longest > config.limits.max_request_bytes:
            reason = f"max_request_bytes is {config.limits.max_request_bytes}; the load has an operation of {longest}"
            raise ConfigurationError(reason, key="limits.max_request_bytes")
        return self

    def sessions_of(self, process: int) -> int:
        """How many sessions this client process has: an even share, one more for the first ones if it does not come out even."""
        share, rest = divmod(self.sessions, self.client_processes)
        return share + (process < rest)

    def operations(self, process: int) -> list[bytes]:
        """What this client process sends, again and again, drawn before the measurement so that drawing costs nothing in it."""
        if self.operation == NULL:
            return [b""]
        from stretto.apps.kv_workload import workload

        random = Random(f"{self.seed}/{process}")
        return [workload(random) for _ in range(_DRAWN_OPERATIONS)]

    def gaps_ns(self, process: int) -> Iterator[int]:
        """The times between the operations that are due in this client process, of an open loop, without end.

        Those of all processes together have the plan's rate, since streams of independent events add up to such a stream.
        """
        assert self.rate_ops_s is not None
        mean_ns = 1e9 * self.client_processes / self.rate_ops_s
        random = np.random.default_rng([self.seed, process])
        while True:
            yield from np.rint(random.exponential(mean_ns, _DRAWN_GAPS)).astype(np.int64).tolist()
