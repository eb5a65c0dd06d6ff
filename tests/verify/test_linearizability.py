"""Verdicts on small histories compared with brute force, on generated and hand-written histories, and the description of failures."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from brute_force import MODEL, is_linearizable, shortest_failing, small_history
from hypothesis import example, given
from hypothesis import strategies as st

from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_workload import workload
from stretto.core.model import UNKNOWN
from stretto.services.service import ServiceCodec, ServiceMachine
from stretto.verify.generate import concurrent_history
from stretto.verify.history import Operation
from stretto.verify.linearizability import NOT_LINEARIZABLE, OK, UNDECIDED, Verdict, at_most, check, check_steps
from stretto.verify.parts import partitioned
from stretto.verify.register import CasRegister
from stretto.verify.search import Budget, Step

_encode = ServiceCodec(KeyValueStore).encode


def register(*calls: tuple[int, str, int, int | None, Any]) -> list[Step]:
    """Steps from process, words, call, return and result."""
    steps = []
    for process, words, called, returned, result in calls:
        name, *values = words.split()
        steps.append(Step(process, (name, *map(int, values)), called, returned, result))
    return steps


def verdict_of(*calls: tuple[int, str, int, int | None, Any]) -> str:
    """The verdict on a register."""
    return check_steps(register(*calls), CasRegister()).verdict


@given(st.integers(0, 2**32))
def test_small_histories_against_every_order(seed: int) -> None:
    steps = small_history(Random(seed))
    verdict = check_steps(steps, MODEL)
    assert (verdict.verdict == OK) == is_linearizable(steps), f"small_history(Random({seed}))"
    if verdict.failure is not None:
        assert verdict.failure.is_shortest
        last, expected = verdict.failure.steps[verdict.failure.last], shortest_failing(steps)
        assert last.returned == expected.returned


def test_small_histories_have_both_verdicts() -> None:
    verdicts = [check_steps(small_history(Random(seed)), MODEL).verdict for seed in range(300)]
    assert 20 < verdicts.count(NOT_LINEARIZABLE) < 280


@given(st.integers(0, 2**32))
@example(48505)  # the result of the last one to return leaves no place for another one
def test_the_reported_steps_fail_alone_and_the_reported_order_is_allowed(seed: int) -> None:
    steps = small_history(Random(seed))
    failure = check_steps(steps, MODEL).failure
    if failure is None:
        return
    # A return and a call of equal time may be ordered only because of a step between them, which need not be among the reported ones.
    if not {step.returned for step in failure.steps} & {step.called for step in failure.steps}:
        again = check_steps(failure.steps, MODEL)
        assert again.verdict == NOT_LINEARIZABLE, f"small_history(Random({seed}))"
    states: dict[Any, Any] = dict.fromkeys(failure.keys)
    placed = set()
    for index, after in failure.order:
        step = failure.steps[index]
        if step.operation[0] != "scan":
            result, states[step.operation[1]] = MODEL.step(states[step.operation[1]], step.operation)
            assert step.result in (UNKNOWN, result)
        assert states == after
        placed.add(index)
    assert any(step.returned is not None and index not in placed for index, step in enumerate(failure.steps))


def test_a_register_is_nil_at_first() -> None:
    assert verdict_of((0, "read", 0, 1, None)) == OK
    assert verdict_of((0, "read", 0, 1, 0)) == NOT_LINEARIZABLE


def test_a_stale_read() -> None:
    assert verdict_of((0, "write 1", 0, 1, None), (0, "write 2", 2, 3, None), (1, "read", 4, 5, 1)) == NOT_LINEARIZABLE
    assert verdict_of((0, "write 1", 0, 1, None), (0, "write 2", 2, 5, None), (1, "read", 4, 6, 1)) == OK


def test_an_operation_that_never_returned_may_take_effect_late_or_never() -> None:
    endless = (0, "write 1", 0, None, UNKNOWN)
    assert verdict_of(endless, (1, "write 2", 2, 3, None), (1, "read", 4, 5, 2), (1, "read", 6, 7, 1)) == OK
    assert verdict_of(endless, (1, "write 2", 2, 3, None), (1, "read", 4, 5, 2)) == OK
    assert verdict_of(endless, (1, "read", 2, 3, 1), (1, "read", 4, 5, None)) == NOT_LINEARIZABLE
    assert verdict_of((1, "read", 2, 3, 1), (0, "write 1", 4, None, UNKNOWN)) == NOT_LINEARIZABLE


def test_an_operation_that_never_returned_takes_effect_at_most_once() -> None:
    once = [(0, "cas 1 2", 0, None, UNKNOWN), (1, "write 1", 1, 2, None), (1, "read", 3, 4, 2), (1, "write 1", 5, 6, None)]
    assert verdict_of(*once) == OK
    assert verdict_of(*once, (1, "read", 7, 8, 2)) == NOT_LINEARIZABLE


def test_a_refused_compare_and_set_has_a_result() -> None:
    assert verdict_of((0, "write 1", 0, 1, None), (0, "cas 2 3", 2, 3, False)) == OK
    assert verdict_of((0, "write 1", 0, 1, None), (0, "cas 1 3", 2, 3, False)) == NOT_LINEARIZABLE


def test_the_failing_prefix_includes_a_later_result_that_it_needs() -> None:
    """The compare_and_set could explain the read, until it is refused."""
    steps = register((0, "write 1", 0, 1, None), (1, "cas 1 2", 2, 9, False), (0, "read", 3, 4, 2), (0, "read", 5, 6, 2))
    failure = check_steps(steps, CasRegister()).failure
    assert failure is not None
    assert failure.steps[failure.last].operation == ("cas", 1, 2)
    assert failure.prefix == 4
    assert [step.operation for step in failure.steps] == [step.operation for step in steps]


def test_calls_of_one_process_are_ordered_even_at_equal_times() -> None:
    write = (0, "write 1", 0, 5, None)
    assert verdict_of(write, (0, "read", 5, 6, None)) == NOT_LINEARIZABLE
    assert verdict_of(write, (1, "read", 5, 6, None)) == OK
    assert verdict_of(write, (1, "write 2", 0, 5, None), (1, "read", 5, 6, None)) == NOT_LINEARIZABLE


def test_the_shortest_failing_prefix_of_all_keys_is_reported() -> None:
    """Two keys fail. The one that fails first is named, although the other was called first."""
    steps = [Step(0, ("get", b"a"), 0, 9, b"x"), Step(1, ("get", b"b"), 1, 5, b"x"), Step(2, ("put", b"c", b"1"), 7, 8, None)]
    failure = check_steps(steps, MODEL).failure
    assert failure is not None
    assert (failure.keys, failure.prefix, failure.last) == ([b"b"], 2, 0)


def scan(process: int, called: int, returned: int | None, *found: bytes, limit: int = 10) -> Step:
    """A scan that found these keys, each with the value 1."""
    return Step(process, ("scan", b"", limit), called, returned, tuple((key, b"1") for key in found))


def put(process: int, key: bytes, called: int, returned: int | None) -> Step:
    """A put of the value 1."""
    return Step(process, ("put", key, b"1"), called, returned, None if returned is not None else UNKNOWN)


def test_a_scan_reads_at_one_instant() -> None:
    puts = [put(0, b"a", 0, 10), put(0, b"b", 20, 30)]
    assert check_steps([*puts, scan(1, 0, 40, b"a")], MODEL).verdict == OK
    failure = check_steps([*puts, scan(1, 0, 40, b"b")], MODEL).failure
    assert failure is not None
    assert failure.keys == [b"a", b"b"], "each key alone would be fine"
    assert check_steps([*puts, scan(1, 0, 40, b"a"), scan(2, 0, 40)], MODEL).verdict == OK


def test_two_scans_agree_on_the_order_of_writes() -> None:
    puts = [put(0, b"a", 0, 50), put(1, b"b", 0, 50)]
    assert check_steps([*puts, scan(2, 0, 50, b"a")], MODEL).verdict == OK
    assert check_steps([*puts, scan(2, 0, 50, b"b")], MODEL).verdict == OK
    assert check_steps([*puts, scan(2, 0, 50, b"a"), scan(3, 0, 50, b"b")], MODEL).verdict == NOT_LINEARIZABLE


def test_a_scan_gives_no_information_about_keys_after_its_last() -> None:
    puts = [put(0, b"a", 0, 10), put(0, b"b", 20, 30)]
    assert check_steps([*puts, scan(1, 40, 50, b"a", limit=1)], MODEL).verdict == OK
    assert check_steps([*puts, scan(1, 40, 50, b"a", limit=2)], MODEL).verdict == NOT_LINEARIZABLE
    assert check_steps([*puts, scan(1, 40, 50, b"b", limit=1)], MODEL).verdict == NOT_LINEARIZABLE


def test_a_scan_after_the_call_of_its_own_process_sees_it() -> None:
    assert check_steps([put(0, b"a", 0, 10), put(1, b"b", 0, 5), scan(0, 10, 20, b"b")], MODEL).verdict == NOT_LINEARIZABLE
    assert check_steps([put(0, b"a", 0, 10), put(1, b"b", 0, 5), scan(2, 10, 20, b"b")], MODEL).verdict == OK


@pytest.mark.parametrize("found", [(b"b", b"a"), (b"a", b"a"), (b"a", b"b", b"c")])
def test_a_scan_result_that_is_possible_in_no_state(found: tuple[bytes, ...]) -> None:
    puts = [put(0, key, 0, 10) for key in (b"a", b"b", b"c")]
    assert check_steps([*puts, scan(1, 20, 30, *found, limit=2)], MODEL).verdict == NOT_LINEARIZABLE


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("keys", "clients"), [(3, 6), (20, 20), (200, 50)])
def test_generated_histories(seed: int, keys: int, clients: int) -> None:
    def history(lose_at: int | None) -> list[Operation]:
        machine = ServiceMachine(KeyValueStore)
        return concurrent_history(machine, lambda random: workload(random, keys), Random(seed), 1_000, clients, 0.01, lose_at)

    assert check(history(None), MODEL).verdict == OK
    verdict = check(history(500), MODEL)
    assert verdict.verdict == NOT_LINEARIZABLE
    assert verdict.failure is not None
    assert verdict.failure.prefix > 480
    assert len(verdict.failure.near(24)) <= 24


def hard_key() -> list[Step]:
    """Concurrent appends, and a get that no order of them explains, so that all orders must be tried."""
    steps = [Step(process, ("append", b"a", b"%d" % process), 0, 100, UNKNOWN) for process in range(12)]
    return [*steps, Step(50, ("get", b"a"), 101, 102, b"nothing")]


def test_a_search_stops_at_its_budget() -> None:
    verdict = check_steps(hard_key(), MODEL, at_most(3_000))
    assert (verdict.verdict, verdict.failure, verdict.undecided) == (UNDECIDED, None, [b"a"])
    assert verdict.configurations < 4_000


def test_a_hard_key_does_not_hide_the_failure_of_another() -> None:
    verdict = check_steps([*hard_key(), Step(51, ("get", b"b"), 101, 103, b"1")], MODEL, at_most(3_000))
    assert verdict.verdict == NOT_LINEARIZABLE
    assert verdict.failure is not None
    assert (verdict.failure.keys, verdict.failure.is_shortest) == ([b"b"], False), "the hard key may fail before"


def test_many_writers_of_one_key_are_searched_quickly() -> None:
    steps = [Step(process, ("write", process), 0, 100, None) for process in range(30)]
    steps += [Step(99, ("read",), 101, 102, 17), Step(99, ("read",), 103, 104, 17)]
    assert check_steps(steps, CasRegister(), at_most(10_000)).verdict == OK
    assert check_steps([*steps, Step(99, ("read",), 105, 106, 18)], CasRegister(), at_most(50_000)).verdict == NOT_LINEARIZABLE


def test_many_operations_that_never_returned_are_searched_quickly() -> None:
    steps = [Step(process, ("write", process), 0, None, UNKNOWN) for process in range(200)]
    steps += [Step(999, ("read",), 10 + 2 * value, 11 + 2 * value, value) for value in range(0, 200, 2)]
    assert check_steps(steps, CasRegister(), at_most(100_000)).verdict == OK
    assert check_steps([*steps, Step(999, ("read",), 1_000, 1_001, 0)], CasRegister(), at_most(100_000)).verdict == NOT_LINEARIZABLE


def test_a_part_is_one_key_or_the_keys_that_scans_connect() -> None:
    steps = [put(0, key, 0, 10) for key in (b"a", b"b", b"c", b"d")]
    assert [part.keys for part in partitioned([*steps, scan(1, 20, 30, b"a", b"b", limit=2)], MODEL)] == [[b"a", b"b"], [b"c"], [b"d"]]


def test_an_order_of_several_keys_at_once() -> None:
    """The slower search over all keys together gives the same result as the search over instants."""
    for seed in range(300):
        for part in partitioned(small_history(Random(seed)), MODEL):
            expected = part.search(Budget(at_most(10**6))) is None
            assert (part.ordered(Budget(at_most(10**6))).stuck_at is None) == expected, f"small_history(Random({seed}))"


def test_recorded_operations_are_decoded() -> None:
    machine = ServiceMachine(KeyValueStore)

    def run(operation: bytes, called_ns: int) -> Operation:
        return Operation(0, operation, called_ns, called_ns + 1, machine.execute(operation, 0, 0)[0])

    history = [
        run(_encode("put", (b"k", b"x")), 0),
        run(_encode("increment", (b"k", 1)), 10),
        run(_encode("put", (b"k" * 2_000, b"x")), 20),
        run(_encode("scan", (b"", 5_000)), 30),
        run(_encode("scan", (b"", 5)), 40),
        Operation(1, _encode("delete", (b"k",)), 45, error="RequestTimeout"),
        run(_encode("get", (b"k",)), 50),
    ]
    assert check(history, MODEL) == Verdict(OK, 7, check(history, MODEL).configurations)
    history[1].result = machine.execute(_encode("get", (b"k",)), 0, 0)[0]
    assert check(history, MODEL).verdict == NOT_LINEARIZABLE, "an increment of what is no number"


def test_bytes_that_are_not_an_operation_are_refused() -> None:
    with pytest.raises(ValueError, match=r"line 2: no operation of KeyValueStore"):
        check([Operation(0, _encode("get", (b"k",)), 0), Operation(0, b"\xff", 1)], MODEL)
