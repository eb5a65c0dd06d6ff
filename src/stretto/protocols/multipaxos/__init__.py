"""Multi-Paxos in the form of Viewstamped Replication: Liskov and Cowling, "Viewstamped Replication Revisited", MIT 2012.

A leader orders the operations, and each completes after four message delays. `multipaxos` sends one Prepare per operation.
`multipaxos-batched` sends all operations in one Prepare that have come while others were in flight."""

from functools import partial

from stretto.core.node import Message
from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.multipaxos.replica import MultiPaxosReplica
from stretto.replication.client import LeaderClient
from stretto.replication.messages import LEADER_LOG_MESSAGES, PEER_MESSAGES, Reply, Request
from stretto.replication.records import RECORDS

_MESSAGES: tuple[type[Message], ...] = (Request, Reply, *PEER_MESSAGES, *LEADER_LOG_MESSAGES)

MULTIPAXOS = ProtocolDefinition("multipaxos", _MESSAGES, RECORDS, MultiPaxosReplica, LeaderClient)
MULTIPAXOS_BATCHED = ProtocolDefinition("multipaxos-batched", _MESSAGES, RECORDS, partial(MultiPaxosReplica, batched=True), LeaderClient)
