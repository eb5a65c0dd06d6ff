"""The sequential model of the key-value store: what each operation does to the value of its key, without the code of the store."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from stretto.apps.kv import MAX_KEY_BYTES, MAX_SCAN, MAX_VALUE_BYTES, BadLimit, KeyTooLong, KeyValueStore, NotANumber, ValueTooLong
from stretto.core.errors import ApplicationError
from stretto.core.model import UNKNOWN, Query
from stretto.services.service import ServiceCodec

Value = bytes | None
Answer = tuple[Any, Value]


class KeyValueModel:
    """The key-value store. Operations are tuples of a method's name and its arguments; the state of a key is its value. See Model.

    Parameters: `initial`, the first value of every key. Some stores return the empty string for a key that was never written.
    """

    name = "kv"

    def __init__(self, initial: Value = None) -> None:
        self._initial = initial
        self._codec = ServiceCodec(KeyValueStore)

    def operation(self, name: str, arguments: Sequence[Any]) -> Any:
        """See Model. Text is encoded as UTF-8."""
        encoded = tuple(argument.encode() if isinstance(argument, str) else argument for argument in arguments)
        try:
            self._codec.encode(name, encoded)
        except (AttributeError, TypeError) as error:
            raise ValueError(str(error)) from None
        return (name, *encoded)

    def decode(self, operation: bytes, result: bytes | None) -> tuple[Any, Any]:
        """See Model."""
        try:
            name, arguments = self._codec.call(operation)
        except (msgspec.DecodeError, AttributeError) as error:
            raise ValueError(f"no operation of {self._codec.name}: {error}") from None
        if result is None:
            return (name, *arguments), UNKNOWN
        try:
            value = self._codec.decode(name, result)
        except ApplicationError as error:
            value = type(error)
        return (name, *arguments), tuple(value) if isinstance(value, list) else value

    def key(self, operation: Any) -> bytes | None:
        """See Model."""
        return None if operation[0] == "scan" else operation[1]

    def initial(self) -> Value:
        """See Model."""
        return self._initial

    def step(self, state: Value, operation: Any) -> Answer:
        """See Model."""
        return _STEPS[operation[0]](state, *operation[1:])

    def is_query(self, operation: Any, result: Any) -> bool:
        """See Model. It is also true of operations that failed, deletes of missing keys, and compare_and_sets that changed nothing."""
        return operation[0] in ("get", "scan") or result is False or isinstance(result, type)

    def overwrites(self, operation: Any, result: Any) -> bool:
        """See Model."""
        if operation[0] == "put":
            return result in (None, UNKNOWN) and _put(None, *operation[1:])[0] is None
        return operation[0] == "delete" and result is UNKNOWN

    def parts(self, operation: Any, result: Any, keys: Sequence[Any]) -> Mapping[Any, Query]:
        """See Model. A scan is a get of each key with the prefix, up to the last key that it returned if it reached its limit."""
        _, prefix, limit = operation
        impossible = {prefix: (("get", prefix), result)}  # no get has such a result
        if not 1 <= limit <= MAX_SCAN:
            return {} if result is BadLimit else impossible
        if isinstance(result, type) or not _is_possible(result, prefix, limit):
            return impossible
        gets = {key: (("get", key), value) for key, value in result}
        last = result[-1][0] if len(result) == limit else None
        for index in range(bisect_left(keys, prefix), len(keys)):
            key = keys[index]
            if not key.startswith(prefix) or (last is not None and key > last):
                break
            gets.setdefault(key, (("get", key), None))
        return gets

    def describe(self, operation: Any, result: Any) -> str:
        """See Model."""
        name, *arguments = operation
        text = f"{name}({', '.join(map(_short, arguments))})"
        return text if result is UNKNOWN or (result is None and name == "put") else f"{text}: {_short(result)}"

    def describe_state(self, state: Value) -> str:
        """See Model."""
        return _short(state)


def model() -> KeyValueModel:
    """The model of `stretto.apps.kv`."""
    return KeyValueModel()


def model_of_texts() -> KeyValueModel:
    """The model of stores that return the empty string for a key that was never written, as the stores of text histories do."""
    return KeyValueModel(b"")


def _is_possible(rows: Sequence[tuple[bytes, bytes]], prefix: bytes, limit: int) -> bool:
    found = [key for key, _ in rows]
    return len(rows) <= limit and all(key.startswith(prefix) for key in found) and found == sorted(set(found))


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, tuple):
        return f"[{', '.join(f'{_short(key)}={_short(found)}' for key, found in value)}]"
    if not isinstance(value, bytes):
        return str(value)
    text = value.decode("utf-8", "backslashreplace")
    return f"'{text}'" if len(text) <= 40 else f"'{text[:12]}...{text[-24:]}' ({len(value)} bytes)"


def _get(state: Value, key: bytes) -> Answer:
    return state, state


def _put(state: Value, key: bytes, value: bytes) -> Answer:
    if len(key) > MAX_KEY_BYTES:
        return KeyTooLong, state
    if len(value) > MAX_VALUE_BYTES:
        return ValueTooLong, state
    return None, value


def _delete(state: Value, key: bytes) -> Answer:
    return state is not None, None


def _append(state: Value, key: bytes, value: bytes) -> Answer:
    longer = (state or b"") + value
    failure, after = _put(state, key, longer)
    return failure or len(longer), after


def _compare_and_set(state: Value, key: bytes, expected: Value, value: bytes) -> Answer:
    if state != expected:
        return False, state
    failure, after = _put(state, key, value)
    return failure or True, after


def _increment(state: Value, key: bytes, amount: int) -> Answer:
    digits = b"0" if state is None else state
    if not (digits.removeprefix(b"-").isdigit() and len(digits.removeprefix(b"-")) <= 19):
        return NotANumber, state
    number = int(digits) + amount
    if not -(2**63) <= number < 2**63:
        return NotANumber, state
    failure, after = _put(state, key, b"%d" % number)
    return number if failure is None else failure, after


_STEPS: dict[str, Callable[..., Answer]] = {
    "get": _get,
    "put": _put,
    "delete": _delete,
    "append": _append,
    "compare_and_set": _compare_and_set,
    "increment": _increment,
}
