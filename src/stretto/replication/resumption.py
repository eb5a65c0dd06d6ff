"""Resumption: a replica that starts again with its data asks first whether that is its newest.

    r ---GetWritten---> all others ---WrittenReply(number)---> r      with f answers, none above its own: r resumes
    each replica ---Written(number)---> all others                    from time to time

How much was ever written into a directory is a number that only rises, and stands in the directory. Each replica tells the others its
number. A directory that was restored from an older copy has a lower one than the others have heard, so it is refused before its replica
has said a word that counts. The others keep the numbers in memory: if all were down at the same time, they have forgotten them; see
`stretto.replication.forgetting` for what is noticed then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.replication.group import Group, Status
from stretto.replication.messages import GetWritten, Written, WrittenReply
from stretto.replication.part import Part

INTERVAL_NS = 1_000_000_000
"""How often a replica tells the others its number."""

_NONCE_BITS = 32
_TICKS_PER_REPORT = 100


class Resumption(Part):
    """The part of a replica that tells the number of its directory, and asks for it before the replica resumes.

    - `told`: the highest number that each other replica has told, and the incarnation in which it did.
    - `found`: while this replica asks, the number of its directory before this start. `answered`: who has answered.

    Parameters: `resume` is called when the replica may go on with its data.
    """

    def __init__(self, group: Group, config: ClusterConfig, resume: Callable[[], None]) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.told: dict[Address, tuple[int, int]] = {}
        self.found: int | None = None
        self.answered: set[Address] = set()
        self._nonce = 0
        self._ticks = 0
        self._resume = resume
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self.handlers = {GetWritten: self.on_get_written, WrittenReply: self.on_written_reply, Written: self.on_written}
        self.timers = {"resumption": self.on_timer, "written": self.on_written_timer}

    def begin(self, found: int) -> None:
        """Ask the others before going on with data whose number is `found`."""
        self.found = found
        self.group.change_status(Status.RESUMING)
        self._nonce = self.port.random.getrandbits(_NONCE_BITS)
        self.on_timer()

    def enter_view(self) -> None:
        """See `Part`. From now on, tell the others our number."""
        if self.port.written is not None:
            self.port.set_timer("written", 0)

    def on_written_timer(self) -> None:
        """Tell the others our number again."""
        written = self.port.written
        assert written is not None
        self.port.set_timer("written", INTERVAL_NS - self.port.random.randrange(INTERVAL_NS // 4))
        if self.group.in_service:
            self.group.send_to_peers(Written(self.group.incarnations, written))

    def on_written(self, source: Address, message: Written) -> None:
        """Keep the highest number of each incarnation."""
        self.told[source] = max(self.told.get(source, (0, 0)), (message.incarnations[source], message.number))

    def on_get_written(self, source: Address, message: GetWritten) -> None:
        """Tell a replica the highest number that it has told us in its incarnation, and the incarnation in which we know it."""
        incarnation, number = self.told.get(source, (0, 0))
        number = number if incarnation == message.incarnation else 0
        self.port.send(source, WrittenReply(message.nonce, self.group.incarnations[source], number))

    def on_timer(self) -> None:
        """Ask those that have not answered."""
        group = self.group
        for peer in group.peers:
            if peer not in self.answered:
                self.port.send(peer, GetWritten(self._nonce, group.incarnation))
        self.port.set_timer("resumption", self._retransmit_ns)
        self._ticks += 1
        if self._ticks % _TICKS_PER_REPORT == 0:
            self.port.report("waits to resume", status=group.status.value, answered=sorted(self.answered))

    def on_written_reply(self, source: Address, message: WrittenReply) -> None:
        """Resume after f answers, unless one of them shows that there was more in the directory than there is now."""
        group = self.group
        if message.nonce != self._nonce or self.found is None:
            return group.ignore("answer to an earlier question")
        if message.number > self.found:
            return self._refuse(f"replica {source} has heard that more was written into it than it holds")
        if message.incarnation > group.incarnation and group.is_of_this_life(_alone(group, message.incarnation)):
            return self._refuse(f"replica {source} knows a later start of this replica with new state")
        self.answered.add(source)
        if len(self.answered) >= group.quorums.f:
            self.found = None
            self.port.cancel_timer("resumption")
            self._resume()
        return None

    def _refuse(self, evidence: str) -> None:
        self.port.report("older data refused", evidence=evidence)
        self.port.stop(f"this is not the newest data of this replica: {evidence}. It was restored from an old copy", distrust=True)

    def metrics(self) -> dict[str, Any]:
        """See `Part`. `written`: the number of our directory; `written_by_others`: what the others have told."""
        if self.port.written is None:
            return {}
        return {"written": self.port.written, "written_by_others": {str(peer): number for peer, (_, number) in sorted(self.told.items())}}

    def snapshot(self) -> Any:
        """See `Part`."""
        return [sorted(self.told.items()), self.found, sorted(self.answered), self._nonce]


def _alone(group: Group, incarnation: int) -> tuple[int, ...]:
    """A vector of incarnations that knows only this one, of this replica."""
    return tuple(incarnation if member == group.index else 0 for member in range(group.n))
