"""What a protocol hands to its hosts, so that none of them knows a protocol by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stretto.core.config import ClusterConfig
from stretto.core.node import Client, Message, Port, Replica
from stretto.core.state_machine import StateMachine

ReplicaFactory = Callable[[Port, ClusterConfig, int, StateMachine], Replica]
ClientFactory = Callable[[Port, ClusterConfig], Client]


@dataclass(frozen=True)
class ProtocolDefinition:
    """A replication protocol: its name, its messages, and how its nodes are made.

    `replica(port, config, index, machine)` and `client(port, config)` build a node that runs from then on: it may use its port at once.
    `max_replicas` is there for protocols that cannot use more (a single server); None means any odd number.
    """

    name: str
    message_types: tuple[type[Message], ...]
    replica: ReplicaFactory
    client: ClientFactory
    max_replicas: int | None = None
