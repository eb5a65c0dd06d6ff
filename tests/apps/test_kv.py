"""The key-value store: what each operation does, its limits, and its workload."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from stretto.apps import kv_workload
from stretto.apps.kv import MAX_KEY_BYTES, MAX_SCAN, MAX_VALUE_BYTES, BadLimit, KeyTooLong, KeyValueStore, NotANumber, ValueTooLong
from stretto.core.config import Limits
from stretto.core.errors import ApplicationError
from stretto.services.service import ServiceCodec, ServiceMachine
from stretto.testing import Local, check_service, local


@pytest.fixture
def store() -> Local:
    return local(KeyValueStore)


def test_a_value_is_put_got_and_deleted(store: Local) -> None:
    assert store.get(b"a") is None
    store.put(b"a", b"")
    assert store.get(b"a") == b""
    assert store.delete(b"a") is True
    assert store.delete(b"a") is False
    assert store.get(b"a") is None


def test_append_gives_the_new_length(store: Local) -> None:
    assert store.append(b"a", b"xy") == 2
    assert store.append(b"a", b"z") == 3
    assert store.get(b"a") == b"xyz"


def test_compare_and_set_sets_what_is_expected(store: Local) -> None:
    assert store.compare_and_set(b"a", b"", b"x") is False
    assert store.compare_and_set(b"a", None, b"x") is True
    assert store.compare_and_set(b"a", None, b"y") is False
    assert store.compare_and_set(b"a", b"x", b"y") is True
    assert store.get(b"a") == b"y"


def test_increment_counts(store: Local) -> None:
    assert [store.increment(b"a"), store.increment(b"a", 9), store.increment(b"a", -30)] == [1, 10, -20]
    assert store.get(b"a") == b"-20"


@pytest.mark.parametrize("value", [b"", b"x", b" 1", b"1_0", b"--1", b"-", b"1.5", b"9" * 20, "²".encode()])
def test_only_numbers_are_incremented(store: Local, value: bytes) -> None:
    store.put(b"a", value)
    with pytest.raises(NotANumber, match="the value of b'a' is no decimal number of 64 bits: "):
        store.increment(b"a")
    assert store.get(b"a") == value


@pytest.mark.parametrize(("value", "amount"), [(2**63 - 1, 1), (-(2**63), -1), (5, 2**63 - 1)])
def test_numbers_stay_within_64_bits(store: Local, value: int, amount: int) -> None:
    store.put(b"a", b"%d" % value)
    with pytest.raises(NotANumber, match="more than 64 bits"):
        store.increment(b"a", amount)
    assert store.increment(b"a", 0) == value


def test_scan_gives_pairs_in_order(store: Local) -> None:
    for key in (b"b", b"ab", b"a", b"ac", b""):
        store.put(key, key * 2)
    assert store.scan(b"a") == [(b"a", b"aa"), (b"ab", b"abab"), (b"ac", b"acac")]
    assert store.scan(b"a", 2) == [(b"a", b"aa"), (b"ab", b"abab")]
    assert store.scan(limit=1) == [(b"", b"")]
    assert store.scan(b"c") == []
    for limit in (0, -1, MAX_SCAN + 1):
        with pytest.raises(BadLimit, match=f"a limit of {limit}; 1 to 1000"):
            store.scan(b"", limit)


def test_sizes_are_limited_wherever_values_are_made(store: Local) -> None:
    long_key, long_value = bytes(MAX_KEY_BYTES + 1), bytes(MAX_VALUE_BYTES + 1)
    for call in (store.put, store.append):
        with pytest.raises(KeyTooLong, match="a key of 1025 bytes; at most 1024"):
            call(long_key, b"")
        with pytest.raises(ValueTooLong, match="a value of 31745 bytes; at most 31744"):
            call(b"a", long_value)
    with pytest.raises(KeyTooLong):
        store.increment(long_key)
    with pytest.raises(ValueTooLong):
        store.compare_and_set(b"a", None, long_value)
    store.put(long_key[1:], long_value[1:])
    with pytest.raises(ValueTooLong):
        store.append(long_key[1:], b"x")
    assert store.scan() == [(long_key[1:], long_value[1:])]


def test_the_largest_compare_and_set_fits_a_request() -> None:
    value = bytes(MAX_VALUE_BYTES)
    encoded = ServiceCodec(KeyValueStore).encode("compare_and_set", (bytes(MAX_KEY_BYTES), value, value))
    assert len(encoded) <= Limits().max_request_bytes


def test_it_can_be_replicated() -> None:
    check_service(KeyValueStore, max_examples=30)
    numbers = st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number)
    check_service(KeyValueStore, arguments={"put": {"value": numbers}, "scan": {"limit": st.integers(0, 3)}}, max_examples=20)


def test_the_workload_is_a_pure_mix_on_a_bounded_set_of_keys() -> None:
    draws = [kv_workload.workload(Random(1), keys=20) for _ in range(2)]
    assert draws[0] == draws[1]
    random, machine, codec = Random(7), ServiceMachine(KeyValueStore), ServiceCodec(KeyValueStore)
    mix: Counter[str] = Counter()
    results: set[tuple[str, Any]] = set()
    for _ in range(5_000):
        operation = kv_workload.workload(random, keys=20)
        method = msgspec.msgpack.decode(operation)[0]
        mix[method] += 1
        result, _ = machine.execute(operation, 1, 2)
        try:
            codec.decode(method, result)
        except ApplicationError as error:
            pytest.fail(f"{method} failed: {error}")
        results.add((method, result))
    assert set(mix) == set(codec.methods)
    assert 0.30 < mix["put"] / 5_000 < 0.40 < mix["get"] / 5_000 + 0.05 < 0.50
    assert {result for method, result in results if method == "compare_and_set"} == {b"\xc2", b"\xc3"}
    assert len(machine.snapshot()) < 40 * 200


def test_the_write_workload_is_puts_alone() -> None:
    random = Random(7)
    calls = [msgspec.msgpack.decode(kv_workload.put(random, 5, 8)) for _ in range(200)]
    assert {call[0] for call in calls} == {"put"}
    assert len({call[1] for call in calls}) == 5
    assert {len(call[2]) for call in calls} == {8}
