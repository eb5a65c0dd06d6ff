"""Speculative Paxos: Ports, Li, Liu, Sharma, Krishnamurthy, "Designing Distributed Systems Using Approximate Synchrony in Data Center
Networks", NSDI 2015. Replicas execute at once, in arrival order; a call completes after two message delays."""

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.speculative.client import SpeculativeClient
from stretto.protocols.speculative.messages import MESSAGES
from stretto.protocols.speculative.replica import SpeculativeReplica
from stretto.replication.records import RECORDS

SPECULATIVE = ProtocolDefinition("speculative", MESSAGES, RECORDS, SpeculativeReplica, SpeculativeClient)
