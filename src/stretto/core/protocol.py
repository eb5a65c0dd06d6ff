"""The description of a protocol that hosts need, so that no host depends on a certain protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stretto.core.config import ClusterConfig
from stretto.core.node import Client, Message, Node, Port, Replica
from stretto.core.state_machine import StateMachine


@dataclass(frozen=True)
class Start:
    """How a replica starts. This decides which messages it may send before it has answers from its peers.

    - `bootstrap`: the whole cluster starts for the first time, with an empty log;
    - `first`: the first incarnations of all replicas, if this one has been in service before and knows nothing else; see `Port.identify`;
    - `records`: what this replica persisted in its earlier incarnations, the oldest first;
    - `written`: with records, `Port.written` as it was when the last of them ended; None if the host has no such number.

    With neither it has lost its state. It may have made promises that it no longer knows, so it takes no part before it has recovered from
    its peers.
    """

    bootstrap: bool = False
    first: tuple[int, ...] | None = None
    records: Sequence[Message] = ()
    written: int | None = None


BOOTSTRAP = Start(bootstrap=True)

SequencerFactory = Callable[[Port, ClusterConfig, int], Node]
ReplicaFactory = Callable[[Port, ClusterConfig, int, StateMachine, Start], Replica]
ClientFactory = Callable[[Port, ClusterConfig], Client]


@dataclass(frozen=True)
class ProtocolDefinition:
    """A replication protocol: its name, its messages and records, and how its nodes are made.

    - `message_types`: what its nodes send; `record_types`: what its replicas persist.
    - `replica(port, config, index, machine, start)` and `client(port, config)` build a node. The node may use its port at once.
    - `max_replicas`: the largest number of replicas that the protocol can use; None means any odd number.
    - `sequencer(port, config, index)` builds a node that numbers requests; None if the protocol has no such nodes.
    """

    name: str
    message_types: tuple[type[Message], ...]
    record_types: tuple[type[Message], ...]
    replica: ReplicaFactory
    client: ClientFactory
    max_replicas: int | None = None
    sequencer: SequencerFactory | None = None

    @property
    def usual_sequencers(self) -> int:
        """How many sequencers a cluster should have: one active and one standby, if the protocol uses sequencers."""
        return 0 if self.sequencer is None else 2

    @property
    def data_name(self) -> str:
        """The name of the protocol in a data directory, which has room for 16 characters."""
        return self.name[:16]
