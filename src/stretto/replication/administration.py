"""The node of an operator's command: it asks the leader, and gives the answer to whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.replication.messages import Upgrade, UpgradeReply


class UpgradeRequest:
    """A node that asks all replicas for an upgrade, again and again, until the leader has answered. Then `on_answer` is called, once."""

    def __init__(self, port: Port, config: ClusterConfig, without: Sequence[Address], on_answer: Callable[[UpgradeReply], None]) -> None:
        self._port = port
        self._replicas = range(config.n)
        self._question = Upgrade(port.random.getrandbits(32), tuple(without))
        self._interval_ns = config.timeouts.ns("client_retransmit")
        self._on_answer: Callable[[UpgradeReply], None] | None = on_answer
        self.on_timer("ask")

    def on_timer(self, name: str) -> None:
        """Ask, until there is an answer."""
        if self._on_answer is not None:
            for replica in self._replicas:
                self._port.send(replica, self._question)
            self._port.set_timer("ask", self._interval_ns)

    def on_message(self, source: Address, message: Any) -> None:
        """Take the first answer to our question."""
        if isinstance(message, UpgradeReply) and message.nonce == self._question.nonce and source in self._replicas:
            done, self._on_answer = self._on_answer, None
            if done is not None:
                done(message)

    def snapshot(self) -> Any:
        """See `stretto.core.node.Node`."""
        return [self._question, self._on_answer is None]

    def check_invariants(self) -> None:
        """See `stretto.core.node.Node`."""

    def metrics(self) -> dict[str, Any]:
        """None."""
        return {}
