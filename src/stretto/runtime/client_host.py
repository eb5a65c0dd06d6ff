"""The host of a client node: it runs the node on real sockets."""

from __future__ import annotations

import asyncio
import logging
from time import time_ns
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Done
from stretto.core.protocol import ProtocolDefinition
from stretto.runtime.batching import Send, send_many
from stretto.runtime.host import NodeHost
from stretto.runtime.sockets import open_client_sockets

logger = logging.getLogger("stretto.client")


class ClientHost:
    """A client node, with its sockets, on an event loop. The client library and load generators use it.

    All methods must be called in the loop's thread. `max_messages_per_datagram`: how many requests may share a datagram, by default as many
    as fit; `send`: passes datagrams to the kernel. `node` is the protocol's own client, which may also be called directly.

    Raises ConfigurationError if the sockets cannot be opened.
    """

    def __init__(
        self,
        definition: ProtocolDefinition,
        config: ClusterConfig,
        loop: asyncio.AbstractEventLoop,
        *,
        max_messages_per_datagram: int | None = None,
        send: Send = send_many,
    ) -> None:
        self.loop = loop
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

    def call(self, operation: bytes, done: Done) -> None:
        """Replicate an encoded operation. `done` is called exactly once, with its result or with the StrettoError that says what is
        certain.

        The request leaves at the end of this turn of the loop at the latest. Calls made from within `done` share its burst's datagrams.
        """
        self.node.call(operation, time_ns(), done)

    def metrics(self) -> dict[str, Any]:
        """The client's counters and the runtime's."""
        return self.host.metrics()

    def close(self) -> None:
        """Close the sockets. Outstanding calls do not end."""
        self.host.close()


def _report(event: str, details: dict[str, Any]) -> None:
    logger.info(event, extra={"details": details})
