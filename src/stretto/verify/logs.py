"""Watches the logs of all replicas: what is committed is the same everywhere and stays, nothing runs twice, and the state is the log's.

It reads nothing but `stretto.core.node.Replica`, and after each step only what the step changed. Replicas may end and begin again, with
their memory or without; what was committed outlives them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stretto.core.node import Replica
from stretto.core.state_machine import StateMachine
from stretto.verify.violation import Violation, shortened

OPENING = 0
"""The session of requests that open one. They carry a nonce for a number, and are not operations of the application."""

OnCommitted = Callable[[int, Any, "bytes | None"], None]


Commit = tuple[int, bytes, Any, "bytes | None"]
"""Position, hash there, entry and result."""

Outline = tuple[int, int, int, bytes]
"""View, committed and last position, and the hash there: while these and the log start stay, so does all else."""


def outline_of(replica: Replica) -> Outline:
    """What tells whether a replica has changed, or has come back as it was."""
    last = replica.state.log.last
    return (replica.view, replica.state.committed, last, replica.state.log.hash_at(last))


class _Seen:
    """What a life of a replica looked like after its last step.

    Invariants: `hashes` are those of positions `start` + 1 to the last; `executed` has the position of every operation in that log, and
    before it, that has a result.
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
        """What the burst has committed that is under way."""
        self.unchecked_work = 0
        """Steps since the state was last compared with the log's execution; a roll-back counts for many."""


class LogObserver:
    """Call `after_step` with the index of a replica that took a step, `began_again` with one that has a new node. Raises Violation.

    The steps of a replica with a disk count when they are on it: call `during_burst` after each, and `after_step` when they are there.

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

    def during_burst(self, index: int) -> None:
        """Note what the step committed: before the burst is over, it may have been given up to a checkpoint."""
        seen = self._seen[index]
        seen.commits += _commits_after(seen.commits[-1][0] if seen.commits else seen.committed, seen.replica)

    def after_step(self, index: int) -> None:
        """Look at what the step changed."""
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
        """This replica has a new node, before its first step. One that remembers is as the last step left the former one.

        What it did in the burst in which it ended may be remembered or not; all or nothing of it.
        """
        former = self._seen[index]
        self._seen[index] = seen = _Seen(replica)
        if not remembers:
            return
        lived, died, lives = former.outline, outline_of(former.replica), outline_of(replica)
        if lives not in (lived, died):
            reason = f"replica {index} comes back as {_told(lives)}; it was {_told(lived)}, or {_told(died)} with its last burst"
            raise Violation("memory lost", reason)
        seen.outline = (replica.view, *seen.outline[1:])

    def check_state(self, index: int) -> None:
        """Compare a replica's state with what executing its log gives. As long as the log is long."""
        seen = self._seen[index]
        seen.unchecked_work = 0
        executed, replayed = seen.replica.state.snapshot(), seen.replica.state.replayed_on(self._machine())
        if executed != replayed:
            reason = (
                f"replica {index} at position {seen.replica.state.log.last} has {shortened(executed)}; its log gives {shortened(replayed)}"
            )
            raise Violation("state is not the log's", reason)

    def check_agreement(self, indices: Iterable[int]) -> None:
        """Check the states of these replicas: each is what its log gives, and equal logs, whatever they began with, give equal states."""
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
        """Bring `seen` up to the replica's log: drop what is no longer in it, add what is new."""
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
        """Entries have been given up to a checkpoint: those that are in it stay executed."""
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
        # A hash stands for the whole log up to it, so one comparison covers everything that was committed before.
        known = min(committed, len(hashes))
        first_kept = max(replica.state.log.start, 1)
        if known >= first_kept and replica.state.log.hash_at(known) != hashes[known - 1]:
            first = next(p for p in range(first_kept, known + 1) if replica.state.log.hash_at(p) != hashes[p - 1])
            raise Violation("commits differ", f"replica {index} has committed another log at position {first} than was committed before")
        commits = seen.commits or _commits_after(seen.committed, replica)
        for position, summary, entry, result in commits:
            if position <= len(hashes):
                if summary != hashes[position - 1]:
                    raise Violation("commits differ", f"replica {index} has committed another log at position {position} than was before")
                others = self._results[position - 1]
                if result != others:
                    reason = f"replica {index} has {shortened(result)} at position {position}, others {shortened(others)}"
                    raise Violation("results differ", reason)
            else:
                if position != len(hashes) + 1:
                    raise Violation(
                        "commits differ", f"replica {index} has a checkpoint at {replica.state.log.start}, which nobody has committed"
                    )
                hashes.append(summary)
                self._results.append(result)
                self._on_committed(position, entry, result)
        seen.commits = []
        seen.committed = committed


def _commits_after(position: int, replica: Replica) -> list[Commit]:
    """What a replica has committed after a position, so far as it is not behind a checkpoint."""
    positions = range(max(position, replica.state.log.start) + 1, replica.state.committed + 1)
    return [
        (place, replica.state.log.hash_at(place), replica.state.log.entry_at(place), replica.state.result_at(place)) for place in positions
    ]


def _told(outline: Outline) -> str:
    view, committed, last, summary = outline
    return f"(view {view}, committed {committed}, last {last} {summary.hex()[:8]})"


def _executed_key(replica: Replica, position: int) -> tuple[int, int] | None:
    if replica.state.result_at(position) is None:
        return None
    entry: Any = replica.state.log.entry_at(position)
    return None if entry.session == OPENING else (entry.session, entry.number)
