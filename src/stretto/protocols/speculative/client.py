"""The client of Speculative Paxos: a call completes with a superquorum of equal answers, or with one committed answer."""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.core.state_machine import checksum
from stretto.protocols.speculative.messages import Conflict, SpeculativeReply
from stretto.replication.client import Call, SessionClient
from stretto.replication.quorums import Outcome, Quorums, Tally


class ReplyTally:
    """The answers to one request in the highest view that has answered: the latest of each replica.

    Answers are equal only if position, hash and result are: equal logs are not enough, since states may differ by a mistake. As long as all
    answers agree, as they nearly always do, the voters are the bits of a number. A `Tally` is made when two differ.
    """

    __slots__ = ("answer", "tally", "view", "voters")

    def __init__(self, first: SpeculativeReply) -> None:
        self.view = first.view
        self.answer = first
        self.voters = 0
        self.tally: Tally[tuple[int, bytes, int]] | None = None

    def agrees(self, answer: SpeculativeReply) -> bool:
        """Whether all answers so far, and this one, are equal."""
        first = self.answer
        return answer.hash == first.hash and answer.position == first.position and answer.result == first.result and self.tally is None

    def count(self, source: Address, answer: SpeculativeReply, quorums: Quorums) -> Outcome:
        """Count an answer, when not all agree."""
        if self.tally is None:
            first = self.answer
            self.tally = Tally(quorums.n, quorums.superquorum)
            for voter in range(quorums.n):
                if self.voters >> voter & 1:
                    self.tally.add(voter, (first.position, first.hash, checksum(first.result)))
        return self.tally.add(source, (answer.position, answer.hash, checksum(answer.result)))

    def snapshot(self) -> Any:
        """The replies as canonical plain data."""
        tally = self.tally and sorted(self.tally.answers.items())
        first = self.answer
        return [self.view, first.position, first.hash, first.result, self.voters, tally]


class SpeculativeClient(SessionClient):
    """Multicasts requests, and reports a conflict to the leader as soon as the answers can no longer agree."""

    new_tally = ReplyTally

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        super().__init__(port, config)
        self._quorums = Quorums.of(config.n)
        self._reported_view = -1
        self._conflicts = 0

    def transmit(self, call: Call) -> None:
        """Send to all replicas, in the network's order."""
        self.port.multicast(call.request)

    def on_message(self, source: Address, message: SpeculativeReply) -> None:
        """Count an answer."""
        if type(message) is not SpeculativeReply or source >= self.n:
            return self.on_other_message(source, message)
        call = self.open_tally(message, message.committed)
        if call is None:
            return None
        tally: ReplyTally = call.tally
        if tally.agrees(message):
            tally.voters |= 1 << source
            if tally.voters.bit_count() >= self._quorums.superquorum:
                self.finish(call, message.result)
            return None
        outcome = tally.count(source, message, self._quorums)
        if outcome is Outcome.WON:
            self.finish(call, message.result)
        elif outcome is Outcome.LOST:
            self._report_conflict(tally)
        return None

    def _report_conflict(self, tally: ReplyTally) -> None:
        """Report once per view and tick: when the answers to one call cannot agree, those to many others cannot either."""
        if tally.view > self._reported_view:
            self._reported_view = tally.view
            self._conflicts += 1
            assert tally.tally is not None
            places = [place for place in tally.tally.answers.values() if place is not None]
            hashes = tuple(dict.fromkeys(summary for _, summary, _ in places))
            self.port.send(tally.view % self.n, Conflict(tally.view, max(position for position, _, _ in places), hashes))

    def on_timer(self, name: str) -> None:
        """After a tick, conflicts of the same view may be reported again."""
        self._reported_view = -1
        super().on_timer(name)

    def forget_views(self) -> None:
        """See `SessionClient`."""
        self._reported_view = -1

    def snapshot(self) -> Any:
        """Sessions and calls as canonical plain data."""
        return {**super().snapshot(), "reported_view": self._reported_view}

    def metrics(self) -> dict[str, Any]:
        """Counters of calls."""
        return super().metrics() | {"conflicts": self._conflicts}
