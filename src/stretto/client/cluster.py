"""A cluster as an object with calls, for plain code."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from stretto.client.calls import Calls, ServiceLoader, ServiceProxy
from stretto.core.config import ClusterConfig, timeout_in_ns
from stretto.core.errors import ClusterClosed, OutcomeUnknown, StrettoError
from stretto.core.node import Done
from stretto.core.protocol import ProtocolDefinition
from stretto.runtime.client_host import ClientHost
from stretto.runtime.loop import DatagramLoop
from stretto.services.service import Service

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Service)

logger = logging.getLogger("stretto.client")


class Cluster(Calls):
    """A cluster for plain code: each call waits for its result. Any number of threads may call at once; their requests share datagrams.

    `stretto.connect` makes it. It runs a thread for the network, so use it as a context manager or `close` it. After a fork the child
    cannot use it and must connect again.
    """

    def __init__(
        self,
        definition: ProtocolDefinition,
        config: ClusterConfig,
        load_service: ServiceLoader,
        request_timeout_ms: float | None = None,
    ) -> None:
        super().__init__(load_service)
        self._loop = DatagramLoop()
        try:
            self._host = ClientHost(definition, config, self._loop, request_timeout_ms=request_timeout_ms)
        except BaseException:
            self._loop.close()
            raise
        self._loop.set_exception_handler(self._on_bug)
        self._lock = Lock()
        self._begun: list[tuple[bytes, Done, int | None]] = []
        self._outstanding: set[Future[bytes]] = set()
        self._why_closed: str | None = None
        self._thread = Thread(target=self._run, name="stretto", daemon=True)
        self._thread.start()

    def call(self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the service and wait for what it returns: `cluster.call(KeyValueStore.put, b"key", b"value")`.

        Raises the ApplicationError with which the operation failed; a subclass of OutcomeUnknown (RequestTimeout, ClusterUnavailable,
        SessionExpired, ClusterReset) if it may have happened; RequestTooLarge or ClusterClosed if it was not sent; TypeError for arguments
        that do not fit the method.
        """
        result = self.execute(self._encode(method, args, kwargs))
        return cast(R, self._codec.decode(method.__name__, result))

    def service(self, service: type[S]) -> S:
        """An object with the methods of `service`, the class that the configuration names; each method is a `call`."""
        return cast(S, ServiceProxy(self.call, service))

    def execute(self, operation: bytes) -> bytes:
        """Replicate an encoded operation and wait for its encoded result. Raises as `call` does, except ApplicationError and TypeError."""
        return self._execute(operation, None)

    def _execute(self, operation: bytes, timeout_ns: int | None) -> bytes:
        future: Future[bytes] = Future()
        self._begin(operation, future, timeout_ns)
        return future.result()

    def within(self, milliseconds: float) -> CallsWithin:
        """The same calls, each of which ends after that time: `cluster.within(200).call(KeyValueStore.get, b"key")`.

        Raises ConfigurationError unless the time is more than 0 and less than a day.
        """
        return CallsWithin(self, timeout_in_ns(milliseconds))

    def metrics(self) -> dict[str, Any]:
        """Counters of this client: calls, retransmissions, failures, datagrams."""
        self._check_process()
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            self._check_open()
            self._loop.call_soon_threadsafe(lambda: future.set_result(self._host.metrics()))
        return future.result()

    def close(self) -> None:
        """End the thread and close the sockets. Outstanding calls raise OutcomeUnknown. A second call does nothing."""
        if os.getpid() == self._pid:
            self._stop("it was closed")
            self._thread.join()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _begin(self, operation: bytes, future: Future[bytes], timeout_ns: int | None) -> None:
        self._check_process()
        with self._lock:
            self._check_open()
            self._outstanding.add(future)
            self._begun.append((operation, partial(self._finish, future), timeout_ns))
            if len(self._begun) == 1:
                self._loop.call_soon_threadsafe(self._submit)

    def _submit(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, []
        for operation, done, timeout_ns in begun:
            self._host.call(operation, done, timeout_ns)

    def _finish(self, future: Future[bytes], outcome: bytes | StrettoError) -> None:
        self._outstanding.discard(future)
        if isinstance(outcome, StrettoError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _check_open(self) -> None:
        if self._why_closed is not None:
            raise ClusterClosed(f"this cluster cannot be used any more: {self._why_closed}; connect again")

    def _stop(self, why: str) -> None:
        with self._lock:
            if self._why_closed is None:
                self._why_closed = why
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        logger.critical("client failed: %s", context["message"], exc_info=error)
        self._stop(f"its client stopped because of a bug in itself ({error!r})")

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._stop("its thread ended")
            self._host.close()
            self._loop.run_until_complete(asyncio.sleep(0))  # closed transports call their protocols in the next turn
            self._loop.close()
            for future in list(self._outstanding):
                reason = f"outstanding when the cluster could not be used any more ({self._why_closed}); the operation may have happened"
                self._finish(future, OutcomeUnknown(reason))


class CallsWithin:
    """The calls of a `Cluster`, with a time-out of their own. `Cluster.within` makes it."""

    def __init__(self, cluster: Cluster, timeout_ns: int) -> None:
        self._cluster = cluster
        self._timeout_ns = timeout_ns

    def call(self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See `Cluster.call`."""
        result = self.execute(self._cluster._encode(method, args, kwargs))
        return cast(R, self._cluster._codec.decode(method.__name__, result))

    def service(self, service: type[S]) -> S:
        """See `Cluster.service`."""
        return cast(S, ServiceProxy(self.call, service))

    def execute(self, operation: bytes) -> bytes:
        """See `Cluster.execute`."""
        return self._cluster._execute(operation, self._timeout_ns)
