"""The model of the key-value store against the store."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.apps import kv
from stretto.apps.kv_model import model, model_of_texts
from stretto.core.model import UNKNOWN
from stretto.services.service import ServiceCodec, ServiceMachine

MODEL = model()
_encode = ServiceCodec(kv.KeyValueStore).encode

_keys = st.sampled_from([b"", b"a", b"ab", b"b", b"k" * (kv.MAX_KEY_BYTES + 1)])
_values = st.sampled_from([b"", b"1", b"-", b"-7", b"x", str(2**63 - 1).encode(), b"9" * 20, b"v" * kv.MAX_VALUE_BYTES, b"\xff"])
_calls = st.one_of(
    st.tuples(st.just("get"), _keys),
    st.tuples(st.just("put"), _keys, _values),
    st.tuples(st.just("delete"), _keys),
    st.tuples(st.just("append"), _keys, _values),
    st.tuples(st.just("compare_and_set"), _keys, st.none() | _values, _values),
    st.tuples(st.just("increment"), _keys, st.sampled_from([0, 1, -8, 2**63 - 1, -(2**63)])),
    st.tuples(st.just("scan"), st.sampled_from([b"", b"a", b"k", b"z"]), st.sampled_from([0, 1, 2, 1_000, 1_001])),
)


@given(st.lists(_calls, max_size=30))
def test_the_model_does_what_the_store_does(calls: list[tuple[Any, ...]]) -> None:
    machine = ServiceMachine(kv.KeyValueStore)
    states: dict[bytes, bytes | None] = {}
    for name, *arguments in calls:
        encoded = _encode(name, arguments)
        operation, result = MODEL.decode(encoded, machine.execute(encoded, 0, 0)[0])
        assert operation == (name, *arguments)
        if name == "scan":
            for key, (query, value) in MODEL.parts(operation, result, sorted(states)).items():
                assert MODEL.step(states.get(key), query)[0] == value
            continue
        key = MODEL.key(operation)
        assert key is not None
        before = states.get(key)
        expected, states[key] = MODEL.step(before, operation)
        assert result == expected
        if MODEL.is_query(operation, result):
            assert states[key] == before
        if MODEL.overwrites(operation, result):
            assert all(MODEL.step(other, operation) == (result, states[key]) for other in (None, b"", b"1", b"x"))


@pytest.mark.parametrize(
    ("result", "limit"),
    [
        (((b"b", b"1"),), 10),
        (((b"a", b"1"), (b"a", b"1")), 10),
        (((b"ab", b"1"), (b"a", b"1")), 10),
        (((b"a", b"1"), (b"ab", b"1")), 1),
        (kv.BadLimit, 1),
        ((), 0),
    ],
)
def test_results_of_scans_that_no_store_gives(result: Any, limit: int) -> None:
    parts = MODEL.parts(("scan", b"a", limit), result, [b"a", b"ab", b"b"])
    assert any(MODEL.step(state, query)[0] != value for query, value in parts.values() for state in (None, b"1"))
    assert not any(all(MODEL.step(state, query)[0] == value for query, value in parts.values()) for state in (None, b"1"))


def test_what_a_scan_covers() -> None:
    keys = [b"a", b"a1", b"a2", b"a3", b"b"]
    found = ((b"a1", b"x"), (b"a2", b"y"))
    assert {key: value for key, (_, value) in MODEL.parts(("scan", b"a", 2), found, keys).items()} == {b"a": None, b"a1": b"x", b"a2": b"y"}
    everything = MODEL.parts(("scan", b"a", 3), found, keys)
    assert {key: value for key, (_, value) in everything.items()} == {b"a": None, b"a1": b"x", b"a2": b"y", b"a3": None}
    assert MODEL.parts(("scan", b"a", 0), kv.BadLimit, keys) == {}


def test_texts_begin_with_the_empty_string() -> None:
    assert model_of_texts().initial() == b""
    assert MODEL.initial() is None


def test_operations_of_texts() -> None:
    assert MODEL.operation("put", ("k", "ü")) == ("put", b"k", "ü".encode())
    for name, arguments in (("put", ("k",)), ("put", ("k", 3)), ("steal", ("k",))):
        with pytest.raises(ValueError, match="KeyValueStore"):
            MODEL.operation(name, arguments)


def test_bytes() -> None:
    assert MODEL.decode(_encode("get", (b"k",)), None) == (("get", b"k"), UNKNOWN)
    random = Random(7)
    for length in range(40):
        with pytest.raises(ValueError, match="no operation of KeyValueStore"):
            MODEL.decode(random.randbytes(length), None)
    operation, result = MODEL.decode(_encode("get", (b"k",)), b"\xc3")
    assert MODEL.step(b"x", operation)[0] != result, "a result that is none of a get"


def test_descriptions() -> None:
    assert MODEL.describe(("put", b"k", b"v" * 100), None) == "put('k', 'vvvvvvvvvvvv...vvvvvvvvvvvvvvvvvvvvvvvv' (100 bytes))"
    assert MODEL.describe(("get", b"k"), None) == "get('k'): nothing"
    assert MODEL.describe(("get", b"k"), UNKNOWN) == "get('k')"
    assert MODEL.describe(("increment", b"k", 1), kv.NotANumber) == "increment('k', 1): NotANumber"
    assert MODEL.describe(("scan", b"", 2), ((b"a", b"1"), (b"b", b"\xff"))) == "scan('', 2): ['a'='1', 'b'='\\xff']"
