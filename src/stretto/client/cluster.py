"""The client library: a cluster as an object with calls, for plain code and for asyncio."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property, partial
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from stretto.core.config import ClusterConfig
from stretto.core.errors import StrettoError
from stretto.core.node import Done
from stretto.core.protocol import ProtocolDefinition
from stretto.runtime.client_host import ClientHost
from stretto.runtime.loop import DatagramLoop
from stretto.services.service import Service, ServiceCodec

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

logger = logging.getLogger("stretto.client")

ServiceLoader = Callable[[], type[Service]]


class _Calls:
    """Calls of a service's methods as operations; whose process this is."""

    def __init__(self, load_service: ServiceLoader) -> None:
        self._load_service = load_service
        self._pid = os.getpid()

    @cached_property
    def _service(self) -> type[Service]:
        return self._load_service()

    @cached_property
    def _codec(self) -> ServiceCodec:
        return ServiceCodec(self._service)

    def _encode(self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        own = getattr(self._service, method.__name__, None)
        if getattr(own, "__qualname__", None) != method.__qualname__:
            raise TypeError(f"{method.__qualname__} is not a method of {self._service.__qualname__}, which is the service of this cluster")
        return self._codec.encode(method.__name__, args, kwargs)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise StrettoError("this cluster was opened before fork; connect again in the child")


class _Proxy:
    """An object with the methods of a service, each of which is a call."""

    def __init__(self, call: Callable[..., Any], service: type) -> None:
        self._call = call
        self._service = service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, getattr(self._service, name))


class Cluster(_Calls):
    """A cluster, for plain code: calls wait for their result. Any number of threads may call at once, and share datagrams.

    It has a thread of its own for the network. Use it as a context manager, or `close` it. A child process cannot use it.
    Made by `stretto.connect`.
    """

    def __init__(self, definition: ProtocolDefinition, config: ClusterConfig, load_service: ServiceLoader) -> None:
        super().__init__(load_service)
        self._loop = DatagramLoop()
        try:
            self._host = ClientHost(definition, config, self._loop)
        except BaseException:
            self._loop.close()
            raise
        self._loop.set_exception_handler(self._on_bug)
        self._lock = Lock()
        self._begun: list[tuple[bytes, Done]] = []
        self._outstanding: set[Future[bytes]] = set()
        self._why_closed: str | None = None
        self._thread = Thread(target=self._run, name="stretto", daemon=True)
        self._thread.start()

    def call(self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the service and wait for what it returns: `cluster.call(KeyValueStore.put, b"key", b"value")`.

        Raises the ApplicationError with which the operation failed; RequestTimeout, ClusterUnavailable, SessionExpired or
        RequestTooLarge; TypeError for arguments that do not fit.
        """
        result = self.execute(self._encode(method, args, kwargs))
        return cast(R, self._codec.decode(method.__name__, result))

    def service(self, service: type[S]) -> S:
        """An object with the methods of `service`, the class that the configuration names; each method is a `call`."""
        return cast(S, _Proxy(self.call, service))

    def execute(self, operation: bytes) -> bytes:
        """Replicate an encoded operation and wait for its encoded result. Raises as `call`, but for errors of the application."""
        future: Future[bytes] = Future()
        self._begin(operation, future)
        return future.result()

    def metrics(self) -> dict[str, Any]:
        """Counters of this client: calls, retransmissions, failures, datagrams."""
        self._check_process()
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            self._check_open()
            self._loop.call_soon_threadsafe(lambda: future.set_result(self._host.metrics()))
        return future.result()

    def close(self) -> None:
        """End the thread and close the sockets. Calls that are outstanding raise StrettoError; closing twice does nothing."""
        if os.getpid() == self._pid:
            self._stop("it was closed")
            self._thread.join()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _begin(self, operation: bytes, future: Future[bytes]) -> None:
        self._check_process()
        with self._lock:
            self._check_open()
            self._outstanding.add(future)
            self._begun.append((operation, partial(self._finish, future)))
            if len(self._begun) == 1:
                self._loop.call_soon_threadsafe(self._submit)

    def _submit(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, []
        for operation, done in begun:
            self._host.call(operation, done)

    def _finish(self, future: Future[bytes], outcome: bytes | StrettoError) -> None:
        self._outstanding.discard(future)
        if isinstance(outcome, StrettoError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _check_open(self) -> None:
        if self._why_closed is not None:
            raise StrettoError(f"this cluster cannot be used any more: {self._why_closed}; connect again")

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
            self._loop.run_until_complete(asyncio.sleep(0))  # what was closed tells its protocols
            self._loop.close()
            for future in list(self._outstanding):
                reason = f"outstanding when the cluster could not be used any more ({self._why_closed}); the operation may have happened"
                self._finish(future, StrettoError(reason))


class AsyncCluster(_Calls):
    """A cluster, for asyncio: calls are awaited, thousands at once if need be. It lives in the loop that is running when it is made.

    Use it as an asynchronous context manager, or `close` it. Made by `stretto.connect_async`.
    """

    def __init__(self, definition: ProtocolDefinition, config: ClusterConfig, load_service: ServiceLoader) -> None:
        super().__init__(load_service)
        self._loop = asyncio.get_running_loop()
        self._host = ClientHost(definition, config, self._loop)
        self._outstanding: set[asyncio.Future[bytes]] = set()
        self._closed = False

    async def call(self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the service: `await cluster.call(KeyValueStore.put, b"key", b"value")`. Raises as `Cluster.call` does."""
        result = await self.execute(self._encode(method, args, kwargs))
        return cast(R, self._codec.decode(method.__name__, result))

    def service(self, service: type) -> Any:
        """An object with the methods of `service`, the class that the configuration names; each method is a `call` to be awaited."""
        return _Proxy(self.call, service)

    async def execute(self, operation: bytes) -> bytes:
        """Replicate an encoded operation; its encoded result. Raises as `call`, but for errors of the application."""
        self._check_process()
        if self._closed:
            raise StrettoError("this cluster cannot be used any more: it was closed; connect again")
        if asyncio.get_running_loop() is not self._loop:
            raise StrettoError("this cluster was opened in another event loop; connect again in this one")
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._outstanding.add(future)
        self._host.call(operation, partial(_settle, future))
        try:
            return await future
        finally:
            self._outstanding.discard(future)

    def metrics(self) -> dict[str, Any]:
        """Counters of this client: calls, retransmissions, failures, datagrams."""
        return self._host.metrics()

    async def close(self) -> None:
        """Close the sockets. Calls that are outstanding raise StrettoError; closing twice does nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._host.close()
        for future in list(self._outstanding):
            _settle(future, StrettoError("outstanding when the cluster was closed; the operation may have happened"))
        await asyncio.sleep(0)

    async def __aenter__(self) -> AsyncCluster:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()


def _settle(future: asyncio.Future[bytes], outcome: bytes | StrettoError) -> None:
    if future.done():  # the caller was cancelled
        return
    if isinstance(outcome, StrettoError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
