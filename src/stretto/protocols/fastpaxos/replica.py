"""The replica of Fast Paxos.

Normal case: three message delays.

    client          r0 (leader)     r1              r2
      |---Request---->|-------------->|-------------->|   (one multicast)  append, execute
      |               |<---Accepted---|---------------|   (position, hash)
      |<----Reply-----|                                   committed: a superquorum, including the leader, has one hash there

The leader's log resolves a collision (`FastPath`). This is possible because the leader never changes its log within its view, and because
a fast quorum without the leader does not count.

Source: Lamport, "Fast Paxos", Distributed Computing 19, 2006, as the replicated log with which Ports et al., NSDI 2015, section 6, compare.
"""

from __future__ import annotations

from collections.abc import Mapping

from stretto.core.config import ClusterConfig
from stretto.core.node import Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.protocols.fastpaxos.fast_path import Accepted, FastPath
from stretto.replication.gate import LEADER_LOG_RULES, PEER_RULES, REQUEST_RULES, in_view
from stretto.replication.leader_log import LeaderLog, LogEvents
from stretto.replication.merging import merge_matched
from stretto.replication.messages import DoViewChange, Reply, Request
from stretto.replication.replica import Replica
from stretto.replication.sessions import SessionRecord


class FastPaxosReplica(Replica):
    """One replica. `fast_path` is the part that counts, at the leader, what followers have accepted."""

    rules = REQUEST_RULES | {Accepted: in_view(to_leader=True)} | LEADER_LOG_RULES | PEER_RULES

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine)
        group, state, detector = self.group, self.state, self.detector
        events = LogEvents(committed=self.on_committed)
        self.leader_log = self.add(
            LeaderLog(
                group,
                state,
                self.pending,
                self.transfer,
                detector,
                self.view_change,
                self.outcomes,
                config,
                events,
                passive_followers=False,
            )
        )
        self.fast_path = self.add(FastPath(group, state, detector, self.leader_log, self.outcomes, config))
        self.begin(start)

    def place(self, request: Request) -> None:
        """Append a request to our log, and tell the leader."""
        group, log = self.group, self.state.log
        self.state.append(request)
        if group.is_leader:
            self.fast_path.on_appended()
        else:
            self.port.send(group.leader, Accepted(group.incarnations, group.view, log.last, log.last_hash, self.state.outcome_at(log.last)))

    def on_retransmission(self, request: Request, record: SessionRecord) -> None:
        """The leader answers again if the request is committed."""
        if not self.group.is_leader or record.position > self.state.agreed:
            self.group.ignore("request that is in progress")
        else:
            self.answer(request, record.position, record.result)

    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """See `Replica`."""
        self.port.send(request.client, Reply(self.group.view, request.session, request.number, result))

    def on_committed(self, first: int, last: int) -> None:
        """Answer the clients, and resolve collisions that have come meanwhile."""
        self.answer_range(first, min(last, self.state.agreed))
        self.fast_path.resolve_if_needed()

    def matched_in_last_view(self) -> int:
        """See `Replica`."""
        return self.leader_log.matched_in_last_view()

    def merge(self, votes: Mapping[int, DoViewChange]) -> list[Request]:
        """See `merge_matched`."""
        return merge_matched(votes, self.session_numbers(votes), self.group.quorums.merge_support)
