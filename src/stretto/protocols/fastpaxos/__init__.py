"""Fast Paxos: Lamport, "Fast Paxos", Distributed Computing 19, 2006, as a replicated log. Clients multicast, and the leader answers when a
superquorum has the request at the same position, after three message delays."""

from functools import partial

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.fastpaxos.fast_path import Accepted
from stretto.protocols.fastpaxos.replica import FastPaxosReplica
from stretto.replication.client import LeaderClient
from stretto.replication.messages import LEADER_LOG_MESSAGES, PEER_MESSAGES, Reply, Request
from stretto.replication.records import RECORDS

FASTPAXOS = ProtocolDefinition(
    "fastpaxos",
    (Request, Reply, *PEER_MESSAGES, *LEADER_LOG_MESSAGES, Accepted),
    RECORDS,
    FastPaxosReplica,
    partial(LeaderClient, to_all=True),
)
