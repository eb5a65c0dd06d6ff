"""One server, at-most-once sessions, no fault tolerance: the floor of latency and the ceiling of throughput."""

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.unreplicated.client import UnreplicatedClient
from stretto.protocols.unreplicated.messages import Reply
from stretto.protocols.unreplicated.replica import Server
from stretto.replication.messages import Request
from stretto.replication.records import RECORDS

UNREPLICATED = ProtocolDefinition("unreplicated", (Request, Reply), RECORDS, Server, UnreplicatedClient, max_replicas=1)
