"""What every replica of a group of 2f+1 has: peers and their incarnations, admission, views, state transfer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine
from stretto.replication.admission import Admission, Phase, life
from stretto.replication.held import HeldRequests
from stretto.replication.merging import latest, settled
from stretto.replication.messages import (
    Bootstrap,
    BootstrapReply,
    CheckpointPiece,
    DoViewChange,
    Entries,
    Fetch,
    FetchCheckpoint,
    GetIncarnations,
    GetStartView,
    IncarnationsReply,
    PeerMessage,
    Recover,
    Request,
    StartView,
    StartViewChange,
    Suspect,
    ViewEntered,
)
from stretto.replication.quorums import Quorums
from stretto.replication.records import Checkpoint, Known
from stretto.replication.replica import LoggingReplica
from stretto.replication.transfer import StateTransfer
from stretto.replication.views import Status, Views

Handler = Callable[[Address, Any], None]


class PeerReplica(LoggingReplica, ABC):
    """The base of a replica among peers. The fields, with their invariants:

    - `incarnations`: the highest incarnation of each replica that this one has heard of, its own among them; 0 of those it has not.
    - `handlers` take messages of peers while the replica is in service, `joining_handlers` before that, `client_handlers` those of clients.
    - `timers`: by name.
    - `view` never goes down.
    - `accepting`: whether the log grows as messages come: NORMAL and no repair under way. Else requests wait in `held`.
    - `transfer.current`: committed entries on their way: for a repair (NORMAL), or before a view can be entered or its logs merged.
      Our log is shorter than they are, or another: so nothing that it loses by them can have completed.

    A subclass adds its own to the handlers and timers, and calls `begin` when it is built.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        super().__init__(port, config, index, machine, start)
        self.quorums = Quorums.of(config.n)
        self.peers = [peer for peer in range(config.n) if peer != index]
        self.incarnations: tuple[int, ...] = (0,) * config.n
        self.accepting = False
        self.held = HeldRequests(config.limits.max_held_requests)
        self.repairs = 0
        self.admission = Admission(self, config)
        self.transfer = StateTransfer(self, config)
        self.views = Views(self, config)
        self.joining_handlers: dict[type[Message], Handler] = {}
        self.client_handlers: dict[type[Message], Handler] = {Request: self.on_request}
        self.timers: dict[str, Callable[[], None]] = {}
        self._name_handlers()

    def _name_handlers(self) -> None:
        admission, transfer, views = self.admission, self.transfer, self.views
        shared: dict[type[Message], Handler] = {
            Bootstrap: admission.on_bootstrap,
            GetIncarnations: admission.on_get_incarnations,
            Entries: transfer.on_entries,
            CheckpointPiece: transfer.on_checkpoint_piece,
            StartView: views.on_start_view,
        }
        self.joining_handlers = {
            **shared,
            BootstrapReply: admission.on_bootstrap_reply,
            IncarnationsReply: admission.on_incarnations_reply,
        }
        self.handlers = {
            **shared,
            Recover: views.on_recover,
            Fetch: transfer.on_fetch,
            FetchCheckpoint: transfer.on_fetch_checkpoint,
            Suspect: views.on_suspect,
            StartViewChange: views.on_start_view_change,
            DoViewChange: views.on_do_view_change,
            GetStartView: views.on_get_start_view,
            ViewEntered: views.on_view_entered,
        }
        self.timers |= {
            "admission": admission.on_timer,
            "fetch": transfer.on_timer,
            "leader": views.on_leader_timer,
            "view_change": views.on_view_change_timer,
            "escalate": views.on_escalate_timer,
        }

    # What a protocol adds

    @abstractmethod
    def accept(self, request: Request) -> None:
        """Do what the protocol does with a client's request, now that the replica is accepting."""

    @abstractmethod
    def begin_view(self) -> None:
        """The view has been entered, with the log it started with: begin its normal operation."""

    @abstractmethod
    def leave_view(self) -> None:
        """The view has been left: end its normal operation."""

    @abstractmethod
    def merge(self, votes: Mapping[int, DoViewChange]) -> Sequence[Request]:
        """The entries after the base with which our view starts, from exactly f+1 votes, everything up to the base being committed here.

        The base is that of `stretto.replication.merging.settled`.
        """

    @abstractmethod
    def on_committed(self, first: int, last: int) -> None:
        """We lead, and the entries from `first` to `last` have been committed by a majority: answer, if clients wait for that."""

    def on_entered(self, first: int, last: int) -> None:
        """The entries from `first` to `last` have the place that the view started with. For a protocol whose clients want to know."""

    def on_confirmed(self, first: int, last: int, is_awaited: bool) -> None:
        """We follow, and our log from `first` to `last` is the leader's, as we know now. For a protocol whose clients may want to know.

        `is_awaited`: the leader has sent its order, since not all had it.
        """

    def on_acknowledged(self, source: Address, moved: bool) -> None:
        """We lead, and a follower has our log, which it had not before if something has `moved`. For a protocol that adapts to that."""

    def on_repaired(self) -> None:
        """A repair inside the view has ended. For a protocol that has put something off."""

    @property
    def confirmed(self) -> int:
        """Up to here our log is known to be that of our last normal view's leader. For a protocol that knows of more than is committed."""
        return self.state.committed

    # Beginning

    def begin(self, start: Start) -> None:
        """Come into service, or begin to."""
        self.replay(start.records)
        if self.views.resume():
            self.admission.complete()
        elif start.bootstrap or self.admission.bootstrapping:
            self.admission.bootstrap()
        else:
            self.admission.recover()

    def replay_record(self, record: Message) -> None:
        """See `LoggingReplica`."""
        if isinstance(record, Known):
            self.admission.bootstrapping &= record.incarnations[self.index] == self.incarnation
            self.incarnations = record.incarnations
        elif isinstance(record, Bootstrap):
            self.admission.bootstrapping = True
        elif isinstance(record, StartViewChange | StartView):
            self.views.replay(record)
        else:
            super().replay_record(record)

    def records(self) -> list[Message]:
        """See `LoggingReplica`."""
        return [*super().records(), Known(self.incarnations), *self.views.records()]

    @property
    def serving(self) -> bool:
        """Whether it takes part."""
        return self.admission.phase is Phase.SERVING

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads the view."""
        return self.view % self.n == self.index

    # Requests

    def on_request(self, source: Address, request: Request) -> None:
        """Accept a request, or keep it until that is possible again."""
        if source != request.client:
            self.ignore("request that names another client")
        elif self.accepting:
            self.accept(request)
        elif not self.held.add(request):
            self.ignore("request beyond max_held_requests")

    def accept_held(self) -> None:
        """Accept, as if it arrived now, what was rolled back and has no place any more, and then what has been kept meanwhile."""
        self.accepting = True
        for request in self.held.take():
            self.accept(request)

    # Repair inside the view, and state transfer

    def repair(self, position: int, summary: bytes, source: Address) -> None:
        """Our log is not the committed one: get that, and append our own operations behind it."""
        self.port.report("repair", view=self.view, committed=self.committed, position=position)
        self.repairs += 1
        self.accepting = False
        self.transfer.begin(position, summary, source)

    def has_committed(self, position: int, summary: bytes, source: Address) -> bool:
        """Whether we have everything up to `position`, which is committed with that hash; if not, it is fetched, from `source` first."""
        if position <= self.committed:
            return True
        if self.state.log.matches(position, summary):
            self.state.commit_up_to(position)
            return True
        current = self.transfer.current
        if current is None or current.target > position:  # who alone knew of a later target may be gone
            self.transfer.begin(position, summary, source)
        return False

    def adopt(self, position: int, entries: Sequence[Request]) -> None:
        """Make the log, equal to the group's up to `position`, continue with exactly `entries`. What of ours is not among them waits."""
        self.held.put_before(self.state.adopt(position, entries), entries)

    def install(self, checkpoint: Checkpoint) -> None:
        """Make the log begin with a checkpoint. Our own requests wait: they may be behind it, or in it."""
        self.held.put_before(self.state.install(checkpoint), ())

    def on_transferred(self, source: Address) -> None:
        """The committed entries that were being fetched are in the log: go on with what they were for."""
        if self.views.status is Status.NORMAL:
            self.accept_held()
            self.on_repaired()
        else:
            self.views.go_on(source)

    def session_numbers(self, votes: Mapping[int, DoViewChange]) -> dict[tuple[int, int], int]:
        """The last request number of each session slot in the latest votes, as the session table stood at the base of the merge."""
        _, base, _ = settled(votes)
        newest = latest(votes).values()
        candidates = [request for vote in newest for request in vote.entries]
        return self.state.numbers_at(base, candidates, since=min(vote.committed for vote in newest))

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
                if self.admission.phase is Phase.RECOVERING and isinstance(message, PeerMessage):
                    self._hear(source, message.incarnations)  # whoever knows another life of ours ignores what we ask
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
            "status": self.views.status.value if self.serving else self.admission.phase.value,
            "incarnations": list(self.incarnations),
            "checkpoints_installed": self.transfer.checkpoints_installed,
            "reconciliations": self.views.reconciliations,
            "view_changes": self.views.view_changes,
            "repairs": self.repairs,
            "held_requests": len(self.held),
            "absent": sorted(self.views.absent),
        }

    def snapshot(self) -> Any:
        """The whole state as canonical plain data. A subclass adds what `own_state` gives."""
        parts = {"admission": self.admission.snapshot(), "transfer": self.transfer.snapshot(), **self.views.snapshot()}
        fields = {"incarnations": self.incarnations, "accepting": self.accepting, "held": list(self.held)}
        return msgspec.to_builtins({**super().snapshot(), **fields, **parts, **self.own_state()})

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """What the protocol's own state adds to the snapshot."""

    def check_invariants(self) -> None:
        """What the docstrings promise."""
        super().check_invariants()
        self.views.check_invariants()
        assert self.accepting == (self.views.status is Status.NORMAL and self.transfer.current is None)
