"""The host of a client node: it runs the node on real sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from stretto.core.config import ClusterConfig, timeout_in_ns
from stretto.core.node import Done
from stretto.core.protocol import ProtocolDefinition
from stretto.runtime.batching import Send, send_many
from stretto.runtime.host import NodeHost
from stretto.runtime.sockets import open_client_sockets

logger = logging.getLogger("stretto.client")


class ClientHost:
    """A client node, with its sockets, on an event loop. The client library and load generators use it.

    All methods must be called in the loop's thread. `max_messages_per_datagram`: how many requests may share a datagram, by default as many
    as fit; `request_timeout_ms`: how long this client's calls may take, by default as the configuration says; `send`: passes datagrams to
    the kernel. `node` is the protocol's own client, which may also be called directly.

    Raises ConfigurationError if the sockets cannot be opened.
    """

    def __init__(
        self,
        definition: ProtocolDefinition,
        config: ClusterConfig,
        loop: asyncio.AbstractEventLoop,
        *,
        max_messages_per_datagram: int | None = None,
        request_timeout_ms: float | None = None,
        send: Send = send_many,
    ) -> None:
        self.loop = loop
        self._timeout_ns = None if request_timeout_ms is None else timeout_in_ns(request_timeout_ms)
        self.host = NodeHost(
            loop,
            config,
            definition.message_types,
            open_client_sockets(config),
            member=None,
            report=_report,
            max_messages_per_datagram=max_messages_per_datagram,
            send=send,
        )
        self.node = definition.client(self.host, config)
        self.host.start(self.node)

    def call(self, operation: bytes, done: Done, timeout_ns: int | None = None) -> None:
        """Replicate an encoded operation. `done` is called exactly once, with its result or with the StrettoError that says what is
        certain.

        `timeout_ns`: how long this call may take, by default as long as this client's calls may.

        The request leaves at the end of this turn of the loop at the latest. Calls made from within `done` share its burst's datagrams.
        """
        self.node.call(operation, None, done, self._timeout_ns if timeout_ns is None else timeout_ns)

    def metrics(self) -> dict[str, Any]:
        """The client's counters and the runtime's."""
        return self.host.metrics()

    def close(self) -> None:
        """Close the sockets. Outstanding calls do not end."""
        self.host.close()


def _report(event: str, details: dict[str, Any]) -> None:
    logger.info(event, extra={"details": details})
