"""A view's sequencer: how its leader finds one, and how the replicas notice that it has fallen silent.

      r0 (leader) ---OpenSession(view)---> sequencer ---SessionOpened(view, life)---> r0 ---Sync(sequencer, life)---> all

A view has one session, ever: that of the first answer. When it ends, because the sequencer has died or lost its numbers, a majority that
does not hear it starts the next view, with the same leader. (The paper's views are pairs, of leader and session; one number serves
for both.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.protocols.nopaxos.messages import NO_SESSION, OpenSession, SessionOpened, SuspectSequencer

if TYPE_CHECKING:
    from stretto.protocols.nopaxos.replica import NoPaxosReplica


class SequencerSession:
    """The part of a replica that knows the sequencer.

    - `sequencer`: the index of the one that serves the view or, before it has one, that is to be asked first;
    - `life`: that of its session; NO_SESSION before there is one. Stamps of any other do not count;
    - `suspects`: who does not hear it: a replica and the incarnation in which it spoke.
    """

    def __init__(self, replica: NoPaxosReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.sequencer = 0
        self.life = NO_SESSION
        self.suspects: dict[int, int] = {}
        self._addresses = range(config.n, config.n + len(config.sequencers))
        self._heard_ns = 0
        self._timeout_ns = config.timeouts.ns("leader_timeout")
        self._retransmit_ns = config.timeouts.ns("retransmit")

    def begin(self) -> None:
        """A view has been entered: its leader looks for a sequencer."""
        self._heard_ns = self.port.now_ns
        self.port.set_timer("watch", self._timeout_ns // 4)
        if self.replica.is_leader:
            self.port.set_timer("session", self._retransmit_ns)
            if not self.replica.resumed:
                self.port.send(self._addresses[self.sequencer], OpenSession(self.replica.view))

    def stop(self) -> None:
        """The view has been left. A sequencer that somebody does not hear is not the first choice for the next."""
        if self.suspects or self._silent:
            self.sequencer = (self.sequencer + 1) % len(self._addresses)
        self.life = NO_SESSION
        self.suspects.clear()
        for name in ("watch", "session"):
            self.port.cancel_timer(name)

    # Finding one

    def on_session_timer(self) -> None:
        """No sequencer has answered: ask all. But a leader that was started again may have opened a session that it has forgotten."""
        replica = self.replica
        if replica.resumed:
            return replica.views.start_next("its leader was started again")
        self.port.set_timer("session", self._retransmit_ns)
        for address in self._addresses:
            self.port.send(address, OpenSession(replica.view))
        return None

    def on_session_opened(self, source: Address, message: SessionOpened) -> None:
        """Take the first sequencer that answers, and tell all at once."""
        replica = self.replica
        if source not in self._addresses or message.view != replica.view or not replica.accepting or not replica.is_leader:
            return replica.ignore("session of another view")
        if self.life != NO_SESSION or replica.resumed:
            return replica.ignore("the view has a session")
        self.learn(source - replica.n, message.life)
        self.port.cancel_timer("session")
        return replica.sync.begin_round()

    def learn(self, sequencer: int, life: int) -> None:
        """The leader has found one."""
        if self.life == NO_SESSION and sequencer < len(self._addresses):
            self.sequencer, self.life = sequencer, life
            self.hear()
            self.port.report("session", view=self.replica.view, sequencer=sequencer)

    # Watching it

    def hear(self) -> None:
        """A sign of its life has come."""
        self._heard_ns = self.port.now_ns

    @property
    def _silent(self) -> bool:
        return self.life != NO_SESSION and self.port.now_ns - self._heard_ns >= self._timeout_ns

    def on_watch_timer(self) -> None:
        """Tell all if it has been silent. Whoever hears it forgets what others have said: they say it again."""
        replica = self.replica
        self.port.set_timer("watch", self._timeout_ns // 4)
        if not self._silent:
            self.suspects.clear()
            return
        self.suspects[replica.index] = replica.incarnation
        replica.send_to_peers(SuspectSequencer(replica.incarnations, replica.view))
        self._judge()

    def on_suspect_sequencer(self, source: Address, message: SuspectSequencer) -> None:
        """Count a suspicion."""
        if self.replica.views.counts(source, message):
            self.suspects[source] = message.incarnations[source]
            self._judge()

    def _judge(self) -> None:
        """With a majority that does not hear it, ourselves among them, go on with another. One that is deaf drags nobody along."""
        replica = self.replica
        if replica.index in self.suspects and len(replica.standing(self.suspects)) >= replica.quorums.majority:
            replica.views.start_next("sequencer suspected")

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return [self.sequencer, self.life, sorted(self.suspects.items()), self._silent]
