"""The client of Speculative Paxos: done with a superquorum of equal answers, or with one that says committed."""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.protocols.speculative.messages import Conflict, SpeculativeReply
from stretto.replication.client import Call, SessionClient
from stretto.replication.quorums import Outcome, Quorums, Tally


class Ballot:
    """The answers to one request in the highest view that has answered. Those of different views never count together.

    As long as all agree, which is nearly always, the voters are bits of a number; the tally is made when two differ.
    """

    __slots__ = ("hash", "position", "tally", "view", "voters")

    def __init__(self, source: Address, first: SpeculativeReply) -> None:
        self.view = first.view
        self.position = first.position
        self.hash = first.hash
        self.voters = 1 << source
        self.tally: Tally[tuple[int, bytes]] | None = None

    def agrees(self, answer: SpeculativeReply) -> bool:
        """Whether all answers so far, and this one, are equal."""
        same = answer.hash == self.hash and answer.position == self.position and answer.view == self.view
        return same and self.tally is None

    def count(self, source: Address, answer: SpeculativeReply, quorums: Quorums) -> Outcome:
        """Count an answer of the ballot's view, when some differ."""
        if self.tally is None:
            self.tally = Tally(quorums.n, quorums.superquorum)
            for voter in range(quorums.n):
                if self.voters >> voter & 1:
                    self.tally.add(voter, (self.position, self.hash))
        return self.tally.add(source, (answer.position, answer.hash))


class SpeculativeClient(SessionClient):
    """Multicasts requests, and tells the leader as soon as the answers cannot agree any more, instead of waiting for a timeout."""

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        super().__init__(port, config)
        self._quorums = Quorums.of(config.n)
        self._reported_view = -1
        self._conflicts = 0

    def transmit(self, call: Call) -> None:
        """To all replicas, in the order that the network gives."""
        self.port.multicast(call.request)

    def on_message(self, source: Address, message: SpeculativeReply) -> None:
        """Count an answer."""
        if type(message) is not SpeculativeReply or source >= self.n:
            return self.ignore("not for a client")
        call = self.find(message.session, message.number)
        if call is None:
            return self.ignore("answer to a finished call")
        if message.committed:
            return self.finish(call, message.result)
        ballot: Ballot | None = call.ballot
        if ballot is None or message.view > ballot.view:
            call.answered = True
            call.ballot = ballot = Ballot(source, message)
        if ballot.agrees(message):
            ballot.voters |= 1 << source
            if ballot.voters.bit_count() >= self._quorums.superquorum:
                self.finish(call, message.result)
            return None
        return self._count_difference(call, ballot, source, message)

    def _count_difference(self, call: Call, ballot: Ballot, source: Address, message: SpeculativeReply) -> None:
        if message.view < ballot.view:
            return self.ignore("of an older view")
        outcome = ballot.count(source, message, self._quorums)
        if outcome is Outcome.WON:
            self.finish(call, message.result)
        elif outcome is Outcome.LOST:
            self._report_conflict(ballot)
        return None

    def _report_conflict(self, ballot: Ballot) -> None:
        """Many calls are lost at once when one is: say it once a view and tick."""
        if ballot.view > self._reported_view:
            self._reported_view = ballot.view
            self._conflicts += 1
            assert ballot.tally is not None
            places = [place for place in ballot.tally.answers.values() if place is not None]
            hashes = tuple(dict.fromkeys(summary for _, summary in places))
            self.port.send(ballot.view % self.n, Conflict(ballot.view, max(position for position, _ in places), hashes))

    def on_timer(self, name: str) -> None:
        """Each tick, conflicts of the same view may be told again."""
        self._reported_view = -1
        super().on_timer(name)

    def snapshot(self) -> Any:
        """Sessions and calls as canonical plain data."""
        return {**super().snapshot(), "reported_view": self._reported_view}

    def metrics(self) -> dict[str, Any]:
        """Counters of calls."""
        return super().metrics() | {"conflicts": self._conflicts}

    def ballot_snapshot(self, call: Call) -> Any:
        """The answers as canonical plain data."""
        ballot: Ballot | None = call.ballot
        if ballot is None:
            return None
        tally = ballot.tally and sorted(ballot.tally.answers.items())
        return [ballot.view, ballot.position, ballot.hash, ballot.voters, tally]
