"""What every replica of a group of 2f+1 has: peers and their incarnations, admission, state transfer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.admission import Admission, Phase, life
from stretto.replication.messages import (
    Bootstrap,
    BootstrapReply,
    CheckpointPiece,
    Entries,
    Fetch,
    FetchCheckpoint,
    GetIncarnations,
    IncarnationsReply,
    PeerMessage,
    Recover,
    Request,
)
from stretto.replication.quorums import Quorums
from stretto.replication.records import Checkpoint, Known
from stretto.replication.replica import LoggingReplica
from stretto.replication.transfer import StateTransfer

Handler = Callable[[Address, Any], None]


class PeerReplica(LoggingReplica, ABC):
    """The base of a replica among peers.

    - `incarnations`: the highest incarnation of each replica that this one has heard of, its own among them; 0 of those it has not.
    - `handlers` take messages of peers while the replica is in service, `joining_handlers` before that, `client_handlers` those of clients.
    - `timers`: by name.

    A subclass adds its own to the handlers and timers, and calls `begin` when it is built.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.quorums = Quorums.of(config.n)
        self.peers = [peer for peer in range(config.n) if peer != index]
        self.incarnations: tuple[int, ...] = (0,) * config.n
        self.admission = admission = Admission(self, config)
        self.transfer = transfer = StateTransfer(self, config)
        shared: dict[type[Message], Handler] = {
            Bootstrap: admission.on_bootstrap,
            GetIncarnations: admission.on_get_incarnations,
            Entries: transfer.on_entries,
            CheckpointPiece: transfer.on_checkpoint_piece,
        }
        self.joining_handlers: dict[type[Message], Handler] = {
            **shared,
            BootstrapReply: admission.on_bootstrap_reply,
            IncarnationsReply: admission.on_incarnations_reply,
        }
        self.handlers = {**shared, Recover: self.on_recover, Fetch: transfer.on_fetch, FetchCheckpoint: transfer.on_fetch_checkpoint}
        self.client_handlers: dict[type[Message], Handler] = {}
        self.timers: dict[str, Callable[[], None]] = {"admission": admission.on_timer, "fetch": transfer.on_timer}

    # What a protocol adds

    @abstractmethod
    def begin_empty(self) -> None:
        """Be in service: all replicas start for the first time."""

    @abstractmethod
    def resume(self) -> bool:
        """Be in service as the records left us. False if they tell of no service: whoever has not served has promised nothing."""

    @abstractmethod
    def on_recover(self, source: Address, message: Recover) -> None:
        """Let a replica that lost its memory back in."""

    @abstractmethod
    def adopt(self, position: int, entries: Sequence[Request]) -> None:
        """Make the log, equal to the group's up to `position`, continue with exactly `entries`."""

    @abstractmethod
    def install(self, checkpoint: Checkpoint) -> None:
        """Make the log begin with a checkpoint beyond what is committed."""

    @abstractmethod
    def on_transferred(self, source: Address) -> None:
        """The committed entries that were being fetched are in the log."""

    # Beginning

    def begin(self, start: Start) -> None:
        """Come into service, or begin to."""
        self.replay(start.records)
        if self.resume():
            self.admission.complete()
        elif start.bootstrap or self.admission.bootstrapping:
            self.admission.bootstrap()
        else:
            self.admission.recover()

    def replay_record(self, record: Message) -> None:
        """See `LoggingReplica`."""
        if isinstance(record, Known):
            self.incarnations = record.incarnations
        elif isinstance(record, Bootstrap):
            self.admission.bootstrapping = True
        else:
            super().replay_record(record)

    def records(self) -> list[Message]:
        """See `LoggingReplica`."""
        return [*super().records(), Known(self.incarnations)]

    @property
    def serving(self) -> bool:
        """Whether it takes part."""
        return self.admission.phase is Phase.SERVING

    # Incarnations

    @property
    def incarnation(self) -> int:
        """Our own; 0 if we have none yet."""
        return self.incarnations[self.index]

    def learn_incarnation(self, member: int, incarnation: int) -> None:
        """From now on, `member` is known in this incarnation."""
        self.learn(tuple(incarnation if peer == member else known for peer, known in enumerate(self.incarnations)))

    def learn(self, incarnations: Sequence[int]) -> None:
        """Join what another knows to what we know."""
        joined = tuple(map(max, self.incarnations, incarnations))
        if joined != self.incarnations:
            self.incarnations = joined
            if self.port.durable:
                self.port.persist(Known(joined))

    def _hear(self, source: Address, incarnations: tuple[int, ...]) -> bool:
        """Learn from what comes with a peer's message. Whether it is of the latest life of that peer that is known."""
        if incarnations == self.incarnations:
            return True
        if len(incarnations) != self.n:
            return False
        own = self.incarnation
        self.learn(incarnations)
        if self.incarnation != own:
            self._outdo(own)
            return False
        return incarnations[source] == self.incarnations[source]

    def _outdo(self, own: int) -> None:
        """A peer knows another life of ours in a later incarnation than our own.

        Of two lives with one number, neither was in service before the other asked for it; nor has one that we, who are not in service
        yet, had not heard of. So it is over, and to be heard we take an incarnation beyond it. Our memory is what it was.
        """
        if self.serving and life(self.incarnation) > life(own):
            self.port.stop(f"replica {self.index} has been started again since this process was: there must be one of it")
        else:
            self.admission.take_later_incarnation()

    def standing(self, spoken: Mapping[int, int]) -> list[int]:
        """Of the replicas that have spoken, each in the incarnation that `spoken` has, those who are not known in a later one.

        What a replica said before it lost its memory counts for nothing. So a quorum is counted when it is used, not when it grows.
        """
        return [member for member, incarnation in spoken.items() if incarnation == self.incarnations[member]]

    # Dispatch

    def on_message(self, source: Address, message: Message) -> None:
        """Give a message to its handler, if whoever sent it may send such a one."""
        if source >= self.n:
            handler = self.client_handlers.get(type(message))
            if handler is None:
                return self.ignore("not from a client")
        else:
            handler = (self.handlers if self.serving else self.joining_handlers).get(type(message))
            if handler is None:
                return self.ignore("not for a replica" if self.serving else "not in service")
            if isinstance(message, PeerMessage) and not self._hear(source, message.incarnations):
                return self.ignore("of an earlier incarnation")
        return handler(source, message)

    def on_timer(self, name: str) -> None:
        """Give a timer to its handler."""
        self.timers[name]()

    def send_to_peers(self, message: Message) -> None:
        """One message to every other replica."""
        for peer in self.peers:
            self.port.send(peer, message)

    # Watching

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        return super().metrics() | {
            "status": self.admission.phase.value,
            "incarnations": list(self.incarnations),
            "checkpoints_installed": self.transfer.checkpoints_installed,
        }

    def snapshot(self) -> dict[str, Any]:
        """The whole state as canonical plain data."""
        own = {"incarnations": self.incarnations, "admission": self.admission.snapshot(), "transfer": self.transfer.snapshot()}
        return {**super().snapshot(), **own}
