"""The client of NOPaxos: done with f+1 equal answers, the leader's among them, or with one that says committed."""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.protocols.nopaxos.messages import NoPaxosReply
from stretto.replication.client import Call, SessionClient
from stretto.replication.quorums import Quorums


class Ballot:
    """The latest answers of each replica to one request, in the highest view that has answered: where it stands, by replica.

    `result`: what the leader's answer says. Answers of different views never count together.
    """

    __slots__ = ("places", "result", "view")

    def __init__(self, view: int) -> None:
        self.view = view
        self.places: dict[Address, tuple[int, bytes]] = {}
        self.result: bytes | None = None


class NoPaxosClient(SessionClient):
    """Sends to the sequencer of the latest view that it has heard of, and to all sequencers when no answer comes."""

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        super().__init__(port, config)
        self._majority = Quorums.of(config.n).majority
        self._sequencers = range(config.n, config.n + len(config.sequencers))
        self._view = 0
        self._sequencer = 0

    def transmit(self, call: Call) -> None:
        """To one sequencer first: the others have no session, or one that counts no more."""
        chosen = self._sequencers[self._sequencer]
        for sequencer in (chosen,) if call.backoff == 1 else self._sequencers:
            self.port.send(sequencer, call.request)

    def on_message(self, source: Address, message: NoPaxosReply) -> None:
        """Count an answer."""
        if type(message) is not NoPaxosReply or source >= self.n:
            return self.ignore("not for a client")
        if message.view >= self._view and message.sequencer < len(self._sequencers):
            self._view, self._sequencer = message.view, message.sequencer
        call = self.find(message.session, message.number)
        if call is None:
            return self.ignore("answer to a finished call")
        if message.committed:
            return self.finish(call, message.result)
        ballot: Ballot | None = call.ballot
        if ballot is None or message.view > ballot.view:
            call.answered = True
            call.ballot = ballot = Ballot(message.view)
        elif message.view < ballot.view:
            return self.ignore("of an older view")
        return self._count(call, ballot, source, message)

    def _count(self, call: Call, ballot: Ballot, source: Address, message: NoPaxosReply) -> None:
        places = ballot.places
        places[source] = (message.position, message.hash)
        leader = ballot.view % self.n
        if source == leader:
            ballot.result = message.result
        leaders = places.get(leader)
        if leaders is not None and sum(place == leaders for place in places.values()) >= self._majority:
            self.finish(call, ballot.result)

    def snapshot(self) -> Any:
        """Sessions, calls, view and sequencer as canonical plain data."""
        return {**super().snapshot(), "view": self._view, "sequencer": self._sequencer}

    def ballot_snapshot(self, call: Call) -> Any:
        """The answers as canonical plain data."""
        ballot: Ballot | None = call.ballot
        return ballot and [ballot.view, sorted(ballot.places.items()), ballot.result]
