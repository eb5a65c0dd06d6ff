"""A key-value store: the first application, and the example of how a service is written."""

from __future__ import annotations

from stretto.core.errors import ApplicationError
from stretto.services.containers import SortedMap
from stretto.services.service import Service, operation, query

MAX_KEY_BYTES = 1_024
MAX_VALUE_BYTES = 31_744
"""So that a compare_and_set of the longest key and two of the longest values fits the default `max_request_bytes`."""
MAX_SCAN = 1_000


class KeyTooLong(ApplicationError):
    """The key is longer than MAX_KEY_BYTES."""


class ValueTooLong(ApplicationError):
    """The value is, or would become, longer than MAX_VALUE_BYTES."""


class NotANumber(ApplicationError):
    """The value to increment is not a decimal number of 64 bits, or would no longer be one."""


class BadLimit(ApplicationError):
    """The limit of a scan is not in 1 to MAX_SCAN."""


class KeyValueStore(Service):
    """Bytes under bytes, in the order of the keys."""

    errors = (KeyTooLong, ValueTooLong, NotANumber, BadLimit)

    def __init__(self) -> None:
        self.items = SortedMap[bytes, bytes]()

    @query
    def get(self, key: bytes) -> bytes | None:
        """The value of `key`; None if it has none."""
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
        """Remove `key`; whether it had a value."""
        return self.items.pop(key, None) is not None

    @operation
    def append(self, key: bytes, value: bytes) -> int:
        """Add `value` to the end of what `key` has, nothing counting as empty; the new length."""
        longer = self.items.get(key, b"") + value
        self.put(key, longer)
        return len(longer)

    @operation
    def compare_and_set(self, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """Set the value of `key` if it is `expected` now (None: if it has none); whether it was."""
        if self.items.get(key) != expected:
            return False
        self.put(key, value)
        return True

    @operation
    def increment(self, key: bytes, amount: int = 1) -> int:
        """Add `amount` to the decimal number that `key` has, nothing counting as 0; the new number."""
        number = _number(key, self.items.get(key, b"0")) + amount
        if not -(2**63) <= number < 2**63:
            raise NotANumber(f"the value of {key!r} would be {number}, which is more than 64 bits")
        self.put(key, b"%d" % number)
        return number

    @query
    def scan(self, prefix: bytes = b"", limit: int = 100) -> list[tuple[bytes, bytes]]:
        """The first `limit` keys that begin with `prefix`, in order, with their values."""
        if not 1 <= limit <= MAX_SCAN:
            raise BadLimit(f"a limit of {limit}; 1 to {MAX_SCAN} are allowed")
        return self.items.prefix(prefix, limit=limit)


def _number(key: bytes, value: bytes) -> int:
    digits = value.removeprefix(b"-")
    if not (digits.isdigit() and len(digits) <= 19):
        raise NotANumber(f"the value of {key!r} is no decimal number of 64 bits: {value[:24]!r}")
    return int(value)
