"""NOPaxos: Li, Michael, Sharma, Szekeres, Ports, "Just Say NO to Paxos Overhead: Replacing Consensus with Network Ordering", OSDI 2016.
A sequencer numbers the requests, so replicas need to agree only on the numbers that were lost."""

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.nopaxos.client import NoPaxosClient
from stretto.protocols.nopaxos.messages import MESSAGES
from stretto.protocols.nopaxos.replica import NoPaxosReplica
from stretto.protocols.nopaxos.sequencer import Sequencer
from stretto.replication.records import RECORDS

NOPAXOS = ProtocolDefinition("nopaxos", MESSAGES, RECORDS, NoPaxosReplica, NoPaxosClient, sequencer=Sequencer)
