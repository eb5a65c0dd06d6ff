"""Log, sessions and state machine change together, and are undone bit for bit."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.core.state_machine import Undo
from stretto.replication.log import chain
from stretto.replication.messages import CONFIGURATION, OPEN_SESSION, Configuration, Request
from stretto.replication.sessions import is_of_life, session_from_result, session_name, share_life
from stretto.replication.state import ReplicatedState

CLIENT = 1 << 20
NEVER = 1 << 40
"""So many operations between checkpoints that there is none."""


class Tape:
    """A state machine that keeps all operations, so that every order of operations gives another state."""

    def __init__(self) -> None:
        self.cells: list[bytes] = []

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        self.cells.append(operation)
        return b"%d" % len(self.cells), len(self.cells)

    def undo(self, undo: Undo) -> None:
        assert undo == len(self.cells)
        self.cells.pop()

    def snapshot(self) -> bytes:
        return b"|".join(self.cells)

    def restore(self, snapshot: bytes) -> None:
        self.cells = snapshot.split(b"|")


def opened(state: ReplicatedState, nonce: int) -> int:
    """Open a session. Returns its name."""
    result = state.append(opening(nonce))
    assert result is not None
    return session_from_result(result)


def opening(nonce: int) -> Request:
    return Request(CLIENT, OPEN_SESSION, nonce, 0, 0, b"")


def request(session: int, number: int, operation: bytes = b"x") -> Request:
    return Request(CLIENT, session, number, 0, 0, operation)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int]]:
    actions = st.sampled_from(["open", "use", "use", "use", "unknown", "roll back", "commit"])
    return draw(st.lists(st.tuples(actions, st.integers(0, 5)), max_size=40))


@given(histories(), st.integers(1, 3))
def test_rolling_back_restores_every_earlier_state(history: list[tuple[str, int]], max_sessions: int) -> None:
    state = ReplicatedState(Tape(), max_sessions, NEVER)
    seen = {0: (state.snapshot(), state.log.last_hash)}
    nonce = 0
    for action, number in history:
        if action == "roll back":
            position = max(state.committed, state.log.last - number)
            state.roll_back_to(position)
            assert (state.snapshot(), state.log.last_hash) == seen[position]
        elif action == "commit":
            state.commit_up_to(min(state.log.last, state.committed + number))
        else:
            nonce += 1
            sessions = sorted(state.sessions.records)
            if action == "open":
                state.append(opening(nonce))
            elif action == "use" and sessions:
                session = sessions[number % len(sessions)]
                state.append(request(session, state.sessions.records[session].number + 1))
            else:
                assert state.append(request(999, nonce)) is None
            seen[state.log.last] = (state.snapshot(), state.log.last_hash)
        state.check_invariants()
    assert state.replayed_on(Tape()) == state.snapshot()


@given(histories(), st.integers(1, 3), st.data())
def test_numbers_at_an_earlier_position_are_those_found_by_rolling_back(
    history: list[tuple[str, int]], max_sessions: int, data: st.DataObject
) -> None:
    state = ReplicatedState(Tape(), max_sessions, NEVER)
    for nonce, (action, number) in enumerate(history, 1):
        sessions = sorted(state.sessions.records)
        if action == "open":
            state.append(opening(nonce))
        elif sessions:
            session = sessions[number % len(sessions)]
            state.append(request(session, state.sessions.records[session].number + 1))
    position = data.draw(st.integers(0, state.log.last))
    asked = [*state.log.entries(1), request(1, 1), opening(1)]
    found = state.numbers_at(position, asked, since=position)
    state.roll_back_to(position)
    wanted = state.numbers_at(position, asked, since=position)
    assert {key: found.get(key) for key in wanted} == wanted
    for one in asked:
        assert (found.get((one.session, 0) if one.session else (0, one.number)) is None) == (state.sessions.record_for(one) is None)


def test_a_session_is_named_by_the_hash_of_its_place_and_opened_once() -> None:
    state = ReplicatedState(Tape(), 10, NEVER)
    first = state.append(opening(77))
    assert first is not None
    session = session_from_result(first)
    assert session == session_name(b"", state.log.hash_at(1))
    assert state.sessions.record_for(opening(77)) is not None
    record = state.sessions.record_for(opening(77))
    assert record is not None
    assert (record.position, record.result) == (1, first)
    state.append(request(session, 1))
    assert state.sessions.record_for(opening(77)) == record
    assert state.sessions.record_for(opening(78)) is None


def test_names_of_two_lives_differ() -> None:
    """The same client opens its session at the same position, with the same nonce."""
    names = []
    for life in (b"\x12\x34" * 8, b"\x56\x78" * 8):
        state = ReplicatedState(Tape(), 10, NEVER)
        state.begin_life(life)
        names.append(opened(state, 1))
        assert is_of_life(names[-1], life)
        assert 1 << 62 <= names[-1] < 1 << 63
    assert not share_life(*names)
    assert not is_of_life(names[0], b"\x56\x78" * 8)


def test_a_name_that_is_taken_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stretto.replication.state.session_name", lambda life, summary: 99)
    state = ReplicatedState(Tape(), 10, NEVER)
    assert opened(state, 1) == 99
    assert state.append(opening(2)) is None
    assert state.append(request(99, 1)) == b"1"
    state.roll_back_to(1)
    assert state.append(opening(3)) is None


def test_requests_are_executed_at_most_once() -> None:
    state = ReplicatedState(Tape(), 10, NEVER)
    session = opened(state, 1)
    result = state.append(request(session, 1))
    assert state.sessions.records[session].result == result
    with pytest.raises(AssertionError, match="twice"):
        state.append(request(session, 1))


def test_the_least_recently_used_session_is_dropped_and_cannot_run_again() -> None:
    state = ReplicatedState(Tape(), 2, NEVER)
    first, second = opened(state, 1), opened(state, 2)
    state.append(request(first, 1))
    third = opened(state, 3)
    assert set(state.sessions.records) == {first, third}
    assert state.append(request(second, 1)) is None
    assert state.machine.snapshot() == b"x"


def test_a_session_belongs_to_one_client() -> None:
    state = ReplicatedState(Tape(), 10, NEVER)
    session = opened(state, 1)
    assert state.append(Request(CLIENT + 1, session, 1 << 40, 0, 0, b"stolen")) is None
    assert state.append(request(session, 1)) == b"1"
    assert state.machine.snapshot() == b"x"
    assert state.sessions.record_for(Request(CLIENT + 1, session, 1, 0, 0, b"the result, please")) is None


def test_adopting_a_log_keeps_what_matches_and_returns_the_rest() -> None:
    state = ReplicatedState(Tape(), 10, NEVER)
    session = opened(state, 1)
    ours = [opening(1), *(request(session, number, operation) for number, operation in enumerate((b"a", b"b", b"c"), 1))]
    for one in ours[1:]:
        state.append(one)
    theirs = [ours[1], request(session, 3, b"d")]
    assert state.adopt(1, theirs) == ours[2:]
    assert state.log.entries(1) == [ours[0], *theirs]
    assert state.machine.snapshot() == b"a|d"
    state.commit_up_to(3)
    with pytest.raises(AssertionError, match="is committed"):
        state.adopt(1, ours[1:])


def test_hashes_tell_apart_everything_that_is_in_a_request() -> None:
    one = Request(CLIENT, 1, 2, 3, 4, b"x")
    others = [Request(CLIENT + 1, 1, 2, 3, 4, b"x"), Request(CLIENT, 2, 2, 3, 4, b"x"), Request(CLIENT, 1, 3, 3, 4, b"x")]
    others += [Request(CLIENT, 1, 2, 4, 4, b"x"), Request(CLIENT, 1, 2, 3, 5, b"x"), Request(CLIENT, 1, 2, 3, 4, b"y")]
    assert len({chain(bytes(16), each) for each in [one, *others]}) == 7


class Clock(Tape):
    """A state machine whose results are the times at which its operations ran."""

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        super().execute(operation, time_ns, entropy)
        return b"%d" % time_ns, len(self.cells)


def test_time_never_goes_back_along_the_log() -> None:
    state = ReplicatedState(Clock(), 10, NEVER)
    session = opened(state, 1)

    def at(number: int, time_ns: int, of: int = session) -> bytes | None:
        return state.append(Request(CLIENT, of, number, time_ns, 0, b"x"))

    assert [at(1, 100), at(2, 40), at(3, -7), at(4, 100), at(5, 101)] == [b"100", b"100", b"100", b"100", b"101"]
    assert at(1, 500, of=999) is None, "refused, and it advances the time all the same"
    assert at(6, 300) == b"500"
    state.roll_back_to(4)
    assert state.time_ns == 100
    assert at(4, 7) == b"100"
    state.commit_up_to(state.log.last)
    assert state.replayed_on(Clock()) == state.snapshot()


def test_a_checkpoint_has_the_time() -> None:
    state = ReplicatedState(Clock(), 10, 3)
    session = opened(state, 1)
    for number in range(1, 5):
        state.append(Request(CLIENT, session, number, 1_000 + number, 0, b"x"))
    state.commit_up_to(state.log.last)
    assert state.checkpoint is not None
    other = ReplicatedState(Clock(), 10, 3)
    other.install(state.checkpoint)
    assert other.append(Request(CLIENT, session, 9, 5, 0, b"x")) == b"1002"


def configuration(number: int, max_sessions: int) -> Request:
    return Request(0, CONFIGURATION, number, 0, 0, msgspec.msgpack.encode(Configuration(1, max_sessions)))


def test_a_configuration_is_executed_when_it_is_committed() -> None:
    state = ReplicatedState(Tape(), 9, NEVER)
    opened(state, 1)
    state.append(configuration(1, 5))
    assert (state.is_sealed, state.executed, state.configuration.max_sessions) == (True, 1, 9)
    state.commit_up_to(1)
    assert state.is_sealed
    state.commit_up_to(2)
    assert (state.is_sealed, state.executed, state.configuration.max_sessions) == (False, 2, 5)
    state.check_invariants()


def test_a_configuration_that_is_rolled_back_commits_nothing() -> None:
    state = ReplicatedState(Tape(), 9, NEVER)
    session = opened(state, 1)
    state.append(configuration(1, 5))
    state.roll_back_to(1)
    state.check_invariants()
    state.append_all([request(session, 1), request(session, 2), request(session, 3)])
    assert (state.committed, state.executed, state.configuration.max_sessions) == (0, 4, 9)


def test_a_configuration_may_lower_the_number_of_sessions() -> None:
    state = ReplicatedState(Tape(), 9, NEVER)
    sessions = [opened(state, nonce) for nonce in range(1, 7)]
    state.append_all([configuration(1, 2), opening(7)])
    assert state.committed == 7
    assert sessions[-1] in state.sessions.records
    assert len(state.sessions.records) == 2
    state.check_invariants()


@pytest.mark.parametrize("seed", range(20))
def test_rolled_back_time_is_that_of_the_position_whatever_was_compacted(seed: int) -> None:
    random = Random(seed)
    state = ReplicatedState(Clock(), 10, 5)
    session = opened(state, 1)
    state.commit_up_to(1)
    times = [0, state.time_ns]  # by position
    for number in range(1, 200):
        stamp_ns = random.choice([times[-1], times[-1] + random.randrange(50), random.randrange(-5, 3_000)])
        assert state.append(Request(CLIENT, session, number, stamp_ns, 0, b"x")) == b"%d" % max(times[-1], stamp_ns)
        times.append(max(times[-1], stamp_ns))
        if random.random() < 0.2:
            state.commit_up_to(random.randint(state.committed, state.log.last))
        if random.random() < 0.2:
            state.roll_back_to(random.randint(state.committed, state.log.last))
            del times[state.log.last + 1 :]
        assert state.time_ns == times[-1]
        assert [state.time_at(position) for position in range(state.log.start, state.log.last + 1)] == times[state.log.start :]
        state.check_invariants()
    assert state.log.start > 20
