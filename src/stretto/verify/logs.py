"""Watches the logs of all replicas: what is committed is the same everywhere and stays, nothing runs twice, and the state is the log's.

It reads nothing but `stretto.core.node.Replica`, and after each step only what the step changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stretto.core.node import Replica
from stretto.core.state_machine import StateMachine
from stretto.verify.violation import Violation, shortened

OPENING = 0
"""The session of requests that open one. They carry a nonce for a number, and are not operations of the application."""

OnCommitted = Callable[[int, Any, "bytes | None"], None]


class _Seen:
    """What a replica looked like after its last step.

    Invariants: `hashes` are those of positions `base` + 1 to the tip; `executed` has the position of every operation in that log that
    has a result.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.outline: tuple[int, int, int, int, bytes] = (0, 0, 0, -1, b"")
        """View, base, committed, tip and the hash there: while these stay, so does all else."""
        self.committed = replica.committed
        self.base = replica.base
        self.hashes: list[bytes] = []
        self.keys: list[tuple[int, int] | None] = []
        self.executed: dict[tuple[int, int], int] = {}
        self.unchecked_work = 0
        """Steps since the state was last compared with the log's execution; a roll-back counts for many."""


class LogObserver:
    """Call `after_step` with the index of a replica that took a step. Raises Violation.

    Parameters: `replicas`; `machine`, which makes a fresh state machine; `on_committed`, which is called once for each position, in order,
    with the entry and its result, when the first replica has committed it.
    """

    first_check = 100
    roll_back_weight = 50

    def __init__(self, replicas: Sequence[Replica], machine: Callable[[], StateMachine], on_committed: OnCommitted) -> None:
        self._seen = [_Seen(replica) for replica in replicas]
        self._machine = machine
        self._on_committed = on_committed
        self._hashes: list[bytes] = []
        self._results: list[bytes | None] = []

    @property
    def committed(self) -> int:
        """The last position that any replica has committed."""
        return len(self._hashes)

    def after_step(self, index: int) -> None:
        """Look at what the step changed."""
        seen = self._seen[index]
        replica = seen.replica
        tip = replica.tip
        seen.unchecked_work += 1
        outline = (replica.view, replica.base, replica.committed, tip, replica.hash_at(tip))
        if outline != seen.outline:
            if replica.view < seen.outline[0]:
                raise Violation("view went down", f"replica {index} was in view {seen.outline[0]} and is in view {replica.view}")
            seen.outline = outline
            self._follow_log(index, seen)
            self._check_committed(index, seen)
        if seen.unchecked_work > self.first_check + 4 * (tip - replica.base):
            self.check_state(index)

    def check_state(self, index: int) -> None:
        """Compare a replica's state with what executing its log gives. As long as the log is long."""
        seen = self._seen[index]
        seen.unchecked_work = 0
        executed, replayed = seen.replica.executed_state(), seen.replica.replayed_state(self._machine())
        if executed != replayed:
            reason = f"replica {index} at position {seen.replica.tip} has {shortened(executed)}; its log gives {shortened(replayed)}"
            raise Violation("state is not the log's", reason)

    def _follow_log(self, index: int, seen: _Seen) -> None:
        """Bring `seen` up to the replica's log: drop what is no longer in it, add what is new."""
        replica = seen.replica
        tip = replica.tip
        if replica.base != seen.base:
            self._follow_base(seen)
        base, hashes = seen.base, seen.hashes
        kept = min(tip - base, len(hashes))
        while kept and hashes[kept - 1] != replica.hash_at(base + kept):
            kept -= 1
        if kept < len(hashes):
            for key in seen.keys[kept:]:
                if key is not None:
                    del seen.executed[key]
            del hashes[kept:], seen.keys[kept:]
            seen.unchecked_work += self.roll_back_weight
        for position in range(base + kept + 1, tip + 1):
            hashes.append(replica.hash_at(position))
            key = _executed_key(replica, position)
            if key is not None:
                earlier = seen.executed.setdefault(key, position)
                if earlier != position:
                    reason = f"replica {index} executed request {key[1]} of session {key[0]} at position {earlier} and at {position}"
                    raise Violation("executed twice", reason)
            seen.keys.append(key)

    def _follow_base(self, seen: _Seen) -> None:
        base = seen.replica.base
        gone = base - seen.base
        assert gone > 0, "a log's base only moves up"
        del seen.hashes[:gone], seen.keys[:gone]
        seen.base = base

    def _check_committed(self, index: int, seen: _Seen) -> None:
        replica = seen.replica
        committed = replica.committed
        if committed < seen.committed:
            raise Violation("commit taken back", f"replica {index} had committed position {seen.committed}, now only {committed}")
        hashes = self._hashes
        # A hash stands for the whole log up to it, so one comparison covers everything that was committed before.
        known = min(committed, len(hashes))
        if known > replica.base and replica.hash_at(known) != hashes[known - 1]:
            first = next(p for p in range(replica.base + 1, known + 1) if replica.hash_at(p) != hashes[p - 1])
            raise Violation("commits differ", f"replica {index} has committed another log at position {first} than was committed before")
        for position in range(max(seen.committed, replica.base) + 1, committed + 1):
            result = replica.result_at(position)
            if position <= len(hashes):
                others = self._results[position - 1]
                if result != others:
                    reason = f"replica {index} has {shortened(result)} at position {position}, others {shortened(others)}"
                    raise Violation("results differ", reason)
            else:
                assert position == len(hashes) + 1, "a position that nobody has committed lies behind a checkpoint"
                hashes.append(replica.hash_at(position))
                self._results.append(result)
                self._on_committed(position, replica.entry_at(position), result)
        seen.committed = committed


def _executed_key(replica: Replica, position: int) -> tuple[int, int] | None:
    if replica.result_at(position) is None:
        return None
    entry: Any = replica.entry_at(position)
    return None if entry.session == OPENING else (entry.session, entry.number)
