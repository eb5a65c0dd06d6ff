"""Fetching the metrics of a running replica or sequencer."""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.errors import ClusterUnavailable, StrettoError
from stretto.runtime.addresses import endpoint_of, member_endpoint
from stretto.runtime.streams import LENGTH_BYTES, question, with_length


def fetch_metrics(config: ClusterConfig, index: int, timeout_s: float = 1.0) -> dict[str, Any]:
    """The metrics of the replica or sequencer with address `index`: those of the node (view, leader, committed operations, ignored messages
    by reason, ...) and those of the process.

    Raises ClusterUnavailable if it does not answer within `timeout_s` seconds, or runs with another configuration.
    """
    host, port = endpoint_of(member_endpoint(config, index))
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(with_length(question(config.digest())))
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
        raise ClusterUnavailable(f"replica {index} at {host}:{port} does not answer: {reason}") from None
    try:
        metrics: dict[str, Any] = msgspec.json.decode(answer[LENGTH_BYTES:])
    except msgspec.DecodeError:
        raise ClusterUnavailable(f"replica {index} at {host}:{port} refused the question: it runs with another configuration") from None
    return metrics


def metrics_or_none(config: ClusterConfig, index: int, timeout_s: float = 1.0) -> dict[str, Any] | None:
    """The metrics of a replica; None if it does not answer."""
    try:
        return fetch_metrics(config, index, timeout_s)
    except StrettoError:
        return None


def is_normal(metrics: dict[str, Any] | None) -> bool:
    """Whether a replica with these metrics serves clients: it is neither starting nor recovering nor changing views."""
    return metrics is not None and metrics.get("status", "normal") == "normal"
