"""All replicas and a client in one process, by turns: the processor time that an operation costs each of them.

The nodes share one event loop and exchange real datagrams over the loopback interface, under a closed loop of calls. One works at a time,
none waits for another process, and caches stay warm. So costs are lower than in a cluster of processes, and small changes show.

`stretto bench --turns --against DIR` runs this file, as a program, on the code of another directory too. So it uses only what hardly
changes.

    coordinator                 this program
         |------- "COUNT\n" ------->|  it makes that many calls
         |<-- figures, as JSON -----|  one line; and so on until its input ends
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from itertools import cycle
from time import process_time_ns
from typing import Any

import msgspec

from stretto.bench.plan import Plan
from stretto.bench.run import own_config
from stretto.catalog import protocol_for, service
from stretto.core.config import ClusterConfig
from stretto.core.errors import StrettoError
from stretto.core.protocol import BOOTSTRAP
from stretto.runtime.client_host import ClientHost
from stretto.runtime.host import NodeHost
from stretto.runtime.loop import DatagramLoop, Turn
from stretto.runtime.sockets import open_member_sockets

OPERATIONS = 2_000
"""How many calls are made for one set of figures."""

FIGURES = ("replica_us_per_op", "client_us_per_op", "process_us_per_op")

_GC_THRESHOLDS = (50_000, 50, 100)


class _TimedLoop(DatagramLoop):
    """Counts the processor time of each node's turns, by the node's host. A host serves each of its sockets by the same turn."""

    def __init__(self) -> None:
        super().__init__()
        self.spent_ns: dict[Any, int] = {}
        self._timed: dict[Turn, Turn] = {}

    def serve(self, sock: Any, turn: Turn) -> None:
        """See `DatagramLoop`."""
        if turn not in self._timed:
            self._timed[turn] = self._with_time(turn)
        super().serve(sock, self._timed[turn])

    def _with_time(self, turn: Turn) -> Turn:
        host = turn.__self__  # type: ignore[attr-defined]
        spent_ns = self.spent_ns
        spent_ns[host] = 0

        def timed() -> None:
            began_ns = process_time_ns()
            turn()
            spent_ns[host] += process_time_ns() - began_ns

        return timed


class Turns:
    """A cluster and its client, in this process, and closed loops of calls. To be used in a running `_TimedLoop`."""

    def __init__(self, loop: _TimedLoop, config: ClusterConfig, plan: Plan) -> None:
        self._loop = loop
        self._wanted = 0
        self._completed = 0
        self._done: Callable[[], None] = lambda: None
        self._operations = cycle(plan.operations(0))
        definition, machine = protocol_for(config), service(config.service)
        self._members = []
        for address in range(len(config.members)):
            sockets = open_member_sockets(config, address)
            host = NodeHost(loop, config, definition.message_types, sockets, member=address, report=_report, stopped=_stopped)
            self._members.append(host)
            if address < config.n:
                host.start(definition.replica(host, config, address, machine(), BOOTSTRAP))
            else:
                assert definition.sequencer is not None
                host.start(definition.sequencer(host, config, address - config.n))
        self._replicas = self._members[: config.n]
        self._client = ClientHost(definition, config, loop)
        self._sessions = plan.sessions

    async def run(self, operations: int) -> dict[str, float]:
        """Make this number of calls, from all sessions together. Returns the processor time that each took, in microseconds:

        `replica_us_per_op`, the mean of the replicas' turns; `client_us_per_op`, the client's turns; `process_us_per_op`, everything, with
        timers and the kernel. Raises StrettoError if a call fails.
        """
        ended = asyncio.Event()
        self._done = ended.set
        self._completed, self._wanted = 0, operations
        for host in self._loop.spent_ns:
            self._loop.spent_ns[host] = 0
        began_ns = process_time_ns()
        for _ in range(self._sessions):
            self._client.call(next(self._operations), self._returned)
        await ended.wait()
        spent_ns, all_ns = self._loop.spent_ns, process_time_ns() - began_ns
        replicas_ns = sum(spent_ns[host] for host in self._replicas) / len(self._replicas)
        shares = (replicas_ns, spent_ns[self._client.host], all_ns)
        return {name: share_ns / 1e3 / self._completed for name, share_ns in zip(FIGURES, shares, strict=True)}

    def _returned(self, outcome: bytes | StrettoError) -> None:
        if isinstance(outcome, StrettoError):
            raise outcome
        self._completed += 1
        if self._completed <= self._wanted - self._sessions:
            self._client.call(next(self._operations), self._returned)
        elif self._completed >= self._wanted:
            self._done()

    def close(self) -> None:
        """Close all sockets."""
        self._client.close()
        for host in self._members:
            host.close()


def _report(event: str, details: dict[str, Any]) -> None:
    pass


def _stopped(reason: str) -> None:
    raise StrettoError(reason)


async def _serve(plan: Plan, protocol: str, replicas: int | None) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _TimedLoop)
    failure: asyncio.Future[dict[str, float]] = loop.create_future()
    loop.set_exception_handler(lambda _, context: _fail(failure, context))
    turns = Turns(loop, own_config(plan, protocol, replicas), plan)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)  # as in a replica
    try:
        while order := await loop.run_in_executor(None, sys.stdin.readline):
            calls = loop.create_task(turns.run(int(order)))
            ended, _ = await asyncio.wait([calls, failure], return_when=asyncio.FIRST_COMPLETED)
            print(msgspec.json.encode(ended.pop().result()).decode(), flush=True)
    finally:
        turns.close()


def _fail(failure: asyncio.Future[dict[str, float]], context: dict[str, Any]) -> None:
    if not failure.done():
        failure.set_exception(context.get("exception") or StrettoError(context["message"]))


def main() -> None:
    """Serve the coordinator; the arguments are the plan as JSON, the protocol, and the number of replicas or an empty string."""
    plan, protocol, replicas = sys.argv[1:]
    with asyncio.Runner(loop_factory=_TimedLoop) as runner:
        runner.run(_serve(Plan(**msgspec.json.decode(plan)), protocol, int(replicas) if replicas else None))


if __name__ == "__main__":
    main()
