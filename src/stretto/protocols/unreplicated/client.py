"""The client of the one server."""

from __future__ import annotations

from stretto.core.node import Address
from stretto.protocols.unreplicated.messages import Reply
from stretto.replication.client import Call, SessionClient


class UnreplicatedClient(SessionClient):
    """Sends to the server; the first answer is the answer."""

    def transmit(self, call: Call) -> None:
        """To the server alone."""
        self.port.send(0, call.request)

    def on_message(self, source: Address, message: Reply) -> None:
        """Finish the call that this answers."""
        if not isinstance(message, Reply):
            return self.ignore("not for a client")
        call = self.find(message.session, message.number)
        if call is None:
            return self.ignore("answer to a finished call")
        return self.finish(call, message.result)
