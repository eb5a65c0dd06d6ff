"""Common beginnings of scenarios."""

from __future__ import annotations

from typing import cast

from stretto.core.node import Client
from stretto.core.state_machine import NullMachine
from stretto.protocols.speculative import SPECULATIVE
from stretto.protocols.speculative.replica import SpeculativeReplica
from stretto.replication.group import new_incarnation, start_number
from stretto.replication.replica import Replica
from stretto.testing.stage import Stage

MS = 1_000_000


def stage_of(n: int) -> tuple[Stage, list[SpeculativeReplica]]:
    """A stage with `n` replicas of Speculative Paxos, and these."""
    stage = Stage(SPECULATIVE, n, NullMachine)
    return stage, cast(list[SpeculativeReplica], stage.replicas)


def open_sessions(stage: Stage, count: int) -> list[Client]:
    """As many clients, each with a session, all of it committed."""
    clients = [stage.client() for _ in range(count)]
    for client in clients:
        stage.call(client, b"begin")
    stage.run(50 * MS)
    return clients


def later(replica: Replica, *members: int) -> tuple[int, ...]:
    """The incarnations that a replica knows, but with a later start of these members."""
    group = replica.group
    return tuple(
        new_incarnation(start_number(incarnation) + 1, group.life, 0) if member in members else incarnation
        for member, incarnation in enumerate(group.incarnations)
    )


def operations(replica: Replica, first: int) -> list[bytes]:
    """The operations in a replica's log, from position `first` on."""
    return [request.operation for request in replica.state.log.entries(first)]
