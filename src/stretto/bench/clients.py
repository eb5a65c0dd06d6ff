"""The client processes. Each hosts one client node with its share of the sessions. This module has both ends of their pipes.

    coordinator                   client process
         |<-----------Ready------------|  every session has had a result; the load continues
         |---(start_ns, end_ns)------->|  it records between these times, and reads its counters at both
         |----------Split------------->|  it records separately what ends at that time or later
         |---------- STOP ------------>|
         |<---------ClientRun----------|  it exits

All processes use the monotonic clock of the machine. A client process exits by itself if its coordinator has died.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Lock
from typing import Any

from stretto.bench.load import ClosedLoops, Load, OpenLoop
from stretto.bench.plan import Plan
from stretto.bench.recording import Recorded, Recording
from stretto.catalog import protocol_for
from stretto.core.config import ClusterConfig
from stretto.core.errors import StrettoError
from stretto.runtime.batching import Datagram, Send, send_many
from stretto.runtime.client_host import ClientHost
from stretto.runtime.loop import DatagramLoop
from stretto.runtime.processes import end, interrupts_blocked

OPEN_SECONDS = 30.0
ANSWER_SECONDS = 30.0
_STOP = None
_GC_THRESHOLDS = (50_000, 50, 100)
_COUNT_SECONDS = 0.02
_UNCOUNTED_NS = 100_000_000
"""Operations that ended less than this time ago are not counted yet, so that a split that is still on its way applies to them."""


class LoadFailure(StrettoError):
    """A client process failed, or did not answer in time."""


@dataclass(frozen=True)
class Ready:
    """Every session of the process is open."""


@dataclass(frozen=True)
class ClientRun:
    """The result of one client process.

    `before`, `after`: its metrics at the start and at the end of the measured time. `oldest_call_ns`: how long the oldest call had been
    outstanding when the load was stopped.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    recorded: Recorded
    oldest_call_ns: int


@dataclass(frozen=True)
class Split:
    """Tells a client process to record separately the latencies of operations that end at that time or later."""

    at_ns: int


@dataclass(frozen=True)
class ClientBug:
    """A client process stopped because of this error."""

    text: str


# In the client process


def _client_process(pipe: Connection, config: ClusterConfig, plan: Plan, process: int, turn: Lock | None) -> None:
    send = send_many if turn is None else _by_turns(turn)
    try:
        with asyncio.Runner(loop_factory=DatagramLoop) as runner:
            runner.run(_serve(pipe, config, plan, process, send))
    except (EOFError, BrokenPipeError):
        pass  # the coordinator has died
    except StrettoError as error:
        pipe.send(ClientBug(str(error)))


def _by_turns(turn: Lock) -> Send:
    """Send only while no other process with this lock does.

    The loopback interface delivers within the call, so all receivers get the same order.
    """

    def send(sock: socket.socket, datagrams: list[Datagram]) -> int:
        with turn:
            return send_many(sock, datagrams)

    return send


async def _serve(pipe: Connection, config: ClusterConfig, plan: Plan, process: int, send: Send) -> None:
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[Any] = asyncio.Queue()
    loop.set_exception_handler(lambda _, context: orders.put_nowait(LoadFailure(repr(context.get("exception") or context["message"]))))
    messages = 1 if plan.one_request_per_datagram else None
    host = ClientHost(protocol_for(config), config, loop, max_messages_per_datagram=messages, send=send)
    load = _load(loop, host, plan, process)
    loop.add_reader(pipe.fileno(), lambda: _take_order(pipe, orders, load.recording))
    load.begin()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)  # as in a replica
    load.all_open.add_done_callback(lambda _: pipe.send(Ready()))
    _count_regularly(loop, load.recording)
    start_ns, end_ns = await _order(orders)
    load.recording.measure(start_ns, end_ns)
    await _sleep_until(start_ns)
    before = host.metrics()
    await _sleep_until(end_ns)
    after = host.metrics()
    await _order(orders)
    oldest_call_ns = load.oldest_call_ns()
    loop.remove_reader(pipe.fileno())
    load.close()
    host.close()
    load.recording.count()
    assert load.recording.recorded is not None
    pipe.send(ClientRun(before, after, load.recording.recorded, oldest_call_ns))


