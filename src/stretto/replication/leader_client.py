"""The client of a protocol in which one answer, the leader's, completes a call."""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.replication.client import Call, SessionClient
from stretto.replication.messages import Reply


class LeaderClient(SessionClient):
    """Sends to the leader of the latest view that it has heard of, and to all replicas when no answer comes."""

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        super().__init__(port, config)
        self._view = 0

    def transmit(self, call: Call) -> None:
        """To the leader first: a leader that is new answers a later copy, and tells its view so."""
        if call.backoff == 1:
            self.port.send(self._view % self.n, call.request)
        else:
            self.port.multicast(call.request)

    def on_message(self, source: Address, message: Reply) -> None:
        """Finish the call that this answers."""
        if type(message) is not Reply or source >= self.n:
            return self.ignore("not for a client")
        self._view = max(self._view, message.view)
        call = self.find(message.session, message.number)
        if call is None:
            return self.ignore("answer to a finished call")
        return self.finish(call, message.result)

    def snapshot(self) -> Any:
        """Sessions, calls and view as canonical plain data."""
        return {**super().snapshot(), "view": self._view}
