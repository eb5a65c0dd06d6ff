"""What replicas have that place requests by themselves and take over their leader's log where that differs."""

from __future__ import annotations

from collections.abc import Mapping

from stretto.core.config import ClusterConfig
from stretto.core.node import Message, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.leader_log import LeaderLog
from stretto.replication.leader_merge import merge
from stretto.replication.messages import DoViewChange, Request, StartView
from stretto.replication.peer import PeerReplica
from stretto.replication.records import Confirmed


class LedReplica(PeerReplica):
    """The base of a replica whose log may hold entries of its own behind what is confirmed to be its leader's."""

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.leader_log = LeaderLog(self, config, alone=False)

    def on_entered(self, first: int, last: int) -> None:
        """What the view starts with is the leader's."""
        self.leader_log.enter()

    @property
    def confirmed(self) -> int:
        """All of it, if we have led the last view ourselves."""
        if self.views.last_normal_view % self.n == self.index:
            return self.tip
        return self.leader_log.confirmed

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """See `stretto.replication.leader_merge`."""
        return merge(votes, self.session_numbers(votes), self.quorums.merge_support)

    def on_repaired(self) -> None:
        """See `PeerReplica`."""
        self.leader_log.after_commit()

    def replay_record(self, record: Message) -> None:
        """See `LoggingReplica`."""
        if isinstance(record, Confirmed):
            self.leader_log.replay(record)
            return
        super().replay_record(record)
        if isinstance(record, StartView):
            self.leader_log.enter()

    def records(self) -> list[Message]:
        """See `LoggingReplica`."""
        return [*super().records(), *self.leader_log.records()]

    def check_invariants(self) -> None:
        """See `PeerReplica`."""
        super().check_invariants()
        self.leader_log.check_invariants()
