"""The replica of Multi-Paxos.

Normal case: four message delays.

    client          r0 (leader)     r1              r2
      |---Request---->|                                   append, execute
      |               |---Prepare---->|-------------->|   append, execute
      |               |<--PrepareOk---|---------------|
      |<----Reply-----|                                   committed, with f PrepareOks

Followers learn what is committed from the next Prepare, or from the Heartbeat of an idle leader. Operations are executed when they are
appended, as in every protocol here, and undone if a view change drops them. A client gets a result only after it is committed.

Source: Liskov and Cowling, "Viewstamped Replication Revisited", MIT 2012, section 4. The in-view part is `LeaderLog`.
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.gate import LEADER_LOG_RULES, LEADER_REQUEST_RULES, PEER_RULES
from stretto.replication.leader_log import LeaderLog, LogEvents
from stretto.replication.merging import merge_longest
from stretto.replication.messages import DoViewChange, Reply, Request
from stretto.replication.pipeline import PreparePipeline
from stretto.replication.replica import Replica
from stretto.replication.sessions import SessionRecord


class MultiPaxosReplica(Replica):
    """One replica. A follower's log is always a prefix of its leader's.

    Parameters: `batched`, whether a Prepare has all operations of a burst of input, with a few Prepares in flight; if not, each operation
    has a Prepare of its own.
    """

    rules = LEADER_REQUEST_RULES | PEER_RULES | LEADER_LOG_RULES

    def __init__(
        self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start, *, batched: bool = False
    ) -> None:
        super().__init__(port, config, index, machine)
        self.leader_log = self.add(
            LeaderLog(
                self.group,
                self.state,
                self.pending,
                self.transfer,
                self.detector,
                self.view_change,
                self.outcomes,
                config,
                LogEvents(committed=self.on_committed),
                passive_followers=True,
            )
        )
        self.pipeline = self.add(PreparePipeline(port, self.state, self.leader_log, config)) if batched else None
        self.begin(start)

    # Normal case

    def place(self, request: Request) -> None:
        """The leader appends a request to its log, and sends it to the others."""
        self.state.append(request)
        if self.pipeline is None:
            self.leader_log.prepare(self.state.log.last)
        else:
            self.pipeline.send_at_burst_end()

    def on_retransmission(self, request: Request, record: SessionRecord) -> None:
        """Answer again if the request is committed."""
        if record.position > self.state.agreed:
            self.group.ignore("request that is in progress")
        else:
            self.answer(request, record.position, record.result)

    def on_committed(self, first: int, last: int) -> None:
        """Answer the clients, as far as f+1 replicas agree about the outcomes."""
        self.answer_range(first, min(last, self.state.agreed))
        if self.pipeline is not None:
            self.pipeline.on_committed()

    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """See `Replica`."""
        self.port.send(request.client, Reply(self.group.view, request.session, request.number, result))

    # Views

    def matched_in_last_view(self) -> int:
        """See `Replica`. All of our log is the leader's."""
        return self.leader_log.matched_in_last_view()

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """See `merge_longest`."""
        return merge_longest(votes)

    def check_invariants(self) -> None:
        """A follower appends nothing of its own."""
        super().check_invariants()
        assert not self.group.accepting or self.group.is_leader or self.leader_log.matched == self.state.log.last
