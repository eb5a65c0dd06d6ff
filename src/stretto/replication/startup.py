"""Startup and recovery: how a replica comes into service at the first start of all replicas, or after it lost its state.

    first start   r ---Bootstrap(incarnation)---> all others ---BootstrapReply---> r        in service once all n name the same n firsts

    lost state    r ---GetIncarnations----------> all others ---IncarnationsReply-> r       f+1 of them name an incarnation never used
                  r ---Recover(incarnation)-----> all others                                until a view admits it

A replica that lost its state must not answer as if it had never promised anything. Its incarnation tells its present start apart from
earlier ones. An incarnation has a number, which grows with each start, and random bits, in case two starts take the same number. The
replica comes back into service with the log of a view whose voters all knew of the new incarnation, and so of the loss.

A first start happens once. Each replica collects the first incarnations of all n, says all of them to the others, and never says other
ones. The first start is complete when all n have said the same. They name this *life* of the cluster, and are in the hash at position 0.
So no replica can be taken for new that has lived before: whoever has been in service knows its first incarnation, and says so. A first
incarnation is learnt only from an answer to one's own question, so packets of an earlier life teach nothing.

(It is not enough to copy a log that a majority has: Michael, Ports, Sharma, Szekeres, "Recovering Shared Objects Without Stable Storage",
DISC 2017, show how published recovery protocols lose operations.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.group import FIRST, HAS_STATE, RANDOM_BITS, Group, Status, new_incarnation, start_number
from stretto.replication.messages import Bootstrap, BootstrapReply, GetIncarnations, IncarnationsReply, Recover
from stretto.replication.part import Part
from stretto.replication.records import Known

_NONCE_BITS = 32
_TICKS_PER_REPORT = 100
_PATIENT_TICKS = 10


class Startup(Part):
    """The part of a replica that brings it into service.

    - `bootstrapping`: whether this replica's incarnation, on disk too, is that of its first start. It took none after a loss of state.
    - `answered`: the members that have answered the question of the present status.
    - `told`: in status LOST_STATE, the answers.
    - `installing`: the view whose log is about to be installed; -1 if there is none.

    Parameters: `on_life_known` is called when the first incarnations of all members are known; `on_first_start` when all members have said
    so.
    """

    def __init__(self, group: Group, config: ClusterConfig, on_life_known: Callable[[], None], on_first_start: Callable[[], None]) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.bootstrapping = False
        self._is_said_to_be_first = False
        self.answered: set[Address] = set()
        self.told: dict[Address, IncarnationsReply] = {}
        self.installing = -1
        self._on_life_known = on_life_known
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

    def begin(self, bootstrap: bool, first: tuple[int, ...] | None) -> None:
        """Begin to come into service: by a first start, which may have been interrupted before, or by recovery after a loss of state.

        `first`: the first incarnations of all members, if an earlier start of this replica has been in service. Then this is no first
        start, whatever its start line says.
        """
        if first is not None and not self.group.life:
            self._set_first(first)
            bootstrap = False
        self._is_said_to_be_first = bootstrap
        if bootstrap or self.bootstrapping:
            self._bootstrap()
        else:
            self._recover()

    def _bootstrap(self) -> None:
        """Begin the first start, or go on with it. When all members know of it, no other first start of this replica can succeed."""
        group = self.group
        group.change_status(Status.BOOTSTRAPPING)
        if not self.bootstrapping:
            self._take_incarnation(FIRST)
        self._nonce = self.port.random.getrandbits(_NONCE_BITS)
        self._ask()
        self._count_replies()

    def _recover(self) -> None:
        group = self.group
        group.change_status(Status.LOST_STATE)
        if not group.peers:
            self.port.stop(
                "a single replica that has lost its state has lost everything; --bootstrap starts anew, empty, once its identity, if it has"
                " one, is removed"
            )
            return
        self._nonce = self.port.random.getrandbits(_NONCE_BITS)
        self.told = {}
        self._ask()

    def install(self, view: int) -> None:
        """The log of a view that admits this replica is about to be installed. From now on, only that brings it into service."""
        self.group.change_status(Status.RECOVERING)
        self.answered = set()
        self.installing = view

    def end(self) -> None:
        """The replica is in service."""
        self.port.cancel_timer("startup")
        self.port.identify(self.group.first)

    # Incarnations

    def _set_first(self, first: tuple[int, ...]) -> None:
        group = self.group
        was_known = group.life != b""
        group.set_first(first)
        if group.life and not was_known:
            self._on_life_known()

    def _take_incarnation(self, number: int) -> None:
        group = self.group
        incarnation = new_incarnation(number, group.life, self.port.random.getrandbits(RANDOM_BITS))
        if group.status is Status.BOOTSTRAPPING:
            self._set_first(tuple(incarnation if member == group.index else 0 for member in range(group.n)))
            if self.port.durable:
                self.port.persist(Bootstrap(0))
        else:
            group.learn_of(group.index, incarnation)
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
            Status.BOOTSTRAPPING: Bootstrap(self._nonce),
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
            self.port.report("waits to come into service", status=group.status.value, **self._what_is_lacking())
        self._ask()

    def _what_is_lacking(self) -> dict[str, Any]:
        """For people who wonder why a replica does not come into service."""
        group = self.group
        if group.status is not Status.LOST_STATE:
            return {"answered": sorted(self.answered)}
        witnesses = sorted(peer for peer, told in self.told.items() if told.has_state)
        if len(self.told) - len(witnesses) + 1 <= group.quorums.f:
            return {"answered": sorted(self.told), "with_state": witnesses, "needed": group.quorums.majority}
        reason = (
            "a majority has lost its state, and with it what was stored; to start anew, empty: end all replicas, remove their identities,"
            " and start them with --bootstrap"
        )
        return {"answered": sorted(self.told), "with_state": witnesses, "needed": group.quorums.majority, "reason": reason}

    # The first start

    def on_bootstrap(self, source: Address, message: Bootstrap) -> None:
        """Tell the sender what is known here. Nothing is learnt from the question: it may come from an earlier life of the cluster."""
        group = self.group
        self.port.send(source, BootstrapReply(message.nonce, group.first, group.incarnations))

    def on_bootstrap_reply(self, source: Address, message: BootstrapReply) -> None:
        """Come into service when all name the same first incarnations. If one of them knows this replica otherwise, it is not new."""
        group, n, index = self.group, self.group.n, self.group.index
        if message.nonce != self._nonce or len(message.first) != n or len(message.incarnations) != n:
            return group.ignore("answer to an earlier question")
        if {message.first[index], message.incarnations[index]} - {0, group.incarnation}:
            return self._refuse(source)
        if all(message.first):
            if group.life and message.first != group.first:
                return self.port.stop(
                    f"replica {source} knows other first starts of the replicas than this one, which some of them cannot have forgotten:"
                    " end all replicas, and start all of them anew with --bootstrap"
                )
            self.answered.add(source)
        former = group.first
        self._learn_first(source, message.first)
        if group.is_of_this_life(message.incarnations):
            group.learn(message.incarnations)
        if group.first != former:
            self._ask()  # the others may know more by now, too
        return self._count_replies()

    def _learn_first(self, source: Address, first: tuple[int, ...]) -> None:
        """Learn first incarnations from another replica, unless all are known here: then they have been said, and cannot change.

        One who knows all has said so, too. Otherwise a replica knows its own best: it may have been started again meanwhile.
        """
        if self.group.life:
            return
        if not all(first):
            known = zip(self.group.first, first, strict=True)
            first = tuple(theirs if member == source else ours or theirs for member, (ours, theirs) in enumerate(known))
        self._set_first(first)

    def _refuse(self, source: Address) -> None:
        """This replica has lived before: stop if it was started with --bootstrap, by mistake, and recover if not."""
        group = self.group
        if not self._is_said_to_be_first:
            self.bootstrapping = False
            self.answered = set()
            group.set_first((0,) * group.n)
            return self._recover()
        return self.port.stop(
            f"replica {source} knows replica {group.index} from an earlier start, so this is not its first: start it without"
            " --bootstrap, to recover from the others; or end all replicas, and start all of them anew with --bootstrap"
        )

    def _count_replies(self) -> None:
        group = self.group
        if group.life and len(self.answered) == len(group.peers):
            self.answered = set()
            self.end()
            self._on_first_start()

    # Recovery

    def on_get_incarnations(self, source: Address, message: GetIncarnations) -> None:
        """Reply with the incarnations that are known here."""
        group = self.group
        if group.status is Status.BOOTSTRAPPING:  # the sender was started again: what its former process answered no longer counts
            self._nonce = self.port.random.getrandbits(_NONCE_BITS)
        self.port.send(source, IncarnationsReply(message.nonce, group.first, group.incarnations, group.status in HAS_STATE))

    def on_incarnations_reply(self, source: Address, message: IncarnationsReply) -> None:
        """Keep the answer, and see whether it is enough."""
        group, n = self.group, self.group.n
        if message.nonce != self._nonce or len(message.first) != n or len(message.incarnations) != n:
            return group.ignore("answer to an earlier question")
        self.told[source] = message
        witnesses = [told for told in self.told.values() if told.has_state]
        if len(witnesses) < group.quorums.majority:
            return None
        complete = next((told.first for told in witnesses if all(told.first)), None)
        if complete is not None:
            return self._take_next_incarnation(witnesses, complete)
        if len(self.told) == len(group.peers) and not any(told.first[group.index] for told in self.told.values()):
            self._bootstrap()  # the first start is not complete, and nobody knows an earlier start of this replica
        return None

    def _take_next_incarnation(self, witnesses: list[IncarnationsReply], first: tuple[int, ...]) -> None:
        """After f+1 answers, take a higher incarnation than any that has been in service: at least one of the f+1 members knew that.

        Once a first start is complete, all replicas that have not lost their state know all first incarnations, and at least one of f+1
        has not. So an answer that lacks some, or names others, is of a replica that was started with --bootstrap by mistake.
        """
        group = self.group
        if not group.life:
            self._set_first(first)
        others = [told for told in witnesses if all(told.first) and told.first != group.first]
        if len(others) >= group.quorums.majority:
            return self.port.stop(
                "the others are of another life of the cluster, which was started anew since: remove this replica's identity or data, and"
                " start it without --bootstrap, to recover from them"
            )
        witnesses = [told for told in witnesses if told.first == group.first]
        if len(witnesses) < group.quorums.majority:
            return group.ignore("answer of another life of the cluster")
        for told in witnesses:
            if group.is_of_this_life(told.incarnations):
                group.learn(told.incarnations)
        group.change_status(Status.RECOVERING)
        self._take_incarnation(max(start_number(group.incarnation), FIRST) + 1)
        return self._ask()

    # What is persisted

    def replay(self, record: Message) -> None:
        """See `Part`."""
        group = self.group
        if isinstance(record, Known):
            self.bootstrapping &= record.incarnations[group.index] == group.incarnation
            was_known = group.life != b""
            group.restore_members(record.incarnations, record.first)
            if group.life and not was_known:
                self._on_life_known()
        elif isinstance(record, Bootstrap):
            self.bootstrapping = True

    def records(self) -> list[Message]:
        """See `Part`."""
        return [Known(self.group.incarnations, self.group.first)]

    # Watching

    def snapshot(self) -> Any:
        """See `Part`."""
        return [
            self.bootstrapping,
            self._is_said_to_be_first,
            sorted(self.answered),
            sorted(self.told.items()),
            self.installing,
            self._nonce,
            self._ticks >= _PATIENT_TICKS,
        ]
