"""Checks the logs of all replicas: committed entries are equal everywhere and never change, no request is executed twice, and each state is
the result of executing the log.

The observer uses only the interface `stretto.core.node.Replica`, and after each step reads only what the step changed. Replicas may crash
and restart, with their state or with lost state. Committed entries must survive all restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stretto.core.node import Replica
from stretto.core.state_machine import StateMachine
from stretto.verify.violation import Violation, shortened

OPENING = 0
"""The session number of requests that open a session. They carry a nonce as their number, and are not operations of the application."""

CONFIGURATION = (1 << 62) - 1
"""The session number of entries that change the configuration. Their operation is the MessagePack array [version of the service, ...]."""

OnCommitted = Callable[[int, Any, "bytes | None"], None]


Commit = tuple[int, bytes, Any, "bytes | None"]
"""Position, hash up to it, entry, and result."""

Outline = tuple[int, int, int, bytes]
"""View, commit position, last position, and the hash up to it. While these and the log's start are unchanged, the whole replica is."""


def outline_of(replica: Replica) -> Outline:
    """The summary by which the observer detects whether a replica has changed, or has restarted with the same state."""
    state = replica.state
    return (replica.view, state.committed, state.log.last, state.log.hash_at(state.log.last))


class _Seen:
    """What the observer has seen of one incarnation of a replica, up to its last step.

    Invariants: `hashes` are those of positions `start` + 1 to the last; `executed` has the position of every operation with a result, in
    the log and before its start.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.outline: Outline = (0, 0, -1, b"")
        self.committed = 0
        self.start = replica.state.log.start
        self.hashes: list[bytes] = []
        self.keys: list[tuple[int, int] | None] = []
        self.executed: dict[tuple[int, int], int] = {}
        self.commits: list[Commit] = []
        """The commits of the current burst."""
        self.unchecked_work = 0
        """Steps since the state was last compared with the execution of the log. A roll-back counts as many steps."""


class LogObserver:
    """The observer of all replicas. Its methods raise Violation.

    Call `after_step` with the index of a replica after each of its steps, and `began_again` when it has a new node after a restart. The
    steps of a replica with a disk count only when they are durable: call `during_burst` after each step, and `after_step` after the sync.

    Parameters: `replicas`; `machine`, which makes a new state machine; `on_committed`, which is called once for each position, in order,
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

    def during_burst(self, index: int) -> None:
        """Record what the step committed, because the entries may be compacted before the burst ends."""
        seen = self._seen[index]
        seen.commits += _commits_after(seen.commits[-1][0] if seen.commits else seen.committed, seen.replica)

    def after_step(self, index: int) -> None:
        """Check everything that the step changed."""
        seen = self._seen[index]
        replica = seen.replica
        seen.unchecked_work += 1
        outline = outline_of(replica)
        if outline != seen.outline or replica.state.log.start != seen.start:
            if replica.view < seen.outline[0]:
                raise Violation("view went down", f"replica {index} was in view {seen.outline[0]} and is in view {replica.view}")
            seen.outline = outline
            self._follow_log(index, seen)
            self._check_committed(index, seen)
        if seen.unchecked_work > self.first_check + 4 * (replica.state.log.last - replica.state.log.start):
            self.check_state(index)

    def began_again(self, index: int, replica: Replica, remembers: bool) -> None:
        """Record that the replica has restarted with a new node, which has taken no step. With `remembers` it must have its former state.

        The burst in which the former node ended may be included or not, but only as a whole.
        """
        former = self._seen[index]
        self._seen[index] = seen = _Seen(replica)
        if not remembers:
            return
        synced, last, restored = former.outline, outline_of(former.replica), outline_of(replica)
        if restored not in (synced, last):
            states = f"it was {_text_of(synced)}, or {_text_of(last)} with its last burst"
            reason = f"replica {index} restarted as {_text_of(restored)}; {states}"
            raise Violation("lost state", reason)
        seen.outline = (replica.view, *seen.outline[1:])
        if restored == last:  # what the last burst committed counts now, and may have been compacted
            seen.commits, seen.committed = former.commits, former.committed

    def check_state(self, index: int) -> None:
        """Compare a replica's state with the result of executing its log. The time is proportional to the length of the log."""
        seen = self._seen[index]
        seen.unchecked_work = 0
        executed, replayed = seen.replica.state.snapshot(), seen.replica.state.replayed_on(self._machine())
        if executed != replayed:
            reason = (
                f"replica {index} at position {seen.replica.state.log.last} has {shortened(executed)}; its log gives {shortened(replayed)}"
            )
            raise Violation("state is not the log's", reason)

    def check_agreement(self, indices: Iterable[int]) -> None:
        """Check that each state is the result of executing the log, and that equal logs give equal states, also after a checkpoint."""
        states: dict[bytes, tuple[int, Any]] = {}
        for index in indices:
            self.check_state(index)
            replica = self._seen[index].replica
            executed = replica.state.snapshot()
            other, expected = states.setdefault(replica.state.log.hash_at(replica.state.log.last), (index, executed))
            if executed != expected:
                mine, others = shortened(executed), shortened(expected)
                reason = f"replica {index} at position {replica.state.log.last} has {mine}; replica {other} has {others}"
                raise Violation("states differ", reason)

    def _follow_log(self, index: int, seen: _Seen) -> None:
        """Update `seen` to the replica's log: drop entries that are no longer in it, and add the new ones."""
        replica = seen.replica
        last = replica.state.log.last
        if replica.state.log.start != seen.start:
            self._follow_start(seen)
        start, hashes = seen.start, seen.hashes
        kept = min(last - start, len(hashes))
        while kept and hashes[kept - 1] != replica.state.log.hash_at(start + kept):
            kept -= 1
        if kept < len(hashes):
            for key in seen.keys[kept:]:
                if key is not None:
                    del seen.executed[key]
            del hashes[kept:], seen.keys[kept:]
            seen.unchecked_work += self.roll_back_weight
        for position in range(start + kept + 1, last + 1):
            hashes.append(replica.state.log.hash_at(position))
            key = _executed_key(replica, position)
            if key is not None:
                earlier = seen.executed.setdefault(key, position)
                if earlier != position:
                    reason = f"replica {index} executed request {key[1]} of session {key[0]} at position {earlier} and at {position}"
                    raise Violation("executed twice", reason)
            seen.keys.append(key)

    def _follow_start(self, seen: _Seen) -> None:
        """Follow a compaction. The entries that are in the checkpoint stay executed."""
        start = seen.replica.state.log.start
        gone = start - seen.start
        assert gone > 0, "a log's start only moves up"
        for position, hash_, key in zip(range(seen.start + 1, start + 1), seen.hashes, seen.keys, strict=False):
            if key is not None and self._hashes[position - 1 : position] != [hash_]:
                del seen.executed[key]
        del seen.hashes[:gone], seen.keys[:gone]
        seen.start = start

    def _check_committed(self, index: int, seen: _Seen) -> None:
        replica = seen.replica
        committed = replica.state.committed
        if committed < seen.committed:
            raise Violation("commit taken back", f"replica {index} had committed position {seen.committed}, now only {committed}")
        hashes = self._hashes
        # A hash covers the whole log up to its position, so one comparison covers everything that was committed before.
        known = min(committed, len(hashes))
        first_kept = max(replica.state.log.start, 1)
        if known >= first_kept and replica.state.log.hash_at(known) != hashes[known - 1]:
            first = next(p for p in range(first_kept, known + 1) if replica.state.log.hash_at(p) != hashes[p - 1])
            raise Violation("commits differ", f"replica {index} has committed another log at position {first} than before")
        commits = seen.commits or _commits_after(seen.committed, replica)
        for position, summary, entry, result in commits:
            if position <= len(hashes):
                if summary != hashes[position - 1]:
                    raise Violation("commits differ", f"replica {index} has committed another log at position {position} than before")
                others = self._results[position - 1]
                if result != others:
                    reason = f"replica {index} has {shortened(result)} at position {position}, others {shortened(others)}"
                    raise Violation("results differ", reason)
            else:
                if position != len(hashes) + 1:
                    raise Violation(
                        "commits differ", f"replica {index} has a checkpoint at {replica.state.log.start}, which no replica has committed"
                    )
                hashes.append(summary)
                self._results.append(result)
                self._on_committed(position, entry, result)
        seen.commits = []
        seen.committed = committed


def _commits_after(position: int, replica: Replica) -> list[Commit]:
    """The commits of a replica after a position, as far as they have not been compacted."""
    positions = range(max(position, replica.state.log.start) + 1, replica.state.committed + 1)
    return [
        (place, replica.state.log.hash_at(place), replica.state.log.entry_at(place), replica.state.result_at(place)) for place in positions
    ]


def _text_of(outline: Outline) -> str:
    view, committed, last, summary = outline
    return f"(view {view}, committed {committed}, last {last} {summary.hex()[:8]})"


def _executed_key(replica: Replica, position: int) -> tuple[int, int] | None:
    if replica.state.result_at(position) is None:
        return None
    entry: Any = replica.state.log.entry_at(position)
    return None if entry.session in (OPENING, CONFIGURATION) else (entry.session, entry.number)
