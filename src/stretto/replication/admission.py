"""Admission: how a replica comes into service, together with all others at their first start, or alone after it has lost its memory.

    first start     r ---Bootstrap(incarnation)---> all others ---BootstrapReply---> r        served once all have replied

    without memory  r ---GetIncarnations----------> all others ---IncarnationsReply-> r       f+1 of them name an incarnation never used
                    r ---Recover(incarnation)-----> all others                                 until the protocol lets it in

A replica that lost its memory must not answer as if it had never promised anything. An incarnation tells its present life from those
before: a number that grows with each life, and random bits, should two lives have come to the same number. The protocol admits it
with a log for which everyone who had a vote knew of the new incarnation, and so of the loss.

(Why not simply copy a log that a majority has: Michael, Ports, Sharma, Szekeres, "Recovering Shared Objects Without Stable Storage",
DISC 2017, show how published recovery protocols lose operations.)
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Message
from stretto.replication.messages import Bootstrap, BootstrapReply, GetIncarnations, IncarnationsReply, Recover

if TYPE_CHECKING:
    from stretto.replication.peer import PeerReplica

_RANDOM_BITS = 32
_FIRST = 1
_TICKS_PER_REPORT = 100
_PATIENT_TICKS = 10


def life(incarnation: int) -> int:
    """Which life of its replica an incarnation is: 1 for the first, 0 for one that is not known."""
    return incarnation >> _RANDOM_BITS


class Phase(Enum):
    """BOOTSTRAPPING: the first life, until all know of it. ASKING: without memory and without an incarnation. RECOVERING: with one."""

    BOOTSTRAPPING = "bootstrapping"
    ASKING = "asking"
    RECOVERING = "recovering"
    SERVING = "serving"


class Admission:
    """The part of a replica that brings it into service.

    - `phase`: the replica has its memory, and may speak of it, while BOOTSTRAPPING and SERVING.
    - `bootstrapping`: what is on disk is of a first life, and of its latest incarnation: none that was taken without memory.
    - `answered`: who has answered the question of this phase.
    - `installing`: the view whose log the replica is about to install; -1 if there is none.
    """

    def __init__(self, replica: PeerReplica, config: ClusterConfig) -> None:
        self.replica = replica
        self.port = replica.port
        self.phase = Phase.ASKING
        self.bootstrapping = False
        self.answered: set[Address] = set()
        self.installing = -1
        self._nonce = 0
        self._ticks = 0
        self._retransmit_ns = config.timeouts.ns("retransmit")

    def bootstrap(self) -> None:
        """Begin the first life, or go on with it. It acts when all know of it: then no other first life of this replica can begin."""
        self.phase = Phase.BOOTSTRAPPING
        if not self.bootstrapping:
            self._take_incarnation(_FIRST)
        self._ask()
        self._judge_bootstrap()

    def recover(self) -> None:
        """Begin a life without memory."""
        replica = self.replica
        if not replica.peers:
            return self.port.stop("a single replica that has lost its memory has lost everything; --bootstrap starts anew, empty")
        self.phase = Phase.ASKING
        self._nonce = self.port.random.getrandbits(_RANDOM_BITS)
        return self._ask()

    def install(self, view: int) -> None:
        """The log of a view that lets us in is about to be installed: nothing else will bring us into service any more."""
        self.phase = Phase.RECOVERING
        self.answered = set()
        self.installing = view

    def complete(self) -> None:
        """The replica is in service."""
        self.phase = Phase.SERVING
        self.port.cancel_timer("admission")

    def _take_incarnation(self, number: int) -> None:
        incarnation = number << _RANDOM_BITS | self.port.random.getrandbits(_RANDOM_BITS)
        self.replica.learn_incarnation(self.replica.index, incarnation)
        if self.phase is Phase.BOOTSTRAPPING and self.port.durable:
            self.port.persist(Bootstrap(incarnation))
        self.port.report(self.phase.value, incarnation=number)

    def take_later_incarnation(self) -> None:
        """Somebody knows a later life of ours than this one, that never came back: begin one that is later still."""
        self._take_incarnation(life(self.replica.incarnation) + 1)

    def _ask(self) -> None:
        replica = self.replica
        questions: dict[Phase, Message] = {
            Phase.BOOTSTRAPPING: Bootstrap(replica.incarnation),
            Phase.ASKING: GetIncarnations(self._nonce),
            Phase.RECOVERING: Recover(replica.incarnations, self.installing),
        }
        for peer in replica.peers:
            if peer not in self.answered:
                self.port.send(peer, questions[self.phase])
        self.port.set_timer("admission", self._retransmit_ns)

    def on_timer(self) -> None:
        """Ask again those who have not answered."""
        self._ticks += 1
        if self.phase is Phase.BOOTSTRAPPING and self._ticks >= _PATIENT_TICKS:
            # Perhaps all others serve, and one that has not replied is dead by now. Then their view takes us in as it knows us.
            self.replica.send_to_peers(Recover(self.replica.incarnations, self.installing))
        if self._ticks % _TICKS_PER_REPORT == 0:
            self.port.report("waits for admission", phase=self.phase.value, answered=sorted(self.answered))
        self._ask()

    # The first start

    def on_bootstrap(self, source: Address, message: Bootstrap) -> None:
        """Say in which incarnation we know the other; in this one, if in none so far."""
        replica = self.replica
        if self.phase is Phase.ASKING:
            return replica.ignore("without an incarnation")
        if not replica.incarnations[source]:
            replica.learn_incarnation(source, message.incarnation)
        return self.port.send(source, BootstrapReply(replica.incarnations[source], replica.incarnation))

    def on_bootstrap_reply(self, source: Address, message: BootstrapReply) -> None:
        """Begin when all know us as we are; give up if somebody knows us from before."""
        replica = self.replica
        if self.phase is not Phase.BOOTSTRAPPING:
            return replica.ignore("answer to an earlier question")
        if message.known != replica.incarnation and self.bootstrapping:
            self.answered = set()
            return self.recover()  # this start is not the one that was said to be the first, by mistake
        if message.known != replica.incarnation:
            return self.port.stop(
                f"replica {source} knows replica {replica.index} from an earlier start, so this is not its first: start it without"
                " --bootstrap, to recover from the others; or end all replicas, and start all of them anew with --bootstrap"
            )
        if message.incarnation > replica.incarnations[source]:
            replica.learn_incarnation(source, message.incarnation)
        self.answered.add(source)
        return self._judge_bootstrap()

    def _judge_bootstrap(self) -> None:
        if len(self.answered) == len(self.replica.peers):
            self.answered = set()
            self.complete()
            self.replica.views.enter_first()

    # Recovery

    def on_get_incarnations(self, source: Address, message: GetIncarnations) -> None:
        """Tell what we know, if we have our memory."""
        if self.phase in (Phase.BOOTSTRAPPING, Phase.SERVING):
            self.port.send(source, IncarnationsReply(message.nonce, self.replica.incarnations))
        else:
            self.replica.ignore("asks one that has no memory either")

    def on_incarnations_reply(self, source: Address, message: IncarnationsReply) -> None:
        """With f+1 answers, take an incarnation that is later than any that has been in service: one of the f+1 knows it."""
        replica = self.replica
        if self.phase is not Phase.ASKING or message.nonce != self._nonce or len(message.incarnations) != replica.n:
            return replica.ignore("answer to an earlier question")
        replica.learn(message.incarnations)
        self.answered.add(source)
        if len(self.answered) >= replica.quorums.majority:
            self.answered = set()
            self.phase = Phase.RECOVERING
            self._take_incarnation(max(life(replica.incarnation), _FIRST) + 1)
            self._ask()
        return None

    # Watching

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return [self.phase.value, sorted(self.answered), self.installing, self._nonce]
