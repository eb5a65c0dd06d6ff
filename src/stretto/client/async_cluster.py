"""A cluster as an object with calls, for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from stretto.client.calls import AsyncService, Calls, ServiceLoader
from stretto.core.config import ClusterConfig, timeout_in_ns
from stretto.core.errors import ClusterClosed, OutcomeUnknown, StrettoError
from stretto.core.protocol import ProtocolDefinition
from stretto.runtime.client_host import ClientHost
from stretto.services.service import Service

P = ParamSpec("P")
R = TypeVar("R")


class AsyncCluster(Calls):
    """A cluster for asyncio: calls are awaited, and thousands may be outstanding at once.

    `stretto.connect_async` makes it, for the event loop that is running. Use it as an asynchronous context manager or `close` it.
    """

    def __init__(
        self,
        definition: ProtocolDefinition,
        config: ClusterConfig,
        load_service: ServiceLoader,
        request_timeout_ms: float | None = None,
    ) -> None:
        super().__init__(load_service)
        self._loop = asyncio.get_running_loop()
        self._host = ClientHost(definition, config, self._loop, request_timeout_ms=request_timeout_ms)
        self._outstanding: set[asyncio.Future[bytes]] = set()
        self._closed = False

    async def call(self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the service: `await cluster.call(KeyValueStore.put, b"key", b"value")`. Raises as `Cluster.call` does."""
        result = await self.execute(self._encode(method, args, kwargs))
        return cast(R, self._codec.decode(method.__name__, result))

    def service(self, service: type[Service]) -> AsyncService:
        """An object with the methods of `service`, the class that the configuration names; each method is a `call` to be awaited.

        A type checker does not know the parameters and results of these methods; it knows those of `call`.
        """
        return AsyncService(self.call, service)

    async def execute(self, operation: bytes) -> bytes:
        """Replicate an encoded operation and return its encoded result. Raises as `call` does, except ApplicationError and TypeError."""
        return await self._execute(operation, None)

    def within(self, milliseconds: float) -> AsyncCallsWithin:
        """The same calls, each of which ends after that time: `await cluster.within(200).call(KeyValueStore.get, b"key")`.

        Raises ConfigurationError unless the time is more than 0 and less than a day.
        """
        return AsyncCallsWithin(self, timeout_in_ns(milliseconds))

    async def _execute(self, operation: bytes, timeout_ns: int | None) -> bytes:
        self._check_process()
        if self._closed:
            raise ClusterClosed("this cluster cannot be used any more: it was closed; connect again")
        if asyncio.get_running_loop() is not self._loop:
            raise ClusterClosed("this cluster was opened in another event loop; connect again in this one")
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._outstanding.add(future)
        self._host.call(operation, partial(_settle, future), timeout_ns)
        try:
            return await future
        finally:
            self._outstanding.discard(future)

    def metrics(self) -> dict[str, Any]:
        """Counters of this client: calls, retransmissions, failures, datagrams."""
        return self._host.metrics()

    async def close(self) -> None:
        """Close the sockets. Outstanding calls raise OutcomeUnknown. A second call does nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._host.close()
        for future in list(self._outstanding):
            _settle(future, OutcomeUnknown("outstanding when the cluster was closed; the operation may have happened"))
        await asyncio.sleep(0)

    async def __aenter__(self) -> AsyncCluster:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()


class AsyncCallsWithin:
    """The calls of an `AsyncCluster`, with a time-out of their own. `AsyncCluster.within` makes it."""

    def __init__(self, cluster: AsyncCluster, timeout_ns: int) -> None:
        self._cluster = cluster
        self._timeout_ns = timeout_ns

    async def call(self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """See `AsyncCluster.call`."""
        result = await self.execute(self._cluster._encode(method, args, kwargs))
        return cast(R, self._cluster._codec.decode(method.__name__, result))

    def service(self, service: type[Service]) -> AsyncService:
        """See `AsyncCluster.service`."""
        return AsyncService(self.call, service)

    async def execute(self, operation: bytes) -> bytes:
        """See `AsyncCluster.execute`."""
        return await self._cluster._execute(operation, self._timeout_ns)


def _settle(future: asyncio.Future[bytes], outcome: bytes | StrettoError) -> None:
    if future.done():  # the caller was cancelled
        return
    if isinstance(outcome, StrettoError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
