"""The replicated state: log, sessions and state machine. They change together: executing moves them forward, undoing moves them back.

A configuration, which decides outcomes and is part of the state, changes by an entry of its own. That is executed when it is committed and
not before, without undo: it may change the whole state. So nothing is appended behind it until then, and an entry behind it shows that it
is committed.

From time to time, a checkpoint of the state is taken and the log is compacted: the entries before the checkpoint are dropped. A checkpoint
is taken of the speculative state when the log reaches certain positions, so nothing needs to be undone for it. It counts once its position
is committed, and is dropped if its position is rolled back before. The positions depend only on the log, so replicas take equal
checkpoints.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any
from zlib import crc32

import msgspec

from stretto.core.node import Message
from stretto.core.state_machine import FAILURE, StateMachine, Undo, VersionedMachine, comparable
from stretto.replication.log import Log, chain
from stretto.replication.messages import CONFIGURATION, HASH_BYTES, OPEN_SESSION, Configuration, Request
from stretto.replication.records import Checkpoint, Committed, RolledBack
from stretto.replication.sessions import SessionRecord, SessionTable, SessionUndo, session_name, slot

BYTES_PER_OPERATION = 64
"""There is at least one operation between two checkpoints for each so many bytes of the earlier one, so large ones are taken less often."""


class Image(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The contents of a checkpoint: the sessions, the machine's own snapshot, the time of the last entry, and the configuration.

    `attempted`: the highest version that a configuration has asked for; it is not the active one if the upgrade failed.
    """

    sessions: list[tuple[int, SessionRecord]]
    machine: bytes
    time_ns: int
    configuration: Configuration
    attempted: int


def digest_of(state: bytes | bytearray) -> bytes:
    """The digest of a checkpoint's state."""
    return blake2b(state, digest_size=HASH_BYTES).digest()


_MAX_OUTCOMES = 128
"""How many positions the outcomes are kept of, besides the log's start."""


def _digest_results(outcome: int, results: Sequence[bytes | None]) -> int:
    """The outcome digest after these results. One encoded array has the encodings of all of them, after its header."""
    encoded = _encode_results(results)
    if FAILURE in encoded:
        encoded = _encode_results([None if result is None else comparable(result) for result in results])
    header = 1 if len(results) < 16 else 3 if len(results) < 1 << 16 else 5
    return crc32(memoryview(encoded)[header:], outcome)


_encode_results = msgspec.msgpack.Encoder().encode
_encode_image = msgspec.msgpack.Encoder().encode
_decode_image = msgspec.msgpack.Decoder(Image).decode
_decode_configuration = msgspec.msgpack.Decoder(Configuration).decode


