"""The client of Adaptive Speculative Paxos.

A call completes with a superquorum of equal answers that includes the leader's; with f+1 equal answers that are matched (the leader's
always is); or with one answer that is committed.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.core.state_machine import checksum
from stretto.protocols.adaptive.messages import COMMITTED, MATCHED, AdaptiveReply, Conflict
from stretto.replication.client import Call, SessionClient
from stretto.replication.quorums import Quorums


class ReplyTally:
    """The answers to one request in the highest view that has answered: the latest of each replica.

    `voters` and `matched` are sets of replicas, as the bits of numbers: those that have answered as `answer` does, and those of them whose
    answer is matched. Nearly always, all answers agree. When two differ, `others` has the answers of all other replicas, and
    `answer` becomes the leader's as soon as that has come. Equal logs are not enough for equal answers, since states may differ by a
    mistake.
    """

    __slots__ = ("answer", "matched", "others", "view", "voters")

    def __init__(self, first: AdaptiveReply) -> None:
        self.view = first.view
        self.answer = first
        self.voters = 0
        self.matched = 0
        self.others: dict[Address, tuple[int, AdaptiveReply]] | None = None

    def count(self, source: Address, answer: AdaptiveReply, leader: Address) -> None:
        """Count an answer of the tally's view."""
        bit = 1 << source
        if self.others is not None and source in self.others and self.others[source][0] > answer.level:
            return  # it was sent before the replica matched another position
        ours = self.answer
        same_place = answer.hash == ours.hash and answer.position == ours.position
        if same_place and (answer.result == ours.result or self._has_our_result(answer)):
            self.voters |= bit
            if answer.level >= MATCHED:
                self.matched |= bit
            if self.others is not None:
                self.others.pop(source, None)
            return
        if self.matched & bit and answer.level < MATCHED:
            return  # it was sent before the replica's matched answer
        if self.others is None:
            self.others = {}
        if source == leader:
            self._follow(answer)
            self.voters |= bit
        else:
            self.voters &= ~bit
            self.matched &= ~bit
            self.others[source] = (answer.level, answer)

    def _has_our_result(self, answer: AdaptiveReply) -> bool:
        return checksum(answer.result) == checksum(self.answer.result)  # texts of some failures may differ

    def _follow(self, answer: AdaptiveReply) -> None:
        """The leader's answer differs: compare all others with it, since only it can win, and count again."""
        assert self.others is not None
        former, self.answer = self.answer, answer
        answers = dict(self.others)
        for voter in range(self.voters.bit_length()):
            if self.voters >> voter & 1:
                answers[voter] = (MATCHED if self.matched >> voter & 1 else 0, former)
        self.voters = self.matched = 0
        self.others = {}
        for voter, (level, other) in answers.items():
            if (other.position, other.hash) == (answer.position, answer.hash) and self._has_our_result(other):
                self.voters |= 1 << voter
                self.matched |= (level >= MATCHED) << voter
            else:
                self.others[voter] = (level, other)

    def snapshot(self) -> Any:
        """The replies as canonical plain data."""
        others = self.others and [
            [voter, level, answer.position, answer.hash, answer.result] for voter, (level, answer) in sorted(self.others.items())
        ]
        ours = self.answer
        return [self.view, ours.position, ours.hash, ours.result, self.voters, self.matched, others]


class AdaptiveClient(SessionClient):
    """Multicasts requests, and reports a conflict to the leader when the answers can no longer agree: then only the leader's log decides.

    While the leader sets `leader_only`, and for one interval more, requests go only to it; `_view` is the view in which it last did so.
    """

    new_tally = ReplyTally

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        super().__init__(port, config)
        self._quorums = Quorums.of(config.n)
        self._reported_view = -1
        self._view = 0
        self._leader_only_until_ns = 0
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._conflicts = 0

    def transmit(self, call: Call) -> None:
        """Send to all replicas, in the network's order. If the leader has set `leader_only`, send first only to it."""
        if self._leader_only_until_ns and call.backoff == 1:
            if self._sends_to_leader_only:
                self.port.send(self._view % self.n, call.request)
                return
            self._leader_only_until_ns = 0  # it has passed, so the clock need not be read again
        self.port.multicast(call.request)

    @property
    def _sends_to_leader_only(self) -> bool:
        return self.port.now_ns < self._leader_only_until_ns

    def on_message(self, source: Address, message: AdaptiveReply) -> None:
        """Count an answer."""
        if type(message) is not AdaptiveReply or source >= self.n:
            return self.on_other_message(source, message)
        if message.leader_only and message.view >= self._view:
            self._view = message.view
            self._leader_only_until_ns = self.port.now_ns + self._interval_ns
        call = self.open_tally(message, message.level == COMMITTED)
        if call is None:
            return None
        tally: ReplyTally = call.tally
        leader = message.view % self.n
        tally.count(source, message, leader)
        quorums, voters = self._quorums, tally.voters
        has_leader = voters & 1 << leader
        # The leader's answer counts as matched.
        if (has_leader and voters.bit_count() >= quorums.superquorum) or (tally.matched | has_leader).bit_count() >= quorums.majority:
            self.finish(call, message.result)
        elif tally.others and self.n - len(tally.others) < quorums.superquorum:
            self._report_conflict(tally)
        return None

    def _report_conflict(self, tally: ReplyTally) -> None:
        """Report once per view and tick: when the answers to one call cannot agree, those to many others cannot either."""
        if tally.view > self._reported_view:
            self._reported_view = tally.view
            self._conflicts += 1
            self.port.send(tally.view % self.n, Conflict(tally.view, tally.answer.position))

    def on_timer(self, name: str) -> None:
        """After a tick, conflicts of the same view may be reported again."""
        self._reported_view = -1
        super().on_timer(name)

    def forget_views(self) -> None:
        """See `SessionClient`."""
        self._view = 0
        self._reported_view = -1
        self._leader_only_until_ns = 0

    def snapshot(self) -> Any:
        """Sessions and calls as canonical plain data."""
        return {**super().snapshot(), "reported_view": self._reported_view, "leader_only": [self._view, self._sends_to_leader_only]}

    def metrics(self) -> dict[str, Any]:
        """Counters of calls."""
        return super().metrics() | {"conflicts": self._conflicts}
