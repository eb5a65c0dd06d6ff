"""The checks, as a function of the state of the world.

The observers of `stretto.verify` remember what they have seen. Here, many histories reach the same state, so all that a check needs must be
part of the state. For each replica, this is `Facts`, which depends only on its state. For the history, it is `Past`: how each call ended,
and what any replica ever committed, even if no replica knows it any more.
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

    - `serving`: whether its status says that it is in its view;
    - `start`, `committed`, `hashes`: the summary hashes at positions `start` to `committed`;
    - `operations`: the operations that its log executed; the first `committed_operations` of them are committed.
    """

    view: int
    serving: bool
    start: int
    committed: int
    hashes: tuple[bytes, ...]
    operations: Operations
    committed_operations: int


class Answer(NamedTuple):
    """How a call ended: with the operations in its result, and the view that gave it if the answer named one; or with an error."""

    operations: Operations | None
    view: int | None
    error: str | None


class Past(NamedTuple):
    """The part of the history that the checks need.

    - `begun`: the operations that were called, each with those that had returned before;
    - `accepted`: the results that clients have, each with the view that gave it;
    - `hashes`: the summary hash of each position that was ever committed, empty if it was compacted by the step that committed it;
      `committed`: the operations there.
    """

    begun: tuple[tuple[bytes, frozenset[bytes]], ...] = ()
    accepted: tuple[tuple[Operations, int | None], ...] = ()
    hashes: tuple[bytes, ...] = ()
    committed: Operations = ()


def facts_of(replica: Replica, replayed: set[tuple[bytes, bytes]]) -> Facts:
    """The facts about a replica. Raises Violation or AssertionError if it contradicts itself.

    `replayed` has the logs, by their hash, that have been executed again, with the resulting states. It grows.
    """
    replica.check_invariants()
    _check_state(replica, replayed)
    machine = replica.state.machine
    assert isinstance(machine, Ledger)
    operations = tuple(machine.operations)
    if len(set(operations)) < len(operations):
        raise Violation("executed twice", f"the log executes {shown(operations)}")
    start, committed = replica.state.log.start, replica.state.committed
    hashes = tuple(replica.state.log.hash_at(position) for position in range(start, committed + 1))
    speculative = sum(_is_operation(replica, position) for position in range(committed + 1, replica.state.log.last + 1))
    serving = replica.metrics()["status"] in ("normal", "repairing")
    return Facts(replica.view, serving, start, committed, hashes, operations, len(operations) - speculative)


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
    """A node took a step other than a crash. If it is a replica, its view and its committed position must not have gone down."""
    if before is None or after is None:
        return
    if after.view < before.view:
        raise Violation("view went down", f"from {before.view} to {after.view}")
    if after.committed < before.committed:
        raise Violation("commit taken back", f"position {before.committed} was committed, now only {after.committed}")


def with_call(past: Past, operation: bytes) -> Past:
    """The past after a client began a call."""
    returned = frozenset(operations[-1] for operations, _ in past.accepted)
    return past._replace(begun=(*past.begun, (operation, returned)))


def with_facts(past: Past, facts: Facts) -> Past:
    """The past after a replica was seen with these facts. Raises Violation if they contradict the past."""
    past = _with_commits(past, facts)
    for operations, view in past.accepted:
        if view is not None and facts.serving and facts.view > view and not _begins(facts.operations, operations):
            reason = f"view {view} gave the result {shown(operations)}; a replica in view {facts.view} has {shown(facts.operations)}"
            raise Violation("accepted result lost", reason)
    return past


def _with_commits(past: Past, facts: Facts) -> Past:
    known = min(facts.committed, len(past.hashes))
    if known > facts.start and facts.hashes[known - facts.start] != (past.hashes[known - 1] or facts.hashes[known - facts.start]):
        now = shown(facts.operations[: facts.committed_operations])
        raise Violation("commits differ", f"position {known} or one before it: {now}, and before it was {shown(past.committed)}")
    if facts.committed <= len(past.hashes):
        return past
    committed = facts.operations[: facts.committed_operations]
    for operations, _ in past.accepted:
        if not _agree(operations, committed):
            raise Violation("accepted result lost", f"a client has the result {shown(operations)}; {shown(committed)} is committed")
    hashes = past.hashes + (b"",) * (facts.start - len(past.hashes))
    return past._replace(hashes=hashes + facts.hashes[len(hashes) - facts.start + 1 :], committed=committed)


def with_return(past: Past, operation: bytes, answer: Answer, replicas: Iterable[Facts]) -> Past:
    """The past after a client's call has ended. Raises Violation if its result contradicts the past, or other results.

    Results of a `Ledger` are linearizable if and only if each begins with all shorter ones, ends with its own operation, and has every
    operation that had returned when it was called; so no search is needed.
    """
    result = answer.operations
    if result is None:
        return past
    if not result or result[-1] != operation:
        raise Violation("wrong result", f"the call of {operation.decode()} returned {shown(result)}")
    for operations, _ in past.accepted:
        if not _agree(operations, result):
            raise Violation("not linearizable", f"one call returned {shown(operations)}, another {shown(result)}")
    lacking = dict(past.begun)[operation].difference(result)
    if lacking:
        reason = f"the call of {operation.decode()} returned {shown(result)}, without {shown(sorted(lacking))}, which had returned before"
        raise Violation("real-time order broken", reason)
    if not _agree(result, past.committed):
        raise Violation("wrong result", f"the call of {operation.decode()} returned {shown(result)}; {shown(past.committed)} is committed")
    past = past._replace(accepted=(*past.accepted, (result, answer.view)))
    for facts in replicas:
        with_facts(past, facts)
    return past


def _begins(longer: Operations, shorter: Operations) -> bool:
    return longer[: len(shorter)] == shorter


def _agree(one: Operations, other: Operations) -> bool:
    return _begins(one, other) or _begins(other, one)


def shown(operations: Iterable[bytes]) -> str:
    """Operations as text: a sequence in brackets."""
    return "[" + " ".join(operation.decode() for operation in operations) + "]"