class ReplicatedState:
    """The state after executing the whole log. Entries after `committed` can be undone.

    If they are set, `persist` is called with a record of every change, `compact` when everything persisted so far can be replaced by
    `records`, and `on_checkpoint` when a checkpoint that was taken here has been committed. `clock` gives
    nanoseconds; it measures `longest_pause_ns`, the longest time that taking a checkpoint took. `repeats`: whether the log may have a
    request twice, or after a later one of its session; it then has no result at that position, and changes nothing.

    `time_ns` is the time that the last entry was executed at. It never goes back along the log, whatever clocks the clients have: an entry
    with an earlier time is executed at the time of the one before, and an entry advances the time whatever its operation results in.

    `committed_in_view`: up to this position, this replica knows that the entries were committed in views that it has entered. (What it has
    fetched may have been committed in later views.) So the log of every later view has them.

    `configuration`: the present one; it begins with version 1 and the given `max_sessions`. `is_sealed`: whether the last entry is a
    configuration that is not committed yet. `on_newer_code(version)` is called instead of executing one that the machine's code is too old
    for, `on_configured(result)` after executing one.

    Invariants: sessions and machine are the result of executing the entries 1 to `executed` in order;
    `results` has one item for each entry of the log, and each undo list one for each entry after `committed`;
    `checkpoint` stands for the entries up to its position, which is committed; the log has all entries after the checkpoint before it.
    """

    # CPython keeps at most thirty attributes of an object where they are reached fast; slots have no limit.
    __slots__ = (
        *("_checkpoint_digest", "_checkpoint_operations", "_machine_undos", "_max_sessions", "_next_checkpoint", "_outcomes"),
        *("_repeats", "_results", "_session_undos", "_speculative_checkpoints", "_times", "agreement", "attempted", "checkpoint"),
        *("clock", "committed", "committed_in_view", "compact", "configuration", "is_sealed", "life", "log", "longest_pause_ns"),
        *("machine", "on_checkpoint", "on_configured", "on_newer_code", "persist", "rolled_back_operations", "sessions", "time_ns"),
    )

    def __init__(self, machine: StateMachine, max_sessions: int, checkpoint_operations: int, repeats: bool = False) -> None:
        self.log = Log()
        self.life = b""
        self.sessions = SessionTable(max_sessions)
        self.machine = machine
        self.time_ns = 0
        self.committed = 0
        self.committed_in_view = 0
        self.checkpoint: Checkpoint | None = None
        self.rolled_back_operations = 0
        self.persist: Callable[[Message], None] | None = None
        self.compact: Callable[[], None] | None = None
        self.on_checkpoint: Callable[[], None] | None = None
        self.on_newer_code: Callable[[int], None] | None = None
        self.on_configured: Callable[[bytes], None] | None = None
        self.configuration = Configuration(1, max_sessions)
        self.attempted = 1
        self.is_sealed = False
        self.clock: Callable[[], int] = int
        self.longest_pause_ns = 0
        self._max_sessions = max_sessions
        self._checkpoint_operations = checkpoint_operations
        self._repeats = repeats
        self._next_checkpoint = checkpoint_operations
        self._speculative_checkpoints: list[Checkpoint] = []
        self._checkpoint_digest: tuple[Checkpoint, bytes] | None = None
        self.agreement = 0
        self._results: list[bytes | None] = []
        self._outcomes: list[tuple[int, int]] = [(0, 0)]  # positions, the log's start first, and the outcomes there
        self._session_undos: list[SessionUndo] = []
        self._machine_undos: list[Undo] = []
        self._times: dict[int, int] = {0: 0}  # by position: at the log's start, and of each entry that was not executed at its own time

    def begin_life(self, life: bytes) -> None:
        """The life of the cluster is known: it is the hash at position 0 of this empty log, so logs of two lives have no hash in common."""
        assert self.log.last == 0
        self.life = life
        self.log = Log(0, life)

    def append(self, request: Request) -> bytes | None:
        """Append and execute a request. Returns the result; None if its client does not have this session, or the log has it already."""
        log = self.log
        log.append(request)
        session = request.session
        records = self.sessions.records
        record = records.get(session)
        time_ns = request.time_ns
        if time_ns >= self.time_ns:
            self.time_ns = time_ns
        else:
            self._times[log.last] = time_ns = self.time_ns
        undo: Undo = None
        session_undo: SessionUndo = None
        result: bytes | None = None
        if self._repeats and self.sessions.has_executed(request):
            pass
        elif record is not None and record.opening.client == request.client:
            assert request.number > record.number, "an operation stands in the log twice, or after a later one of its session"
            result, undo = self.machine.execute(request.operation, time_ns, request.entropy)
            records[session] = SessionRecord(request.number, log.last, result, record.opening)
            session_undo = record
        elif session == OPEN_SESSION:
            result, session_undo = self.sessions.open(log.last, session_name(self.life, log.last_hash), request)
        elif session == CONFIGURATION:
            self.is_sealed = True
        self._results.append(result)
        self._machine_undos.append(undo)
        self._session_undos.append(session_undo)
        if self.persist is not None:
            self.persist(request)
        if log.last == self._next_checkpoint and not self.is_sealed:
            self._take_checkpoint()
        return result

    def append_all(self, requests: Sequence[Request]) -> None:
        """Append and execute requests of the group's log. One behind a configuration shows that this is committed."""
        for request in requests:
            if self.is_sealed:
                self.commit_up_to(self.log.last, in_view=False)
            self.append(request)

    @property
    def executed(self) -> int:
        """The last position that has been executed: all of the log, except for a configuration that is not committed yet."""
        return self.log.last - self.is_sealed

    def _configure(self) -> None:
        """Execute the configuration that is the last entry. It is committed, so this is not undone."""
        request = self.log.entry_at(self.log.last)
        self.is_sealed = False
        try:
            wanted = _decode_configuration(request.operation)
        except msgspec.DecodeError:
            return  # no replica of ours has made it
        machine, result, version = self.machine, b"", wanted.version
        if isinstance(machine, VersionedMachine):
            if version > machine.code_version:
                if self.on_newer_code is not None:
                    self.on_newer_code(version)
                return
            result = machine.change_version(max(version, machine.version), self.time_ns, request.entropy)
            version = machine.version
        self.attempted = max(self.attempted, wanted.version)
        self.configuration = Configuration(version, wanted.max_sessions)
        self.sessions.limit(wanted.max_sessions)
        self._results[-1] = result
        if self.log.last == self._next_checkpoint:
            self._take_checkpoint()
        if self.on_configured is not None:
            self.on_configured(result)

    def time_at(self, position: int) -> int:
        """The time at which the entry at a position was executed; at the log's start, that of the last entry before it."""
        return self._times[position] if position in self._times else self.log.entry_at(position).time_ns

    # Outcomes

    def outcome_at(self, position: int) -> int:
        """The outcome digest at a position from the log's start to its last: equal outcomes mean equal results up to there.

        It is a checksum (CRC-32) of the encoded results, one after the other; it is computed when it is asked for, for many at once.
        """
        known = self._outcomes
        place = bisect_right(known, position, key=itemgetter(0)) - 1
        start, outcome = known[place]
        if start < position:
            outcome = _digest_results(outcome, self._results[start - self.log.start : position - self.log.start])
            known.insert(place + 1, (position, outcome))
            if len(known) > _MAX_OUTCOMES:
                del known[1 : _MAX_OUTCOMES // 2]
        return outcome

    def agree(self, position: int) -> None:
        """f+1 replicas, this one among them, have equal outcomes up to `position`."""
        self.agreement = max(self.agreement, position)

    @property
    def agreed(self) -> int:
        """The last committed position up to which f+1 replicas, this one among them, have equal outcomes."""
        return min(self.agreement, self.committed)

    def is_committed_as(self, position: int, summary: bytes) -> bool:
        """Whether the log has everything up to `position`, which is known to be committed with that hash."""
        return position <= self.committed or self.log.matches(position, summary)

    def contradicts(self, base: int, base_hash: bytes, entries: Sequence[Request], position: int) -> bool:
        """Whether a log with this hash at `base`, and these entries after it, lacks what our log has up to the committed `position`.

        False if that cannot be seen: if the log's entries begin after `position`, or ours do.
        """
        assert position <= self.committed
        log = self.log
        if log.start <= base <= position and log.hash_at(base) != base_hash:
            return True
        if not log.start <= base <= position:
            return False
        running = base_hash
        for request in entries[: position - base]:
            running = chain(running, request)
        return base + len(entries) < position or running != log.hash_at(position)

    def result_at(self, position: int) -> bytes | None:
        """The result of the entry at a position of the log; None if its session was not in the table."""
        return self._results[position - self.log.start - 1]

    def roll_back_to(self, position: int) -> list[Request]:
        """Undo every operation after `position`, the last one first. Returns their requests in the order of the log."""
        assert self.committed <= position <= self.log.last, f"cannot roll back to {position}: {self.committed} is committed"
        removed = self.log.entries(position + 1)
        for place in range(self.log.last, position, -1):
            undo = self._machine_undos.pop()
            if undo is not None:
                self.machine.undo(undo)
            self.sessions.undo(self.log.entry_at(place), self._session_undos.pop())
            self._times.pop(place, None)
            self.is_sealed = False
        self.time_ns = self.time_at(position)
        self.log.truncate(position)
        del self._results[position - self.log.start :]
        while self._outcomes[-1][0] > position:
            self._outcomes.pop()
        self.agreement = min(self.agreement, position)
        self.rolled_back_operations += len(removed)
        if removed and self.persist is not None:
            self.persist(RolledBack(position))
        while self._speculative_checkpoints and self._speculative_checkpoints[-1].position > position:
            self._speculative_checkpoints.pop()
        self._schedule_checkpoint()
        return removed

    def adopt(self, position: int, entries: Sequence[Request]) -> list[Request]:
        """Make the log, which equals the group's up to `position`, continue with exactly `entries`.

        Entries that match already stay. Returns the requests that were rolled back.
        """
        if position < self.log.start:  # all logs are equal up to the start
            entries = entries[self.log.start - position :]
            position = self.log.start
        kept = self.log.matching_prefix(position, entries)
        removed = self.roll_back_to(kept)
        self.append_all(entries[kept - position :])
        return removed

    def commit_up_to(self, position: int, *, in_view: bool = True) -> None:
        """Commit the entries up to `position`: drop the data that could undo them. `in_view`: see `committed_in_view`."""
        assert self.committed <= position <= self.log.last
        former = self.committed
        if in_view:
            self.committed_in_view = position
        if position == former:
            return
        del self._session_undos[: position - former]
        del self._machine_undos[: position - former]
        self.committed = position
        if self.persist is not None:
            self.persist(Committed(position, self.committed_in_view))
        if self.is_sealed and position == self.log.last:
            self._configure()
        if self._speculative_checkpoints and self._speculative_checkpoints[0].position <= position:
            self._commit_checkpoints(former)

    # Checkpoints

    def _take_checkpoint(self) -> None:
        began_ns = self.clock()
        image = Image(self.sessions.image(), self.machine.snapshot(), self.time_ns, self.configuration, self.attempted)
        outcome = self.outcome_at(self.log.last)
        self._speculative_checkpoints.append(Checkpoint(self.log.last, self.log.last_hash, outcome, _encode_image(image)))
        self._schedule_checkpoint()
        self.longest_pause_ns = max(self.longest_pause_ns, self.clock() - began_ns)

    def _schedule_checkpoint(self) -> None:
        """Set the next checkpoint's position by the last one's size: large checkpoints then cost no more per operation than small ones."""
        last = self._speculative_checkpoints[-1] if self._speculative_checkpoints else self.checkpoint
        if last is None:
            self._next_checkpoint = self._checkpoint_operations
        else:
            self._next_checkpoint = last.position + max(self._checkpoint_operations, len(last.state) // BYTES_PER_OPERATION)

    def _commit_checkpoints(self, former: int) -> None:
        """Keep the newest committed checkpoint, and the entries after the one before it.

        The entries after `former` stay too: they have been committed just now, and their clients may not have been answered yet.
        """
        compacted_to = self.log.start
        while self._speculative_checkpoints and self._speculative_checkpoints[0].position <= self.committed:
            if self.checkpoint is not None:
                compacted_to = max(compacted_to, min(self.checkpoint.position, former))
            self.checkpoint = self._speculative_checkpoints.pop(0)
        outcome = self.outcome_at(compacted_to)
        self._outcomes = [(compacted_to, outcome), *(known for known in self._outcomes if known[0] > compacted_to)]
        del self._results[: compacted_to - self.log.start]
        later = {position: time_ns for position, time_ns in self._times.items() if position > compacted_to}
        self._times = {compacted_to: self.time_at(compacted_to), **later}
        self.log.compact_to(compacted_to)
        if self.compact is not None:
            self.compact()
        if self.on_checkpoint is not None:
            self.on_checkpoint()

    def install(self, checkpoint: Checkpoint) -> list[Request]:
        """Replace the state by that of a checkpoint after the committed position. Returns the requests that were rolled back.

        Raises msgspec.DecodeError if the bytes are not those of a checkpoint.
        """
        assert checkpoint.position > self.committed
        image = _decode_image(checkpoint.state)
        removed = self.roll_back_to(self.committed)
        self.machine.restore(image.machine)
        if self.persist is not None:
            self.persist(checkpoint)
        self.configuration = image.configuration
        self.attempted = image.attempted
        self.sessions.limit(image.configuration.max_sessions)
        self.sessions.restore(image.sessions)
        self.time_ns = image.time_ns
        self._times = {checkpoint.position: image.time_ns}
        self.log = Log(checkpoint.position, checkpoint.hash)
        self._results = []
        self._outcomes = [(checkpoint.position, checkpoint.outcome)]
        self.committed = checkpoint.position
        self.checkpoint = checkpoint
        self._schedule_checkpoint()
        if self.compact is not None:
            self.compact()
        return removed

    def checkpoint_digest(self) -> bytes:
        """The digest of the checkpoint's state, by which replicas compare their checkpoints."""
        assert self.checkpoint is not None
        if self._checkpoint_digest is None or self._checkpoint_digest[0] is not self.checkpoint:
            self._checkpoint_digest = (self.checkpoint, digest_of(self.checkpoint.state))
        return self._checkpoint_digest[1]

    def records(self) -> list[Message]:
        """The records that give this state when they are replayed. They may replace everything that was persisted before."""
        first = self.log.start if self.checkpoint is None else self.checkpoint.position
        checkpoint = [] if self.checkpoint is None else [self.checkpoint]
        return [*checkpoint, *self.log.entries(first + 1), Committed(self.committed, self.committed_in_view)]

    def replay(self, record: Message) -> None:
        """Redo the change that was persisted as `record`."""
        if isinstance(record, Request):
            self.append_all([record])
        elif isinstance(record, RolledBack):
            self.roll_back_to(record.position)
        elif isinstance(record, Committed):
            self.commit_up_to(record.position, in_view=False)
            self.committed_in_view = record.in_view
        else:
            assert isinstance(record, Checkpoint), f"no record of the state: {record}"
            self.install(record)

    # Reading

    def numbers_at(self, position: int, requests: Sequence[Request], since: int) -> dict[tuple[int, int], int]:
        """The last request number of each slot that `requests` use, by the session table at `position` (committed or later).

        If the table does not have a session, its number is the last one that the log has after position `since`. So a request that was
        refused there, or that opened a session which was dropped again, is not appended once more.
        """
        numbers = {}
        for request in requests:
            record = self.sessions.record_for(request)
            if record is not None:
                numbers[slot(request)] = record.number
        for place in range(self.log.last, position, -1):
            undo = self._session_undos[place - self.committed - 1]
            if isinstance(undo, SessionRecord):
                numbers[slot(self.log.entry_at(place))] = undo.number
            elif undo is not None:
                numbers.pop((session_name(self.life, self.log.hash_at(place)), 0), None)
                numbers.pop(slot(self.log.entry_at(place)), None)
                for session, dropped in undo:
                    numbers[session, 0] = dropped.number
                    numbers[OPEN_SESSION, dropped.opening.nonce] = dropped.opening.nonce
        unknown = {slot(request) for request in requests} - numbers.keys()
        for request in self.log.entries(max(since, self.log.start) + 1, position) if unknown else ():
            if slot(request) in unknown:
                numbers[slot(request)] = max(request.number, numbers.get(slot(request), 0))
        return numbers

    def snapshot(self) -> Any:
        """Sessions and machine after executing the log, as canonical plain data."""
        return {
            "sessions": self.sessions.snapshot(),
            "machine": self.machine.snapshot(),
            "time_ns": self.time_ns,
            "configuration": [msgspec.to_builtins(self.configuration), self.attempted, self.is_sealed],
        }

    def checkpoint_positions(self) -> list[int]:
        """The positions of all checkpoints, the committed one first."""
        committed = [] if self.checkpoint is None else [self.checkpoint]
        return [checkpoint.position for checkpoint in committed + self._speculative_checkpoints]

    def replayed_on(self, machine: StateMachine) -> Any:
        """The `snapshot` after executing this log on a fresh `machine`, from its checkpoint or from its start."""
        other = ReplicatedState(machine, self._max_sessions, self._checkpoint_operations, self._repeats)
        if self.life:
            other.begin_life(self.life)
        for record in self.records():
            other.replay(record)
        return other.snapshot()

    def check_invariants(self) -> None:
        """Check the invariants of the class."""
        self.log.check_invariants()
        self.sessions.check_invariants()
        assert self.log.start <= self.committed <= self.log.last
        assert self.committed_in_view <= self.committed
        assert len(self._results) == self.log.last - self.log.start
        assert self.checkpoint is None or self.log.start <= self.checkpoint.position <= self.committed
        assert self._next_checkpoint > self.log.last or self.is_sealed
        uncommitted = self.log.entry_at(self.log.last) if self.committed < self.log.last else None
        assert self.is_sealed == (uncommitted is not None and uncommitted.session == CONFIGURATION)
        assert self._outcomes[0][0] == self.log.start
        assert self._outcomes[-1][0] <= self.log.last
        assert len(self._machine_undos) == len(self._session_undos) == self.log.last - self.committed
        assert self.time_ns == self.time_at(self.log.last)
        assert all(self.log.start <= position <= self.log.last for position in self._times)
