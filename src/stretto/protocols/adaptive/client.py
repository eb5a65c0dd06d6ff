"""The client of Adaptive Speculative Paxos.

A call is done with a superquorum of equal answers, the leader's among them; or with f+1 equal ones that are confirmed, as the leader's
always is; or with one that is committed.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.protocols.adaptive.messages import COMMITTED, CONFIRMED, AdaptiveReply, Conflict
from stretto.replication.client import Call, SessionClient
from stretto.replication.quorums import Quorums


class Ballot:
    """The answers to one request in the highest view that has answered: the latest of each replica.

    As long as all agree, which is nearly always, sets of replicas are the bits of numbers: `voters`, and those that have `confirmed`. When
    two differ, `others` has the places of those that are not at (`position`, `hash`), which becomes the leader's as soon as that is known.
    """

    __slots__ = ("confirmed", "hash", "others", "position", "view", "voters")

    def __init__(self, first: AdaptiveReply) -> None:
        self.view = first.view
        self.position = first.position
        self.hash = first.hash
        self.voters = 0
        self.confirmed = 0
        self.others: dict[Address, tuple[int, bytes, int]] | None = None

    def count(self, source: Address, answer: AdaptiveReply, leader: Address) -> None:
        """Count an answer of the ballot's view."""
        bit = 1 << source
        if self.others is not None and source in self.others and self.others[source][2] > answer.level:
            return  # it was sent before the one that confirmed another place
        if answer.hash == self.hash and answer.position == self.position:
            self.voters |= bit
            if answer.level >= CONFIRMED:
                self.confirmed |= bit
            if self.others is not None:
                self.others.pop(source, None)
            return
        if self.confirmed & bit and answer.level < CONFIRMED:
            return  # it was sent before the one that confirmed
        if self.others is None:
            self.others = {}
        if source == leader:
            self._follow(answer)
            self.voters |= bit
        else:
            self.voters &= ~bit
            self.confirmed &= ~bit
            self.others[source] = (answer.position, answer.hash, answer.level)

    def _follow(self, answer: AdaptiveReply) -> None:
        """The leader's place is another than that of those so far, and only it can win."""
        assert self.others is not None
        former = (self.position, self.hash)
        places = dict(self.others)
        for voter in range(self.voters.bit_length()):
            if self.voters >> voter & 1:
                places[voter] = (*former, CONFIRMED if self.confirmed >> voter & 1 else 0)
        self.position, self.hash = answer.position, answer.hash
        self.voters = self.confirmed = 0
        self.others = {}
        for voter, (position, summary, level) in places.items():
            if (position, summary) == (self.position, self.hash):
                self.voters |= 1 << voter
                self.confirmed |= (level >= CONFIRMED) << voter
            else:
                self.others[voter] = (position, summary, level)


class AdaptiveClient(SessionClient):
    """Multicasts requests, and tells the leader when answers cannot agree any more: then only its log helps.

    As long as the leader says so, and for one interval more, requests go to it alone; `_view` is the view in which it last did.
    """

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        super().__init__(port, config)
        self._quorums = Quorums.of(config.n)
        self._reported_view = -1
        self._view = 0
        self._invited_until_ns = 0
        self._interval_ns = config.timeouts.ns("sync_interval")
        self._conflicts = 0

    def transmit(self, call: Call) -> None:
        """To all replicas, in the order that the network gives; or first to the leader, if it has said so."""
        if call.backoff == 1 and self._is_invited:
            self.port.send(self._view % self.n, call.request)
        else:
            self.port.multicast(call.request)

    @property
    def _is_invited(self) -> bool:
        return self.port.now_ns < self._invited_until_ns

    def on_message(self, source: Address, message: AdaptiveReply) -> None:
        """Count an answer."""
        if type(message) is not AdaptiveReply or source >= self.n:
            return self.ignore("not for a client")
        if message.to_leader and message.view >= self._view:
            self._view = message.view
            self._invited_until_ns = self.port.now_ns + self._interval_ns
        call = self.find(message.session, message.number)
        if call is None:
            return self.ignore("answer to a finished call")
        if message.level == COMMITTED:
            return self.finish(call, message.result)
        ballot: Ballot | None = call.ballot
        if ballot is None or message.view > ballot.view:
            call.answered = True
            call.ballot = ballot = Ballot(message)
        elif message.view < ballot.view:
            return self.ignore("of an older view")
        leader = message.view % self.n
        ballot.count(source, message, leader)
        return self._judge(call, ballot, leader, message)

    def _judge(self, call: Call, ballot: Ballot, leader: Address, message: AdaptiveReply) -> None:
        quorums, leader_bit = self._quorums, 1 << leader
        # The leader's log confirms itself.
        has_leader = ballot.voters & leader_bit
        if (ballot.confirmed | has_leader).bit_count() >= quorums.majority or (
            has_leader and ballot.voters.bit_count() >= quorums.superquorum
        ):
            self.finish(call, message.result)
            return
        if ballot.others and self.n - len(ballot.others) < quorums.superquorum:
            self._report_conflict(ballot)

    def _report_conflict(self, ballot: Ballot) -> None:
        """Many calls are lost at once when one is: say it once a view and tick."""
        if ballot.view > self._reported_view:
            self._reported_view = ballot.view
            self._conflicts += 1
            self.port.send(ballot.view % self.n, Conflict(ballot.view, ballot.position))

    def on_timer(self, name: str) -> None:
        """Each tick, conflicts of the same view may be told again."""
        self._reported_view = -1
        super().on_timer(name)

    def snapshot(self) -> Any:
        """Sessions and calls as canonical plain data."""
        return {**super().snapshot(), "reported_view": self._reported_view, "invited": [self._view, self._is_invited]}

    def metrics(self) -> dict[str, Any]:
        """Counters of calls."""
        return super().metrics() | {"conflicts": self._conflicts}

    def ballot_snapshot(self, call: Call) -> Any:
        """The answers as canonical plain data."""
        ballot: Ballot | None = call.ballot
        if ballot is None:
            return None
        others = ballot.others and sorted(ballot.others.items())
        return [ballot.view, ballot.position, ballot.hash, ballot.voters, ballot.confirmed, others]
