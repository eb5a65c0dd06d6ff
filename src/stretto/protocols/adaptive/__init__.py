"""Adaptive Speculative Paxos: the two message delays of Speculative Paxos, with a slow way inside the view for when replicas differ or die.

The fast way is that of Ports et al., NSDI 2015; the slow one has the shape of that of Nezha (Geng et al., VLDB 2023)."""

from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.adaptive.client import AdaptiveClient
from stretto.protocols.adaptive.messages import MESSAGES
from stretto.protocols.adaptive.replica import AdaptiveReplica
from stretto.replication.records import PEER_RECORDS, Confirmed

ADAPTIVE = ProtocolDefinition("adaptive", MESSAGES, (*PEER_RECORDS, Confirmed), AdaptiveReplica, AdaptiveClient)
