"""A key-value store, which also serves as the example of a service."""

from __future__ import annotations

from stretto.core.errors import ApplicationError
from stretto.services.containers import SortedMap
from stretto.services.service import Service, operation, query

MAX_KEY_BYTES = 1_024
MAX_VALUE_BYTES = 31_744
"""A compare_and_set of the longest key and two of the longest values still fits the default `max_request_bytes`."""
MAX_SCAN = 1_000


class KeyTooLong(ApplicationError):
    """The key is longer than MAX_KEY_BYTES."""


class ValueTooLong(ApplicationError):
    """The value is, or would become, longer than MAX_VALUE_BYTES."""


class NotANumber(ApplicationError):
    """The value to increment is no decimal number of 64 bits, or the sum would be none."""


class BadLimit(ApplicationError):
    """The limit of a scan is outside 1 to MAX_SCAN."""


class KeyValueStore(Service):
    """A map from bytes to bytes, in the order of the keys."""

    errors = (KeyTooLong, ValueTooLong, NotANumber, BadLimit)

    def __init__(self) -> None:
        self.items = SortedMap[bytes, bytes]()

    @query
    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`; None if it has none."""
        return self.items.get(key)

    @operation
    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of `key`."""
        if len(key) > MAX_KEY_BYTES:
            raise KeyTooLong(f"a key of {len(key)} bytes; at most {MAX_KEY_BYTES} are allowed")
        if len(value) > MAX_VALUE_BYTES:
            raise ValueTooLong(f"a value of {len(value)} bytes; at most {MAX_VALUE_BYTES} are allowed")
        self.items[key] = value

    @operation
    def delete(self, key: bytes) -> bool:
        """Remove `key`. Return whether it had a value."""
        return self.items.pop(key, None) is not None

    @operation
    def append(self, key: bytes, value: bytes) -> int:
        """Append `value` to the value of `key`, which counts as empty if it has none. Return the new length in bytes."""
        longer = self.items.get(key, b"") + value
        self.put(key, longer)
        return len(longer)

    @operation
    def compare_and_set(self, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """Set the value of `key` if it is `expected` (None: if it has none). Return whether it was."""
        if self.items.get(key) != expected:
            return False
        self.put(key, value)
        return True

    @operation
    def increment(self, key: bytes, amount: int = 1) -> int:
        """Add `amount` to the decimal number of `key`, which counts as 0 if it has no value. Return the sum."""
        number = _number(key, self.items.get(key, b"0")) + amount
        if not -(2**63) <= number < 2**63:
            raise NotANumber(f"the value of {key!r} would be {number}, which is more than 64 bits")
        self.put(key, b"%d" % number)
        return number

    @query
    def scan(self, prefix: bytes = b"", limit: int = 100) -> list[tuple[bytes, bytes]]:
        """Return the first `limit` keys that begin with `prefix`, in order, with their values."""
        if not 1 <= limit <= MAX_SCAN:
            raise BadLimit(f"a limit of {limit}; 1 to {MAX_SCAN} are allowed")
        return self.items.prefix(prefix, limit=limit)


def _number(key: bytes, value: bytes) -> int:
    digits = value.removeprefix(b"-")
    if not (digits.isdigit() and len(digits) <= 19):
        raise NotANumber(f"the value of {key!r} is no decimal number of 64 bits: {value[:24]!r}")
    return int(value)
