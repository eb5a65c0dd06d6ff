"""Adaptive Speculative Paxos: the two message delays of Speculative Paxos, and a slow path within the view if replicas differ or fail.

The fast path is that of Ports et al., NSDI 2015; the slow path resembles that of Nezha (Geng et al., VLDB 2023)."""

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.adaptive.client import AdaptiveClient
from stretto.protocols.adaptive.messages import MESSAGES
from stretto.protocols.adaptive.replica import AdaptiveReplica
from stretto.replication.records import RECORDS

ADAPTIVE = ProtocolDefinition("adaptive", MESSAGES, RECORDS, AdaptiveReplica, AdaptiveClient)
