"""Outcomes: whether replicas with equal logs have equal states.

Equal hashes mean equal logs. They do not mean equal states: a service may use what replicas do not share, its code may differ, and memory
may be damaged. So each replica has an *outcome digest* beside the hash: at every position, a checksum of all results up to there.

    a follower that acknowledges a position tells the leader its outcome there; a leader tells the outcome on which f+1 agree
    on another outcome at an equal position and hash:     r ---CompareOutcomes---> all ---Outcomes---> all

The log commits by hashes alone: unequal outcomes begin no view and no repair. But no single answer completes a client's call unless f+1
replicas, the one that answers among them, agree about its outcome. Replicas that differ look for the first position at which they do. One
that f+1 others contradict stops; without such a majority nobody stops, since nobody knows who is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.replication.group import Group
from stretto.replication.messages import CompareOutcomes, Outcomes, StateDigest
from stretto.replication.part import Part
from stretto.replication.quorums import reached_by
from stretto.replication.state import ReplicatedState
from stretto.replication.transfer import StateTransfer

Value = TypeVar("Value", bound=Hashable)

_ALL = 1 << 62
"""A position that no log reaches."""

_STEPS = 16
"""How many positions are compared at a time, to find the first one that differs."""

_ATTEMPTS = 5
"""How often a question is repeated before the replicas decide by the answers that have come."""

_MOST_PATIENCE = 512

_SHOWN_BYTES = 48
"""How much of an operation and of its results is shown."""

_KEPT_DIGESTS = 4
"""Of how many checkpoints the digests that other replicas have told are kept."""


class OutcomeComparison(Part):
    """The part of a replica that compares its outcomes with those of the others.

    - `heard`: by member, the incarnation in which it spoke, and the position, with our hash there, up to which its outcomes are ours.
    - `question`, `answers`: the positions that are being compared, and what each member has there, this one included.
    - `patience`: how long no comparison begins after one that decided nothing, in retransmission times. It doubles each time, so that
      replicas that wait for a third one do not ask without end.
    - `differing`: members that f+1 replicas, this one among them, have contradicted, each with its incarnation then.
    - `told`: by position, the digests of the other replicas' checkpoints there.

    Parameters: `on_leader_differs` is called when f+1 replicas, this one among them, have contradicted the leader.
    """

    def __init__(
        self, group: Group, state: ReplicatedState, transfer: StateTransfer, config: ClusterConfig, on_leader_differs: Callable[[], None]
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.transfer = transfer
        self.heard: dict[int, tuple[int, int, bytes]] = {}
        self.question: CompareOutcomes | None = None
        self.answers: dict[int, Outcomes] = {}
        self.differing: dict[int, int] = {}
        self.told: dict[int, dict[int, StateDigest]] = {}
        self.patience = 1
        self._attempts = 0
        self._resting_until_ns = 0
        self._on_leader_differs = on_leader_differs
        self._retransmit_ns = config.timeouts.ns("retransmit")
        self.handlers = {
            CompareOutcomes: self.on_compare_outcomes,
            Outcomes: self.on_outcomes,
            StateDigest: self.on_state_digest,
        }
        self.timers = {"outcomes": self.on_timer}

    def begin_view(self) -> None:
        """See `Part`. A group of one agrees with itself. A leader that was contradicted does not lead again."""
        if not self.group.peers:
            self.state.agree(_ALL)
        if self.differing:
            self.port.set_timer("outcomes", self._retransmit_ns)

    def leave_view(self) -> None:
        """See `Part`."""
        self.heard = {}

    # What members say with their acknowledgements

    def note(self, member: Address, incarnation: int, position: int, outcome: int) -> None:
        """A member, whose log is ours up to `position`, has this outcome there."""
        state = self.state
        if not state.log.start <= position <= state.executed:
            return None
        if state.outcome_at(position) != outcome:
            return self.compare(position)
        former = self.heard.get(member)
        if former is None or former[:2] < (incarnation, position):
            self.heard[member] = (incarnation, position, state.log.hash_at(position))
            heard = {peer: spoken for peer, (spoken, at, summary) in self.heard.items() if state.log.matches(at, summary)}
            state.agree(reached_by(self.group.quorums.f, [self.heard[voter][1] for voter in self.group.current_voters(heard)]))
        return None

    def agreed_outcome(self, position: int) -> int | None:
        """Our outcome at a position, if f+1 replicas agree about it; what a leader tells its followers."""
        return self.state.outcome_at(position) if self.state.log.start <= position <= self.state.agreed else None

    def learn(self, position: int, outcome: int | None) -> None:
        """The leader, whose log is ours up to `position`, says on which outcome f+1 replicas agree there; None if it does not know."""
        state = self.state
        if outcome is None or not max(state.log.start, state.agreed + 1) <= position <= state.executed:
            return
        if state.outcome_at(position) == outcome:
            state.agree(position)
        else:
            self.compare(position)

    # Finding the first difference

    def compare(self, position: int) -> None:
        """Another replica has another outcome at this position: ask all for theirs, unless that goes on already."""
        if self.question is None and self.port.now_ns >= self._resting_until_ns:
            self._ask(max(self.state.log.start, min(self.state.agreed, position - 1)), position)

    def _ask(self, low: int, high: int) -> None:
        group, log = self.group, self.state.log
        if not log.start <= high <= self.state.executed:
            self.question = None  # it was rolled back or compacted meanwhile
            return
        positions = tuple(sorted({low + (high - low) * step // _STEPS for step in range(_STEPS + 1)}))
        question = CompareOutcomes(group.incarnations, positions, log.hash_at(high))
        self._begin(question)
        group.send_to_peers(question)
        group.send_to_peers(self.answers[group.index])

    def _begin(self, question: CompareOutcomes) -> None:
        self.question = question
        self._attempts = 0
        self.answers = {self.group.index: self._own(question)}
        self.port.set_timer("outcomes", self._retransmit_ns)

    def _own(self, question: CompareOutcomes) -> Outcomes:
        state, positions = self.state, question.positions
        has = [state.log.start <= position <= state.executed for position in positions]
        values = tuple(state.outcome_at(place) if there else None for place, there in zip(positions, has, strict=True))
        last = positions[-1]
        result = state.result_at(last) if last > state.log.start else None
        shown = None if result is None else result[:_SHOWN_BYTES]
        return Outcomes(self.group.incarnations, positions, question.hash, values, self.transfer.copied_from, shown)

    def on_compare_outcomes(self, source: Address, message: CompareOutcomes) -> None:
        """Tell all members our outcomes at these positions, if our log is the one that is asked about."""
        positions = message.positions
        if not positions or len(positions) > _STEPS + 1 or list(positions) != sorted(set(positions)):
            return self.group.ignore("a comparison of no positions")
        if not self.state.log.matches(positions[-1], message.hash):
            return self.group.ignore("a comparison with another log")
        if self.question is None or _span(message) < _span(self.question):
            self._begin(message)  # whoever asked repeats the question if need be
        return self.group.send_to_peers(self._own(message))

    def on_outcomes(self, source: Address, message: Outcomes) -> None:
        """Take a member's outcomes, and see whether they are enough."""
        question = self.question
        if question is None or (message.positions, message.hash) != (question.positions, question.hash):
            return self.group.ignore("outcomes that are not compared now")
        if len(message.values) != len(message.positions):
            return self.group.ignore("outcomes that are not compared now")
        self.answers[source] = message
        if len(self.answers) == self.group.n:
            self._judge(asks=self.group.index == 0)  # one question is enough
        return None

    def on_timer(self) -> None:
        """Ask again those that have not answered. After some time, decide without them."""
        question = self.question
        if question is None:
            return self._suspect_leader_that_differs()
        self._attempts += 1
        if self._attempts >= _ATTEMPTS:
            self._judge(asks=True)
        else:
            self.port.set_timer("outcomes", self._retransmit_ns)
            for peer in self.group.peers:
                if peer not in self.answers:
                    self.port.send(peer, question)
        return None

    def _judge(self, asks: bool) -> None:
        """Narrow the interval down to the first difference; then decide. `asks`: whether this replica asks the next question, if any."""
        question = self.question
        assert question is not None
        positions = question.positions
        first = next((step for step in range(len(positions)) if len(self._values(step)) > 1), None)
        if first is None:
            self.question = None  # whoever differed has stopped, or has no memory any more
            return
        low, high = positions[max(first - 1, 0)], positions[first]
        if high == positions[-1] and high - low <= 1:
            self._decide(high, first)
        elif asks:
            self._ask(low, high)
        else:
            self.question = None

    def _values(self, step: int) -> set[int]:
        values = (answer.values[step] for answer in self.answers.values())
        return {value for value in values if value is not None}

    def _decide(self, position: int, step: int) -> None:
        """Stop if f+1 others agree against us; if we are among f+1 that agree, note who differs; otherwise nobody knows who is right."""
        group, index = self.group, self.group.index
        values = {member: value for member, answer in self.answers.items() if (value := answer.values[step]) is not None}
        self.question = None
        votes = independent_votes(values, {member: self.answers[member].copied_from for member in values})
        winners = [value for value, count in votes.items() if count >= group.quorums.majority]
        if not winners or index not in values:
            self.port.report("outcomes differ", position=position, **self._described(position, values), decision="no majority agrees")
            self._resting_until_ns = self.port.now_ns + self.patience * self._retransmit_ns
            self.patience = min(2 * self.patience, _MOST_PATIENCE)
            return
        if values[index] != winners[0]:
            self.port.stop(self._reason(position, values, winners[0]), distrust=True)
            return
        self.differing = {member: group.incarnations[member] for member, value in values.items() if value != winners[0]}
        self.port.report("outcomes differ", position=position, **self._described(position, values), differing=sorted(self.differing))
        self._suspect_leader_that_differs()

    def _suspect_leader_that_differs(self) -> None:
        if self.group.leader in self.group.current_voters(self.differing):
            self._on_leader_differs()

    def _described(self, position: int, values: dict[int, int]) -> dict[str, Any]:
        answers = {str(member): repr(self.answers[member].result) for member in sorted(values)}
        return {"operation": self._operation(position), "results": answers}

    def _operation(self, position: int) -> str:
        log = self.state.log
        return repr(log.entry_at(position).operation[:_SHOWN_BYTES]) if log.start < position <= log.last else "not known any more"

    def _reason(self, position: int, values: dict[int, int], winner: int) -> str:
        index = self.group.index
        others = [member for member, value in values.items() if value == winner]
        there, here = self.answers[others[0]].result, self.answers[index].result
        return (
            f"the state of replica {index} differs from that of replicas {_listed(others)}, at position {position} at the latest:"
            f" operation {self._operation(position)} gave {here!r} here and {there!r} there. A service must use nothing that replicas do"
            " not share, and all must run the same code; if they do, memory or disk are damaged"
        )

    # Checkpoints

    def tell_checkpoint(self) -> None:
        """A checkpoint has been committed: tell the others its digest, and compare it with theirs."""
        checkpoint = self.state.checkpoint
        assert checkpoint is not None
        digest = self.state.checkpoint_digest()
        message = StateDigest(self.group.incarnations, checkpoint.position, checkpoint.hash, digest, self.transfer.copied_from)
        self.group.send_to_peers(message)
        self._keep(self.group.index, message)

    def on_state_digest(self, source: Address, message: StateDigest) -> None:
        """Compare a member's checkpoint with ours of the same position."""
        self._keep(source, message)

    def _keep(self, member: Address, digest: StateDigest) -> None:
        """Keep the digest of a checkpoint. If f+1 others agree about it against us, our state is damaged."""
        group, told = self.group, self.told
        told.setdefault(digest.position, {})[member] = digest
        for position in sorted(told)[:-_KEPT_DIGESTS]:
            del told[position]
        own = told.get(digest.position, {}).get(group.index)
        if own is None:
            return
        known = {peer: theirs for peer, theirs in told[digest.position].items() if theirs.hash == own.hash}
        copied_from = {peer: theirs.copied_from for peer, theirs in known.items()}
        origin = _origin(group.index, copied_from)
        if any(theirs.digest == own.digest and _origin(peer, copied_from) != origin for peer, theirs in known.items()):
            self.transfer.rest_on(group.index)  # somebody else has come to the same state
        votes = independent_votes({peer: theirs.digest for peer, theirs in known.items()}, copied_from)
        winner, count = votes.most_common(1)[0]
        if count >= group.quorums.majority and winner != own.digest:
            agreeing = [peer for peer, theirs in known.items() if theirs.digest == winner]
            self.port.stop(
                f"the state of replica {group.index} at position {digest.position} differs from that of replicas {_listed(agreeing)},"
                " though all results were equal so far: memory is damaged, or the service changed something outside its containers",
                distrust=True,
            )

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`. `differing`: the replicas whose state is known to differ from that of f+1 others."""
        return {"agreed": self.state.agreed, "differing": sorted(self.differing)}

    def snapshot(self) -> Any:
        """See `Part`."""
        return {
            "heard": sorted(self.heard.items()),
            "question": self.question,
            "answers": sorted(self.answers.items()),
            "attempts": self._attempts,
            "patience": [self.patience, self.port.now_ns >= self._resting_until_ns],
            "differing": sorted(self.differing),
            "told": [[position, sorted(digests.items())] for position, digests in sorted(self.told.items())],
        }


def independent_votes(values: Mapping[int, Value], copied_from: Mapping[int, int]) -> Counter[Value]:
    """How many voters each value has. Replicas with one value whose states go back to one replica's are one voter."""
    return Counter(value for value, _ in {(value, _origin(member, copied_from)) for member, value in values.items()})


def _origin(member: int, copied_from: Mapping[int, int]) -> int:
    """The replica whose state a member's goes back to; of replicas that have copied from each other in turn, the first."""
    passed: list[int] = []
    while member not in passed and copied_from.get(member, member) != member:
        passed.append(member)
        member = copied_from[member]
    return min(passed) if member in passed else member


def _span(question: CompareOutcomes) -> int:
    return question.positions[-1] - question.positions[0]


def _listed(members: Sequence[int]) -> str:
    return " and ".join(map(str, sorted(members)))
