"""A view's sequencer: how the leader finds one, and how the replicas notice that it is silent.

      r0 (leader) ---OpenSession(view)---> sequencer ---SessionOpened(view, incarnation)---> r0 ---Sync(sequencer, incarnation)---> all

A view has only one session: that of the first sequencer that answers. It ends when the sequencer fails or loses its numbers. Then a
majority that does not hear the sequencer starts the next view, with the same leader. (The paper's view numbers are pairs of leader and
session; here, one number serves for both.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.protocols.nopaxos.messages import NO_SESSION, OpenSession, SessionOpened, SuspectSequencer
from stretto.replication.group import Group
from stretto.replication.messages import StartView
from stretto.replication.part import Part
from stretto.replication.view_change import ViewChange


class SequencerSession(Part):
    """The part of a replica that knows the sequencer.

    - `sequencer`: the index of the view's sequencer; before the view has one, of the sequencer to ask first;
    - `incarnation`: the sequencer's incarnation; NO_SESSION before the view has a session. Stamps of any other do not count;
    - `suspects`: the replicas that do not hear the sequencer, each with the incarnation in which it said so;
    - `resumed`: whether this replica was started again from its disk and continues in its former view.

    Parameters: `on_opened` is called at the leader when the view has a session.
    """

    def __init__(self, group: Group, view_change: ViewChange, config: ClusterConfig, on_opened: Callable[[], None]) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.view_change = view_change
        self.sequencer = 0
        self.incarnation = NO_SESSION
        self.suspects: dict[int, int] = {}
        self.resumed = False
        self._on_opened = on_opened
        self._addresses = range(config.n, config.n + len(config.sequencers))
        self._heard_ns = 0
        self._timeout_ns = config.timeouts.ns("leader_timeout")
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self.handlers = {SessionOpened: self.on_session_opened, SuspectSequencer: self.on_suspect_sequencer}
        self.timers = {"session": self.on_session_timer, "watch": self.on_watch_timer}

    @property
    def is_open(self) -> bool:
        """Whether the view has a session."""
        return self.incarnation != NO_SESSION

    def begin_view(self) -> None:
        """See `Part`. The leader looks for a sequencer."""
        self._heard_ns = self.port.now_ns
        self.port.set_timer("watch", self._timeout_ns // 4)
        if self.group.is_leader:
            self.port.set_timer("session", self._retransmit_ns)
            if not self.resumed:
                self.port.send(self._addresses[self.sequencer], OpenSession(self.group.view))

    def leave_view(self) -> None:
        """See `Part`. If a replica does not hear the sequencer, the next view asks another one first."""
        if self.suspects or self._silent:
            self.sequencer = (self.sequencer + 1) % len(self._addresses)
        self.incarnation = NO_SESSION
        self.suspects = {}
        self.resumed = False
        for name in ("watch", "session"):
            self.port.cancel_timer(name)

    def replay(self, record: Message) -> None:
        """See `Part`."""
        self.resumed |= isinstance(record, StartView)

    # Finding one

    def on_session_timer(self) -> None:
        """No sequencer has answered: ask all. A leader that was started again ends the view instead, as it may have had a session
        before."""
        if self.resumed:
            return self.view_change.start_next("its leader was started again")
        self.port.set_timer("session", self._retransmit_ns)
        for address in self._addresses:
            self.port.send(address, OpenSession(self.group.view))
        return None

    def on_session_opened(self, source: Address, message: SessionOpened) -> None:
        """Take the first sequencer that answers, and tell all replicas at once."""
        if self.is_open or self.resumed:
            return self.group.ignore("the view has a session")
        self.learn(source - self.group.n, message.incarnation)
        self.port.cancel_timer("session")
        return self._on_opened()

    def learn(self, sequencer: int, incarnation: int) -> None:
        """The leader has found a sequencer."""
        if not self.is_open and sequencer < len(self._addresses):
            self.sequencer, self.incarnation = sequencer, incarnation
            self.hear()
            self.port.report("session", view=self.group.view, sequencer=sequencer)

    # Watching it

    def hear(self) -> None:
        """The sequencer's sign of life has come."""
        self._heard_ns = self.port.now_ns

    @property
    def _silent(self) -> bool:
        return self.is_open and self.port.now_ns - self._heard_ns >= self._timeout_ns

    def on_watch_timer(self) -> None:
        """Tell all replicas if the sequencer is silent. A replica that hears it drops the others' suspicions, which they repeat."""
        group = self.group
        self.port.set_timer("watch", self._timeout_ns // 4)
        if not self._silent:
            self.suspects = {}
            return
        self.suspects[group.index] = group.incarnation
        group.send_to_peers(SuspectSequencer(group.incarnations, group.view))
        self._count_suspects()

    def on_suspect_sequencer(self, source: Address, message: SuspectSequencer) -> None:
        """Count a suspicion."""
        self.suspects[source] = message.incarnations[source]
        self._count_suspects()

    def _count_suspects(self) -> None:
        """If a majority, including this replica, does not hear the sequencer, start the next view. A single suspicion starts none."""
        if self.group.index in self.suspects and self.group.has_majority(self.suspects):
            self.view_change.start_next("sequencer suspected")

    def metrics(self) -> dict[str, Any]:
        """See `Part`."""
        return {"sequencer": self.sequencer}

    def snapshot(self) -> Any:
        """See `Part`."""
        return [self.sequencer, self.incarnation, sorted(self.suspects.items()), self._silent, self.resumed]
