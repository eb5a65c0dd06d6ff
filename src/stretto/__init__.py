"""Stretto replicates a Python state machine at the speed of the data-centre network.

Names are imported when they are first used, so that importing a pure part of the package loads no socket or event loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stretto.client.async_cluster import AsyncCluster
    from stretto.client.calls import AsyncService
    from stretto.client.cluster import Cluster
    from stretto.core.config import ClusterConfig, load_config
    from stretto.core.errors import (
        ApplicationError,
        ClusterClosed,
        ClusterReset,
        ClusterUnavailable,
        ConfigurationError,
        NotActive,
        OperationFailed,
        OutcomeUnknown,
        RequestTimeout,
        RequestTooLarge,
        SessionExpired,
        StrettoError,
    )
    from stretto.core.protocol import ProtocolDefinition
    from stretto.services.containers import Cell, List, Map, SortedMap, SortedSet
    from stretto.services.service import Service, operation, query

_HOMES = {
    "stretto.core.config": ("ClusterConfig", "load_config"),
    "stretto.core.errors": (
        "ApplicationError",
        "ClusterClosed",
        "ClusterReset",
        "ClusterUnavailable",
        "ConfigurationError",
        "NotActive",
        "OperationFailed",
        "OutcomeUnknown",
        "RequestTimeout",
        "RequestTooLarge",
        "SessionExpired",
        "StrettoError",
    ),
    "stretto.services.service": ("Service", "operation", "query"),
    "stretto.services.containers": ("Cell", "List", "Map", "SortedMap", "SortedSet"),
    "stretto.client.async_cluster": ("AsyncCluster",),
    "stretto.client.calls": ("AsyncService",),
    "stretto.client.cluster": ("Cluster",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ApplicationError",
    "AsyncCluster",
    "AsyncService",
    "Cell",
    "Cluster",
    "ClusterClosed",
    "ClusterConfig",
    "ClusterReset",
    "ClusterUnavailable",
    "ConfigurationError",
    "List",
    "Map",
    "NotActive",
    "OperationFailed",
    "OutcomeUnknown",
    "RequestTimeout",
    "RequestTooLarge",
    "Service",
    "SessionExpired",
    "SortedMap",
    "SortedSet",
    "StrettoError",
    "connect",
    "connect_async",
    "load_config",
    "operation",
    "query",
]


def connect(config: ClusterConfig | str | Path, *, request_timeout_ms: float | None = None) -> Cluster:
    """Open a cluster for plain code: `with stretto.connect("cluster.toml") as cluster: ...`.

    `config`: the configuration of the cluster, or the file that holds it; `request_timeout_ms`: how long this client's calls wait for an
    answer, by default as the configuration says. Nothing is sent before the first call, so this succeeds even if the replicas are down.
    Raises ConfigurationError if the configuration is wrong or this machine has no route to the replicas.
    """
    from stretto.client.cluster import Cluster

    return Cluster(*_how_to_open(config), request_timeout_ms)


def connect_async(config: ClusterConfig | str | Path, *, request_timeout_ms: float | None = None) -> AsyncCluster:
    """Open a cluster in the running event loop: `async with stretto.connect_async("cluster.toml") as cluster: ...`.

    Parameters and errors are those of `connect`. Host names are resolved at once, which may block; IPv4 addresses do not block.
    """
    from stretto.client.async_cluster import AsyncCluster

    return AsyncCluster(*_how_to_open(config), request_timeout_ms)


def _how_to_open(config: ClusterConfig | str | Path) -> tuple[ProtocolDefinition, ClusterConfig, Callable[[], type[Service]]]:
    from stretto import catalog
    from stretto.core.config import ClusterConfig, load_config

    checked = config.validate() if isinstance(config, ClusterConfig) else load_config(config)
    return catalog.protocol_for(checked), checked, lambda: catalog.service_class(checked.service)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return __all__
