"""Operations for the key-value store under torture, in which violations show: contended keys, and pages of tokens."""

from __future__ import annotations

from random import Random

from stretto.apps.kv import KeyValueStore
from stretto.services.service import ServiceCodec

_codec = ServiceCodec(KeyValueStore)
_encode = _codec.encode
_RECENT = 20


def contended(random: Random, key: int, value: int) -> bytes:
    """One operation of a mix: 35% get, 25% put, 20% append, 12% compare_and_set, 8% delete.

    Each written value contains `value`, so that a read shows which write it saw. A compare_and_set expects no value or a recent one.
    """
    name, written = _key(key), b"%d," % value
    draw = random.random()
    if draw < 0.35:
        return read(key)
    if draw < 0.60:
        return _encode("put", (name, written))
    if draw < 0.80:
        return _encode("append", (name, written))
    if draw < 0.92:
        expected = None if random.random() < 0.5 else b"%d," % (value - random.randint(1, _RECENT))
        return _encode("compare_and_set", (name, expected, written))
    return _encode("delete", (name,))


def read(key: int) -> bytes:
    """A get of a contended key."""
    return _encode("get", (_key(key),))


def mark(session: int, page: int, token: int) -> bytes:
    """Append a token to a page of a session."""
    return _encode("append", (_page(session, page), b"%d," % token))


def read_page(session: int, page: int) -> bytes:
    """A get of a page."""
    return _encode("get", (_page(session, page),))


def tokens_of(page: bytes) -> list[int]:
    """The tokens on a page, in their order, from the result of `read_page`."""
    value: bytes | None = _codec.decode("get", page)
    return [] if value is None else [int(token) for token in value.split(b",")[:-1]]


def _key(key: int) -> bytes:
    return b"contended/%06d" % key


def _page(session: int, page: int) -> bytes:
    return b"marks/%02d/%06d" % (session, page)
