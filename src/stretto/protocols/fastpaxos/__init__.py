"""Fast Paxos: Lamport, "Fast Paxos", Distributed Computing 19, 2006, as a replicated log. Clients multicast, and the leader answers when a
superquorum has placed the request alike: three message delays."""

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.fastpaxos.client import FastPaxosClient
from stretto.protocols.fastpaxos.messages import MESSAGES
from stretto.protocols.fastpaxos.replica import FastPaxosReplica
from stretto.replication.records import PEER_RECORDS, Confirmed

FASTPAXOS = ProtocolDefinition("fastpaxos", MESSAGES, (*PEER_RECORDS, Confirmed), FastPaxosReplica, FastPaxosClient)
