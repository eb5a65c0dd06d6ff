"""Startup and recovery: how a replica comes into service at the first start of all replicas, or after it lost its state.

    first start   r ---Bootstrap(incarnation)---> all others ---BootstrapReply---> r        in service once all have replied

    lost state    r ---GetIncarnations----------> all others ---IncarnationsReply-> r       f+1 of them name an incarnation never used
                  r ---Recover(incarnation)-----> all others                                until a view admits it

A replica that lost its state must not answer as if it had never promised anything. Its incarnation tells its present start apart from
earlier ones. An incarnation has a number, which grows with each start, and random bits, in case two starts take the same number. The
replica comes back into service with the log of a view whose voters all knew of the new incarnation, and so of the loss.

(It is not enough to copy a log that a majority has: Michael, Ports, Sharma, Szekeres, "Recovering Shared Objects Without Stable Storage",
DISC 2017, show how published recovery protocols lose operations.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.group import RANDOM_BITS, Group, Status, new_incarnation, start_number
from stretto.replication.messages import Bootstrap, BootstrapReply, GetIncarnations, IncarnationsReply, Recover
from stretto.replication.part import Part
from stretto.replication.records import Known

_NONCE_BITS = 32
_FIRST = 1
_TICKS_PER_REPORT = 100
_PATIENT_TICKS = 10


class Startup(Part):
    """The part of a replica that brings it into service.

    - `bootstrapping`: whether this replica's incarnation, on disk too, is that of its first start. It took none after a loss of state.
    - `answered`: the members that have answered the question of the present status.
    - `installing`: the view whose log is about to be installed; -1 if there is none.

    Parameters: `on_first_start` is called when all members know of this replica's first start.
    """

    def __init__(self, group: Group, config: ClusterConfig, on_first_start: Callable[[], None]) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.bootstrapping = False
        self.answered: set[Address] = set()
        self.installing = -1
        self._on_first_start = on_first_start
        self._nonce = 0
        self._ticks = 0
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self.handlers = {
            Bootstrap: self.on_bootstrap,
            BootstrapReply: self.on_bootstrap_reply,
            GetIncarnations: self.on_get_incarnations,
            IncarnationsReply: self.on_incarnations_reply,
        }
        self.timers = {"startup": self.on_timer}

    def begin(self, bootstrap: bool) -> None:
        """Begin to come into service: by a first start, which may have been interrupted before, or by recovery after a loss of state."""
        if bootstrap or self.bootstrapping:
            self._bootstrap()
        else:
            self._recover()

    def _bootstrap(self) -> None:
        """Begin the first start, or go on with it. When all members know of it, no other first start of this replica can succeed."""
        self.group.change_status(Status.BOOTSTRAPPING)
        if not self.bootstrapping:
            self._take_incarnation(_FIRST)
        self._ask()
        self._count_replies()

    def _recover(self) -> None:
        group = self.group
        group.change_status(Status.LOST_STATE)
        if not group.peers:
            self.port.stop("a single replica that has lost its state has lost everything; --bootstrap starts anew, empty")
            return
        self._nonce = self.port.random.getrandbits(_NONCE_BITS)
        self._ask()

    def install(self, view: int) -> None:
        """The log of a view that admits this replica is about to be installed. From now on, only that brings it into service."""
        self.group.change_status(Status.RECOVERING)
        self.answered = set()
        self.installing = view

    def end(self) -> None:
        """The replica is in service."""
        self.port.cancel_timer("startup")

    # Incarnations

    def _take_incarnation(self, number: int) -> None:
        group = self.group
        incarnation = new_incarnation(number, self.port.random.getrandbits(RANDOM_BITS))
        group.learn_of(group.index, incarnation)
        if group.status is Status.BOOTSTRAPPING and self.port.durable:
            self.port.persist(Bootstrap(incarnation))
        self.port.report(group.status.value, incarnation=number)

    def learn(self, incarnations: tuple[int, ...]) -> None:
        """Learn which incarnations a peer knows. If it knows a higher one of this replica, take an incarnation that is higher still.

        Such an incarnation can only belong to a start that is over: either another start took the same number, or this replica, which is
        not in service yet, had not heard of it. Neither was in service when this replica asked. Peers ignore a replica with a lower
        incarnation, so this one needs a higher one. Its state stays as it was.
        """
        group, own = self.group, self.group.incarnation
        group.learn(incarnations)
        if group.incarnation == own:
            return
        if group.in_service and start_number(group.incarnation) > start_number(own):
            self.port.stop(f"replica {group.index} has been started again since this process was: there must be one of it")
        else:
            self._take_incarnation(start_number(group.incarnation) + 1)

    # Asking

    def _ask(self) -> None:
        group = self.group
        questions: dict[Status, Message] = {
            Status.BOOTSTRAPPING: Bootstrap(group.incarnation),
            Status.LOST_STATE: GetIncarnations(self._nonce),
            Status.RECOVERING: Recover(group.incarnations, self.installing),
        }
        for peer in group.peers:
            if peer not in self.answered:
                self.port.send(peer, questions[group.status])
        self.port.set_timer("startup", self._retransmit_ns)

    def on_timer(self) -> None:
        """Ask the members again that have not answered."""
        group = self.group
        self._ticks += 1
        if group.status is Status.BOOTSTRAPPING and self._ticks >= _PATIENT_TICKS:
            # A member that has not replied may have failed, while all others are in service. Then their view can admit this replica.
            group.send_to_peers(Recover(group.incarnations, self.installing))
        if self._ticks % _TICKS_PER_REPORT == 0:
            self.port.report("waits to come into service", status=group.status.value, answered=sorted(self.answered))
        self._ask()

    # The first start

    def on_bootstrap(self, source: Address, message: Bootstrap) -> None:
        """Reply with the incarnation in which the sender is known here: the one in the message, if it was not known before."""
        group = self.group
        if not group.incarnations[source]:
            group.learn_of(source, message.incarnation)
        self.port.send(source, BootstrapReply(group.incarnations[source], group.incarnation))

    def on_bootstrap_reply(self, source: Address, message: BootstrapReply) -> None:
        """Come into service when all know this replica in its incarnation. Stop if one of them knows it from an earlier start."""
        group = self.group
        if message.known != group.incarnation and self.bootstrapping:
            self.answered = set()
            return self._recover()  # this start is not the one that was said to be the first, by mistake
        if message.known != group.incarnation:
            return self.port.stop(
                f"replica {source} knows replica {group.index} from an earlier start, so this is not its first: start it without"
                " --bootstrap, to recover from the others; or end all replicas, and start all of them anew with --bootstrap"
            )
        group.learn_of(source, message.incarnation)
        self.answered.add(source)
        return self._count_replies()

    def _count_replies(self) -> None:
        if len(self.answered) == len(self.group.peers):
            self.answered = set()
            self.end()
            self._on_first_start()

    # Recovery

    def on_get_incarnations(self, source: Address, message: GetIncarnations) -> None:
        """Reply with the incarnations that are known here."""
        self.port.send(source, IncarnationsReply(message.nonce, self.group.incarnations))

    def on_incarnations_reply(self, source: Address, message: IncarnationsReply) -> None:
        """After f+1 answers, take a higher incarnation than any that has been in service: at least one of the f+1 members knew that."""
        group = self.group
        if message.nonce != self._nonce or len(message.incarnations) != group.n:
            return group.ignore("answer to an earlier question")
        group.learn(message.incarnations)
        self.answered.add(source)
        if len(self.answered) >= group.quorums.majority:
            self.answered = set()
            group.change_status(Status.RECOVERING)
            self._take_incarnation(max(start_number(group.incarnation), _FIRST) + 1)
            self._ask()
        return None

    # What is persisted

    def replay(self, record: Message) -> None:
        """See `Part`."""
        group = self.group
        if isinstance(record, Known):
            self.bootstrapping &= record.incarnations[group.index] == group.incarnation
            group.restore_incarnations(record.incarnations)
        elif isinstance(record, Bootstrap):
            self.bootstrapping = True

    def records(self) -> list[Message]:
        """See `Part`."""
        return [Known(self.group.incarnations)]

    # Watching

    def snapshot(self) -> Any:
        """See `Part`."""
        return [self.bootstrapping, sorted(self.answered), self.installing, self._nonce, self._ticks >= _PATIENT_TICKS]
