"""The client of Fast Paxos."""

from __future__ import annotations

from stretto.replication.client import Call
from stretto.replication.leader_client import LeaderClient


class FastPaxosClient(LeaderClient):
    """Sends to all replicas; the leader answers."""

    def transmit(self, call: Call) -> None:
        """To all, in the order that the network gives."""
        self.port.multicast(call.request)
