"""One server with at-most-once sessions and without fault tolerance, as a bound: no protocol has less latency or more throughput."""

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.unreplicated.replica import Server
from stretto.replication.client import LeaderClient
from stretto.replication.messages import CLOCK_MESSAGES, OtherLife, Reply, Request
from stretto.replication.records import RECORDS

UNREPLICATED = ProtocolDefinition(
    "unreplicated", (Request, Reply, OtherLife, *CLOCK_MESSAGES), RECORDS, Server, LeaderClient, max_replicas=1
)