def _load(loop: asyncio.AbstractEventLoop, host: ClientHost, plan: Plan, process: int) -> Load:
    sessions, operations = plan.sessions_of(process), plan.operations(process)
    if plan.rate_ops_s is None:
        return ClosedLoops(loop, host, sessions, operations)
    return OpenLoop(loop, host, sessions, operations, plan.gaps_ns(process))


def _count_regularly(loop: asyncio.AbstractEventLoop, recording: Recording) -> None:
    recording.count(time.monotonic_ns() - _UNCOUNTED_NS)
    loop.call_later(_COUNT_SECONDS, _count_regularly, loop, recording)


def _take_order(pipe: Connection, orders: asyncio.Queue[Any], recording: Recording) -> None:
    try:
        order = pipe.recv()
        if isinstance(order, Split):
            recording.split(order.at_ns)
        else:
            orders.put_nowait(order)
    except (EOFError, OSError) as error:
        asyncio.get_running_loop().remove_reader(pipe.fileno())
        orders.put_nowait(EOFError(str(error)))


async def _order(orders: asyncio.Queue[Any]) -> Any:
    order = await orders.get()
    if isinstance(order, BaseException):
        raise order
    return order


async def _sleep_until(time_ns: int) -> None:
    await asyncio.sleep((time_ns - time.monotonic_ns()) / 1e9)


# In the coordinator


@dataclass(frozen=True)
class Clients:
    """The client processes, under load."""

    processes: list[SpawnProcess]
    pipes: list[Connection]

    def wait_until_open(self) -> None:
        """Wait until every session has had a result. Raises LoadFailure if that takes too long."""
        for pipe in self.pipes:
            self._receive(pipe, OPEN_SECONDS, "could not open its sessions")

    def measure(self, start_ns: int, end_ns: int) -> None:
        """Tell all to record between these times, and to read their counters at both."""
        for pipe in self.pipes:
            pipe.send((start_ns, end_ns))

    def split(self, at_ns: int) -> None:
        """Tell all to record separately the latencies of what ends at that time or later."""
        for pipe in self.pipes:
            pipe.send(Split(at_ns))

    def check(self) -> None:
        """Raise LoadFailure if a client process has died or sent a message. During a measurement, a message can only report a failure."""
        for pipe in self.pipes:
            if pipe.poll():
                self._receive(pipe, 0, "ended")
        if wait([process.sentinel for process in self.processes], 0):
            raise LoadFailure("a client process has died")

    def stop(self) -> list[ClientRun]:
        """End the load and return what was recorded. Raises LoadFailure if a process does not answer in time."""
        for pipe in self.pipes:
            pipe.send(_STOP)
        return [self._receive(pipe, ANSWER_SECONDS, "did not send its recording") for pipe in self.pipes]

    def _receive(self, pipe: Connection, seconds: float, what: str) -> Any:
        index = self.pipes.index(pipe)
        if not pipe.poll(seconds):
            raise LoadFailure(f"client process {index} {what} within {seconds:.0f} s")
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            raise LoadFailure(f"client process {index} has died") from None
        if isinstance(answer, ClientBug):
            raise LoadFailure(f"client process {index}: {answer.text}")
        return answer


OnHost = Callable[[int], AbstractContextManager[object]]
"""Given the index of a client process, a context in which this thread starts processes on the host of that client."""


@contextmanager
def client_processes(config: ClusterConfig, plan: Plan, on_host: OnHost = nullcontext) -> Iterator[Clients]:
    """Start the client processes, and end them on leaving the context."""
    spawn = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    pipes: list[Connection] = []
    turn = spawn.Lock() if plan.one_order else None
    try:
        for index in range(plan.client_processes):
            ours, theirs = spawn.Pipe()
            pipes.append(ours)
            process = spawn.Process(target=_client_process, args=(theirs, config, plan, index, turn), name=f"client {index}", daemon=True)
            with interrupts_blocked(), on_host(index):
                process.start()
            processes.append(process)
            theirs.close()
        yield Clients(processes, pipes)
    finally:
        end(processes)
        for pipe in pipes:
            pipe.close()
