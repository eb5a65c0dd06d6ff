"""The client of NOPaxos: a call completes with f+1 equal answers, including the leader's, or with one committed answer."""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Port
from stretto.protocols.nopaxos.messages import NoPaxosReply
from stretto.replication.client import Call, SessionClient
from stretto.replication.quorums import Quorums


class ReplyTally:
    """The answers to one request in the highest view that has answered: the latest position, hash and outcome of each replica.

    `result`: the result in the leader's answer.
    """

    __slots__ = ("places", "result", "view")

    def __init__(self, first: NoPaxosReply) -> None:
        self.view = first.view
        self.places: dict[Address, tuple[int, bytes, int]] = {}
        self.result: bytes | None = None

    def snapshot(self) -> Any:
        """The replies as canonical plain data."""
        return [self.view, sorted(self.places.items()), self.result]


class NoPaxosClient(SessionClient):
    """Sends requests to the sequencer of the highest view that it knows, and to all sequencers when no answer comes."""

    new_tally = ReplyTally

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        super().__init__(port, config)
        self._majority = Quorums.of(config.n).majority
        self._sequencers = range(config.n, config.n + len(config.sequencers))
        self._view = 0
        self._sequencer = 0

    def transmit(self, call: Call) -> None:
        """Send to one sequencer first: the others have no session, or one of an older view."""
        chosen = self._sequencers[self._sequencer]
        for sequencer in (chosen,) if call.backoff == 1 else self._sequencers:
            self.port.send(sequencer, call.request)

    def on_message(self, source: Address, message: NoPaxosReply) -> None:
        """Count an answer."""
        if type(message) is not NoPaxosReply or source >= self.n:
            return self.on_other_message(source, message)
        if message.view >= self._view and message.sequencer < len(self._sequencers):
            self._view, self._sequencer = message.view, message.sequencer
        call = self.open_tally(message, message.committed)
        if call is not None:
            self._count(call, call.tally, source, message)
        return None

    def _count(self, call: Call, tally: ReplyTally, source: Address, message: NoPaxosReply) -> None:
        places = tally.places
        places[source] = (message.position, message.hash, message.outcome)
        leader = tally.view % self.n
        if source == leader:
            tally.result = message.result
        leaders = places.get(leader)
        if leaders is not None and sum(place == leaders for place in places.values()) >= self._majority:
            self.finish(call, tally.result)

    def forget_views(self) -> None:
        """See `SessionClient`."""
        self._view = self._sequencer = 0

    def snapshot(self) -> Any:
        """Sessions, calls, view and sequencer as canonical plain data."""
        return {**super().snapshot(), "view": self._view, "sequencer": self._sequencer}
