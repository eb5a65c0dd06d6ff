"""Calls of a service's methods as operations: what every kind of cluster object has in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from functools import cached_property, partial
from typing import Any

from stretto.core.errors import ClusterClosed
from stretto.services.service import Service, ServiceCodec

ServiceLoader = Callable[[], type[Service]]


class Calls:
    """The calls of one service from one process. `load_service` is called at the first call."""

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
            raise ClusterClosed("this cluster was opened before fork; connect again in the child")


class ServiceProxy:
    """An object with the methods of a service; each method is a call."""

    def __init__(self, call: Callable[..., Any], service: type) -> None:
        self._call = call
        self._service = service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, getattr(self._service, name))


class AsyncService(ServiceProxy):
    """A `ServiceProxy` whose calls are awaited.

    Type checkers know that each call must be awaited, but not its parameters and its result: the type system cannot say "the methods of
    this class, awaited". `await cluster.call(KeyValueStore.get, b"key")` is fully typed.
    """

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        return super().__getattr__(name)
