"""Operations for the key-value store under load and in simulation: pure functions of a random source."""

from __future__ import annotations

from random import Random

from stretto.apps.kv import KeyValueStore
from stretto.services.service import ServiceCodec

_encode = ServiceCodec(KeyValueStore).encode

KEYS = 1_000
VALUE_BYTES = 32


def workload(random: Random, keys: int = KEYS, value_bytes: int = VALUE_BYTES) -> bytes:
    """One operation of a mix: 40% get, 35% put, 8% increment, 5% each of compare_and_set, delete and append, 2% scan.

    It uses one of `keys` keys for values and as many other keys for counters. A put value has `value_bytes` bytes. Values stay short, since
    puts and deletes are more frequent than appends.
    """
    number = random.randrange(keys)
    key = b"key-%06d" % number
    draw = random.random()
    if draw < 0.40:
        return _encode("get", (key,))
    if draw < 0.75:
        return put(random, keys, value_bytes)
    if draw < 0.83:
        return _encode("increment", (b"counter-%06d" % number, random.randint(-9, 99)))
    if draw < 0.88:
        expected = None if random.random() < 0.3 else _value(random, value_bytes)
        return _encode("compare_and_set", (key, expected, _value(random, value_bytes)))
    if draw < 0.93:
        return _encode("delete", (key,))
    if draw < 0.98:
        return _encode("append", (key, b"%d," % random.randrange(10)))
    return _encode("scan", (b"key-%04d" % (number // 100), 10))


def put(random: Random, keys: int = KEYS, value_bytes: int = VALUE_BYTES) -> bytes:
    """A put of one of `keys` keys, for loads that only write."""
    return _encode("put", (b"key-%06d" % random.randrange(keys), _value(random, value_bytes)))


def _value(random: Random, value_bytes: int) -> bytes:
    """One of ten values, so that a compare_and_set sometimes finds the value that it expects."""
    return (b"%d" % random.randrange(10)) * value_bytes
