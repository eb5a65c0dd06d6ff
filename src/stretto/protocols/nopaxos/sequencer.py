"""The sequencer: it numbers requests, and keeps no other state.

It stamps requests only after the leader of a view has opened a session, and never for a lower view than that. A sequencer that is started
again has another incarnation, so its numbers are those of another session: no number is given twice.

Source: Li et al., OSDI 2016, section 4. In the paper, the sequencer is a switch.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message, Port
from stretto.protocols.nopaxos.messages import OpenSession, SequencerAlive, SessionOpened, Stamped
from stretto.replication.messages import Request

_INCARNATION_BITS = 61


class Sequencer:
    """One sequencer, number `index` in the configuration.

    - `incarnation`: identifies this start; `view`: the highest view whose leader opened a session, -1 if there is none;
    - `number`: the last number given in that session.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int) -> None:
        self.port = port
        self.index = index
        self.incarnation = 1 + port.random.getrandbits(_INCARNATION_BITS)
        self.view = -1
        self.number = 0
        self.ignored: dict[str, int] = {}
        self._n = config.n
        self._announced = 0
        self._interval_ns = config.timeouts.ns("sync_interval")

    def on_message(self, source: Address, message: Message) -> None:
        """Stamp a request, or open a session."""
        if type(message) is Request:
            self._stamp(source, message)
        elif type(message) is OpenSession:
            self._open(source, message.view)
        else:
            self._ignore("not for a sequencer")

    def _stamp(self, source: Address, request: Request) -> None:
        if self.view < 0:
            return self._ignore("request before a session")
        if source != request.client:
            return self._ignore("request that names another client")
        self.number += 1
        return self.port.multicast(Stamped(self.view, self.incarnation, self.number, request))

    def _open(self, source: Address, view: int) -> None:
        """Open the session of a higher view. If it is open already, answer again."""
        if source != view % self._n:
            return self._ignore("not from the leader")
        if view < self.view:
            return self._ignore("of an older view")
        if view > self.view:
            self.view = view
            self.number = self._announced = 0
            self.port.report("session opened", view=view)
            self.port.set_timer("alive", self._interval_ns)
        return self.port.send(source, SessionOpened(view, self.incarnation))

    def on_timer(self, name: str) -> None:
        """Send a sign of life, if no stamp was sent since the last time. By its number, replicas notice the loss of the last stamp too."""
        self.port.set_timer("alive", self._interval_ns)
        if self.number == self._announced:
            self.port.multicast(SequencerAlive(self.view, self.incarnation, self.number))
        self._announced = self.number

    def _ignore(self, reason: str) -> None:
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    def snapshot(self) -> Any:
        """The whole state as canonical plain data."""
        return [self.incarnation, self.view, self.number, self._announced]

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        status = "waiting for a session" if self.view < 0 else "stamping"
        return {"status": status, "view": self.view, "stamped": self.number, "ignored_messages": dict(self.ignored)}

    def check_invariants(self) -> None:
        """Nothing is stamped without a session."""
        assert self.number == 0 or self.view >= 0
        assert self._announced <= self.number
