"""What a protocol hands to its hosts, so that none of them knows a protocol by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stretto.core.config import ClusterConfig
from stretto.core.node import Client, Message, Node, Port, Replica
from stretto.core.state_machine import StateMachine


@dataclass(frozen=True)
class Start:
    """How a replica begins, which decides what it may say before it has heard from its peers.

    - `bootstrap`: the whole cluster starts for the first time, and is empty;
    - `records`: what this replica persisted in its earlier lives, the oldest first.

    With neither it has lost its memory: it must not answer as if it had never promised anything, and recovers from its peers first.
    """

    bootstrap: bool = False
    records: Sequence[Message] = ()


BOOTSTRAP = Start(bootstrap=True)

SequencerFactory = Callable[[Port, ClusterConfig, int], Node]
ReplicaFactory = Callable[[Port, ClusterConfig, int, StateMachine, Start], Replica]
ClientFactory = Callable[[Port, ClusterConfig], Client]


@dataclass(frozen=True)
class ProtocolDefinition:
    """A replication protocol: its name, its messages and records, and how its nodes are made.

    `message_types`: what its nodes send; `record_types`: what its replicas persist. `replica(port, config, index, machine, start)` and
    `client(port, config)` build a node that runs from then on: it may use its port at once.
    `max_replicas` is there for protocols that cannot use more (a single server); None means any odd number.
    `sequencer(port, config, index)` builds one of the nodes that number requests; None if the protocol has no such nodes.
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
        """How many sequencers a cluster should have: one that serves and one that stands by, if the protocol has any."""
        return 0 if self.sequencer is None else 2

    @property
    def data_name(self) -> str:
        """What it is called in a data directory, which has room for 16 characters."""
        return self.name[:16]
