"""The checks, as a function of the state of the world.

The observers of `stretto.verify` remember what they have seen; here many histories reach the same state, so what a check
needs must be part of the state. For each replica that is `Facts`, which depends only on its state. For the history it is `Past`: how each
call ended, and what any replica ever committed, even if no replica knows it any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from stretto.core.node import Replica
from stretto.core.state_machine import encode
from stretto.exploration.ledger import Ledger
from stretto.verify.logs import OPENING
from stretto.verify.violation import Violation, shortened

Operations = tuple[bytes, ...]


class Facts(NamedTuple):
    """The facts about a replica that the checks use.

    - `serving`: it says that it is in its view;
    - `base`, `committed`, `hashes`: the summary hashes at positions `base` to `committed`;
    - `operations`: those that its log executed; the first `settled` of them are committed.
    """

    view: int
    serving: bool
    base: int
    committed: int
    hashes: tuple[bytes, ...]
    operations: Operations
    settled: int


class Answer(NamedTuple):
    """How a call ended: with the operations in its result, and the view that gave it if the answer named one; or with an error."""

    operations: Operations | None
    view: int | None
    error: str | None


class Past(NamedTuple):
    """The part of the history that the checks need.

    - `begun`: the operations that were called, each with those that had returned before;
    - `accepted`: the results that clients have, each with the view that gave it;
    - `hashes`: the summary hash of each position that was ever committed; `committed`: the operations there.
    """

    begun: tuple[tuple[bytes, frozenset[bytes]], ...] = ()
    accepted: tuple[tuple[Operations, int | None], ...] = ()
    hashes: tuple[bytes, ...] = ()
    committed: Operations = ()


def facts_of(replica: Replica, replayed: set[tuple[bytes, bytes]]) -> Facts:
    """Look at a replica. Raises Violation or AssertionError if it contradicts itself, whatever the others do.

    `replayed` has the logs, by their hash, that were executed again, with the state that this gave, and grows.
    """
    replica.check_invariants()
    _check_state(replica, replayed)
    machine = replica.state.machine
    assert isinstance(machine, Ledger)
    operations = tuple(machine.operations)
    if len(set(operations)) < len(operations):
        raise Violation("executed twice", f"the log executes {told(operations)}")
    base, committed = replica.state.log.start, replica.state.committed
    hashes = tuple(replica.state.log.hash_at(position) for position in range(base, committed + 1))
    speculative = sum(_is_operation(replica, position) for position in range(committed + 1, replica.state.log.last + 1))
    serving = replica.metrics()["status"] in ("normal", "repairing")
    return Facts(replica.view, serving, base, committed, hashes, operations, len(operations) - speculative)


def _check_state(replica: Replica, replayed: set[tuple[bytes, bytes]]) -> None:
    executed = replica.state.snapshot()
    key = (replica.state.log.hash_at(replica.state.log.last), encode(executed))
    if key in replayed:
        return
    expected = replica.state.replayed_on(Ledger())
    if executed != expected:
        reason = f"the state at position {replica.state.log.last} is {shortened(executed)}; executing the log gives {shortened(expected)}"
        raise Violation("state is not the log's", reason)
    replayed.add(key)


def _is_operation(replica: Replica, position: int) -> bool:
    entry: Any = replica.state.log.entry_at(position)
    return replica.state.result_at(position) is not None and entry.session != OPENING


def check_step(before: Facts | None, after: Facts | None) -> None:
    """A node took a step, other than to crash: if it is a replica, what must not go back has not."""
    if before is None or after is None:
        return
    if after.view < before.view:
        raise Violation("view went down", f"from {before.view} to {after.view}")
    if after.committed < before.committed:
        raise Violation("commit taken back", f"position {before.committed} was committed, now only {after.committed}")


def with_call(past: Past, operation: bytes) -> Past:
    """A client called."""
    returned = frozenset(operations[-1] for operations, _ in past.accepted)
    return past._replace(begun=(*past.begun, (operation, returned)))


def with_facts(past: Past, facts: Facts) -> Past:
    """A replica is as `facts` say. Raises Violation if that contradicts the past."""
    past = _with_commits(past, facts)
    for operations, view in past.accepted:
        if view is not None and facts.serving and facts.view > view and not _begins(facts.operations, operations):
            reason = f"view {view} gave the result {told(operations)}; a replica in view {facts.view} has {told(facts.operations)}"
            raise Violation("accepted result lost", reason)
    return past


def _with_commits(past: Past, facts: Facts) -> Past:
    known = min(facts.committed, len(past.hashes))
    if known > facts.base and facts.hashes[known - facts.base] != past.hashes[known - 1]:
        reason = f"position {known} or one before it: {told(facts.operations[: facts.settled])}, and before it was {told(past.committed)}"
        raise Violation("commits differ", reason)
    if facts.committed <= len(past.hashes):
        return past
    assert facts.base <= len(past.hashes), "a position that nobody has committed lies behind a checkpoint"
    committed = facts.operations[: facts.settled]
    for operations, _ in past.accepted:
        if not _agree(operations, committed):
            raise Violation("accepted result lost", f"a client has the result {told(operations)}; {told(committed)} is committed")
    return past._replace(hashes=past.hashes + facts.hashes[len(past.hashes) - facts.base + 1 :], committed=committed)


def with_return(past: Past, operation: bytes, answer: Answer, replicas: Iterable[Facts]) -> Past:
    """A client's call has ended. Raises Violation if its result contradicts the past, or other results.

    Results of a `Ledger` are linearizable if and only if each begins with all shorter ones, ends with its own operation, and has every
    operation that had returned when it was called; so no search is needed.
    """
    result = answer.operations
    if result is None:
        return past
    if not result or result[-1] != operation:
        raise Violation("wrong result", f"the call of {operation.decode()} returned {told(result)}")
    for operations, _ in past.accepted:
        if not _agree(operations, result):
            raise Violation("not linearizable", f"one call returned {told(operations)}, another {told(result)}")
    lacking = dict(past.begun)[operation].difference(result)
    if lacking:
        reason = f"the call of {operation.decode()} returned {told(result)}, without {told(sorted(lacking))}, which had returned before"
        raise Violation("real-time order broken", reason)
    if not _agree(result, past.committed):
        raise Violation("wrong result", f"the call of {operation.decode()} returned {told(result)}; {told(past.committed)} is committed")
    past = past._replace(accepted=(*past.accepted, (result, answer.view)))
    for facts in replicas:
        with_facts(past, facts)
    return past


def _begins(longer: Operations, shorter: Operations) -> bool:
    return longer[: len(shorter)] == shorter


def _agree(one: Operations, other: Operations) -> bool:
    return _begins(one, other) or _begins(other, one)


def told(operations: Iterable[bytes]) -> str:
    """Operations for people: a sequence in brackets."""
    return "[" + " ".join(operation.decode() for operation in operations) + "]"
