"""A replica: the group, the parts that every protocol shares, and the hooks that a protocol fills in.

    message ---> Gate ---> a part's handler
                   |
                   +-----> accept(request) ---> place(request)             a request that the log does not have yet
                                          +---> on_retransmission(...)     a request that the log has

A protocol subclasses `Replica`, adds parts of its own, and calls `begin` at the end of its `__init__`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from stretto.core.config import ClusterConfig, Limits
from stretto.core.node import Address, Message, Port
from stretto.core.protocol import Start
from stretto.core.state_machine import StateMachine, VersionedMachine
from stretto.replication.clock import ClusterClock
from stretto.replication.failure_detector import FailureDetector
from stretto.replication.forgetting import Forgetting
from stretto.replication.gate import Actions, Gate, Rules
from stretto.replication.group import Group, Status
from stretto.replication.merging import commit_base, latest
from stretto.replication.messages import CONFIGURATION, OPEN_SESSION, DoViewChange, OtherLife, Request
from stretto.replication.outcomes import OutcomeComparison
from stretto.replication.part import Handler, Part, Timer
from stretto.replication.pending import PendingRequests
from stretto.replication.records import Checkpoint, Committed, RolledBack
from stretto.replication.resumption import Resumption
from stretto.replication.sessions import SessionRecord, is_of_life
from stretto.replication.startup import Startup
from stretto.replication.state import ReplicatedState
from stretto.replication.transfer import StateTransfer
from stretto.replication.versions import Versions
from stretto.replication.view_change import ViewChange, ViewHooks

P = TypeVar("P", bound=Part)

DEFAULT_LIMITS = Limits()

_STATE_RECORDS = (Request, RolledBack, Committed, Checkpoint)


class Replica(ABC):
    """The base of every protocol's replica.

    - `group`: the members, the view and the status. `state`: log, sessions and state machine. `pending`: requests that wait.
    - `startup`, `view_change`, `transfer`, `detector`: the parts that every protocol shares; `parts` has the protocol's own too.
    - `on_message`: the gate, which the host calls directly.
    """

    rules: ClassVar[Rules]
    """The protocol's table of which message counts; see `stretto.replication.gate`."""

    repeats: ClassVar[bool] = False
    """Whether the log may have a request more than once; see `ReplicatedState`."""

    on_message: Callable[[Address, Any], None]

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine) -> None:
        limits = config.limits
        self.port = port
        self.config = config
        self.group = group = Group(port, config, index)
        versioned = isinstance(machine, VersionedMachine)
        max_sessions = DEFAULT_LIMITS.max_sessions if versioned else limits.max_sessions  # what the file says comes by the log
        self.state = ReplicatedState(machine, max_sessions, limits.checkpoint_operations, self.repeats)
        self.state.clock = self.now_ns
        self.pending = PendingRequests(limits.max_pending_requests, self._arrive)
        self.parts: list[Part] = []
        self.startup = self.add(Startup(group, config, self._on_life_known, self._on_first_start))
        self.clock = self.add(ClusterClock(group, config))
        self.forgetting = self.add(Forgetting(group, self.state, config))
        self.transfer = self.add(StateTransfer(group, self.state, self.pending, self.forgetting, config, self._on_transferred))
        self.outcomes = self.add(OutcomeComparison(group, self.state, self.transfer, config, self._suspect_leader))
        self.resumption = self.add(Resumption(group, config, self._resume))
        hooks = ViewHooks(
            merge=self.merge,
            matched=self.matched_in_last_view,
            left=self._leave_view,
            adopted=self._on_log_adopted,
            entered=self._enter_view,
            begun=self._begin_view,
            awaits_configuration=self._awaits_configuration,
            placed=self.on_placed,
            committed=self.on_committed,
        )
        self.view_change = self.add(
            ViewChange(group, self.state, self.pending, self.transfer, self.startup, self.outcomes, self.forgetting, config, hooks)
        )
        self.versions = self.add(Versions(group, self.state, self.view_change, config))
        self.detector = self.add(FailureDetector(group, config, self.view_change.suspect_leader, self.view_change.on_busy))

    def add(self, part: P) -> P:
        """Add a part. The parts are informed of events in the order in which they were added."""
        self.parts.append(part)
        return part

    # What a protocol fills in

    @abstractmethod
    def place(self, request: Request) -> None:
        """Do what the protocol does with a client's request that the log does not have yet. The replica is NORMAL."""

    @abstractmethod
    def on_retransmission(self, request: Request, record: SessionRecord) -> None:
        """A request has come that the log has already. It is its session's last request; `record` is the session's record."""

    @abstractmethod
    def answer(self, request: Request, position: int, result: bytes | None) -> None:
        """Send the client its request's position in the log, and the result."""

    @abstractmethod
    def merge(self, votes: Mapping[int, DoViewChange]) -> Sequence[Request]:
        """Merge exactly f+1 votes. Returns the entries after the commit base with which our view starts. Our log is committed up to it."""

    def matched_in_last_view(self) -> int:
        """The position up to which our log is known to be that of our last view's leader. By default the committed position."""
        return self.state.committed

    def on_placed(self, first: int, last: int) -> None:  # noqa: B027, a hook that not every protocol needs
        """The view starts with the entries from `first` to `last` at these positions. For a protocol that tells its clients."""

    def on_committed(self, first: int, last: int) -> None:  # noqa: B027, likewise
        """We lead, and a majority has the entries from `first` to `last`. For a protocol that tells its clients."""

    # Beginning

    def begin(self, start: Start) -> None:
        """Begin to come into service: replay what an earlier start persisted, and persist changes from now on."""
        handlers: dict[type[Message], Handler] = {}
        self._timers: dict[str, Timer] = {}
        for part in self.parts:
            assert not handlers.keys() & part.handlers.keys(), "two parts handle one message"
            handlers |= part.handlers
            self._timers |= part.timers
        actions = Actions(
            accept=self.accept,
            keep=self.keep,
            pass_over=self.pass_over,
            ask=self.view_change.ask_for_start_view,
            answer=self.view_change.offer_start_view,
            join=self.view_change.join,
            learn=self.startup.learn,
            hear=self.detector.hear,
        )
        clients_from = self.group.n + len(self.config.sequencers)
        self.on_message = Gate(self.group, self.rules, handlers, clients_from, actions).on_message
        for record in start.records:
            self._replay(record)
        self.state.on_checkpoint = self.outcomes.tell_checkpoint
        if self.port.durable:
            self.state.persist = self.port.persist
            self.state.compact = self._compact
        self.clock.begin()
        if not self.view_change.has_entered:
            self.startup.begin(start.bootstrap, start.first)
        elif start.written is None or not self.group.peers:
            self._resume()
        else:
            self.resumption.begin(start.written)

    def _replay(self, record: Message) -> None:
        if isinstance(record, _STATE_RECORDS):
            self.state.replay(record)
        for part in self.parts:
            part.replay(record)

    def records(self) -> list[Message]:
        """The records that restore this replica's state when they are replayed."""
        others = (record for part in self.parts if part is not self.startup for record in part.records())
        return [*self.startup.records(), *self.state.records(), *others]  # the life of the cluster is in the first hash of the log

    def _compact(self) -> None:
        self.port.compact(self.records())

    def now_ns(self) -> int:
        """The time in nanoseconds."""
        return self.port.now_ns

    def on_timer(self, name: str) -> None:
        """Give a timer to its part."""
        self._timers[name]()

    # Requests

    def accept(self, request: Request) -> None:
        """Take a client's request as it arrives: each takes effect at most once, in the order of its session's numbers."""
        if request.time_ns > self.clock.limit_ns and not self.clock.allows(request.time_ns):
            return self.group.ignore("stamped far ahead of the cluster's time")
        record = self.state.sessions.records.get(request.session)
        if record is not None and request.number > record.number:
            return self.place(request)  # nearly always; the session of another client refuses it at its position
        record = self.state.sessions.record_for(request)
        if record is None and self.tell_of_other_life(request):
            return None
        if record is None or request.number > record.number:
            self.place(request)
        elif request.number < record.number:
            self.group.ignore("superseded request")
        else:
            self.on_retransmission(request, record)
        return None

    def _arrive(self, request: Request) -> None:
        """Take a pending request as if it arrived now."""
        self.on_message(request.client, request)

    def keep(self, request: Request) -> None:
        """Keep a request until it can be appended, if there is room."""
        if not self.pending.add(request):
            self.group.ignore("request beyond max_pending_requests")

    def pass_over(self, request: Request) -> None:
        """A request has come that is for the leader, and we do not lead."""
        if not self.tell_of_other_life(request):
            self.group.ignore("not the leader")

    def tell_of_other_life(self, request: Request) -> bool:
        """If a request is of another life of the cluster, tell its client. It believes f+1 replicas. Returns whether it is."""
        session = request.session
        if session == OPEN_SESSION or is_of_life(session, self.group.life):
            return False
        self.port.send(request.client, OtherLife(session, request.number))
        return True

    def answer_range(self, first: int, last: int) -> None:
        """Answer the clients of the entries from position `first` to `last`."""
        state = self.state
        for position in range(first, last + 1):
            request = state.log.entry_at(position)
            if request.session != CONFIGURATION:
                self.answer(request, position, state.result_at(position))

    def session_numbers(self, votes: Mapping[int, DoViewChange]) -> dict[tuple[int, int], int]:
        """The last request number of each session slot in the latest votes, by the session table at the commit base of the merge."""
        _, base, _ = commit_base(votes)
        newest = latest(votes).values()
        candidates = [request for vote in newest for request in vote.entries]
        return self.state.numbers_at(base, candidates, since=min(vote.committed for vote in newest))

    # What the parts tell each other

    def _resume(self) -> None:
        self.view_change.resume()

    def _on_life_known(self) -> None:
        self.state.begin_life(self.group.life)

    def _suspect_leader(self) -> None:
        self.detector.suspect()

    def _on_first_start(self) -> None:
        self.view_change.enter_first()

    def _on_transferred(self, source: Address) -> None:
        """The committed entries that were being fetched are in the log: go on with what needed them."""
        if self.group.status is Status.REPAIRING:
            self.group.change_status(Status.NORMAL)
            self.pending.accept_all()
            for part in self.parts:
                part.on_repaired()
        else:
            self.view_change.go_on(source)

    def _on_log_adopted(self) -> None:
        for part in self.parts:
            part.on_log_adopted()

    def _awaits_configuration(self) -> bool:
        return self.versions.wants_another

    def _enter_view(self) -> None:
        for part in self.parts:
            part.enter_view()

    def _begin_view(self) -> None:
        for part in self.parts:
            part.begin_view()

    def _leave_view(self) -> None:
        for part in self.parts:
            part.leave_view()

    # Watching; see `stretto.core.node.Replica`

    @property
    def view(self) -> int:
        """The view that it is in, or tries to enter."""
        return self.group.view

    @property
    def leader(self) -> int:
        """The replica that leads the view."""
        return self.group.leader

    def metrics(self) -> dict[str, Any]:
        """Counters and gauges."""
        group, state = self.group, self.state
        metrics = {
            "status": group.status.value,
            "in_service": group.in_service,
            "view": group.view,
            "leader": group.leader,
            "incarnations": list(group.incarnations),
            "last_position": state.log.last,
            "committed": state.committed,
            "log_start": state.log.start,
            "checkpoint_bytes": 0 if state.checkpoint is None else len(state.checkpoint.state),
            "longest_checkpoint_pause_us": state.longest_pause_ns / 1_000,
            "sessions": len(state.sessions.records),
            "pending_requests": len(self.pending),
            "rolled_back_operations": state.rolled_back_operations,
            "ignored_messages": dict(group.ignored),
        }
        for part in self.parts:
            metrics |= part.metrics()
        return metrics

    def snapshot(self) -> Any:
        """The whole state as canonical plain data."""
        log = self.state.log
        snapshot = {
            "group": self.group.snapshot(),
            "committed": self.state.committed,
            "committed_in_view": self.state.committed_in_view,
            "agreement": self.state.agreement,
            "checkpoints": self.state.checkpoint_positions(),
            "log": [log.start, [log.hash_at(position) for position in range(log.start, log.last + 1)]],
            "pending": list(self.pending),
            **self.state.snapshot(),
            "parts": [part.snapshot() for part in self.parts],
        }
        return msgspec.to_builtins(snapshot)

    def check_invariants(self) -> None:
        """Raise AssertionError if the state contradicts the docstrings."""
        self.state.check_invariants()
        for part in self.parts:
            part.check_invariants()
