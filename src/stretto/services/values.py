"""Which values a replicated state may hold.

Undo cannot revert a change that a mutable value makes in place. A value whose order depends on its history or on the hash seed of the
process (a set) would differ between replicas. So every container declares a type that is immutable at every depth. It keeps each value
exactly as a restored snapshot would contain it, so that equal states give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from stretto.core.state_machine import encode

_ATOMS = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
)
_KEY_ATOMS = (inspect.BoolType, inspect.IntType, inspect.StrType, inspect.BytesType)
_UNORDERED = (inspect.SetType, inspect.FrozenSetType)
_UNKNOWN = (inspect.AnyType, inspect.CustomType, inspect.RawType, inspect.ExtType)
_EXACT = (bytes, bool, float)


class _NeverExact:
    """A type without instances."""


def type_name(declared: Any) -> str:
    """A type as it is written in source code."""
    return declared.__name__ if isinstance(declared, type) else str(declared)


class ValueType:
    """The declared type of values in a state.

    `exact` is a class whose instances need no check, so that the common case costs one comparison; all other values go through `accept`.
    Raises TypeError, with a text that begins with `where`, if the type is not immutable or, with `key`, not ordered.
    """

    __slots__ = ("_decode", "_role", "_where", "declared", "exact")

    def __init__(self, declared: Any, where: str, role: str, *, key: bool = False) -> None:
        self.declared = declared
        self._where = where
        self._role = role
        self.exact: type = declared if declared in _EXACT else _NeverExact
        info = _describe(declared, where)
        if key:
            _check_ordered(info, declared, where)
        for part in _parts(info):
            if _is_mutable(part):
                raise TypeError(f"{where}: {type_name(declared)} can change in place, which cannot be undone; use tuples, frozen structs")
        check_replicable(declared, where)
        self._decode = msgspec.msgpack.Decoder(declared).decode

    def accept(self, value: Any) -> Any:
        """Return the value as it is kept. Raises TypeError if it is not of the declared type."""
        if type(value) is self.exact:
            return value
        reason = ""
        try:
            kept = self._decode(encode(value))
            if kept == value:
                return kept
        except msgspec.ValidationError:
            pass
        except (TypeError, ValueError, OverflowError) as error:
            reason = f" ({error})"
        raise TypeError(f"{self._where}: {self._role} must be {type_name(self.declared)}, not {type(value).__name__}{reason}")


def check_replicable(declared: Any, where: str) -> None:
    """Raise TypeError, with a text that begins with `where`, if values of this type could differ between replicas or cannot be encoded."""
    for part in _parts(_describe(declared, where)):
        if isinstance(part, _UNORDERED):
            raise TypeError(f"{where}: {type_name(declared)} has no order that is the same on all replicas; use a sorted tuple or list")
        if isinstance(part, _UNKNOWN):
            raise TypeError(f"{where}: {type_name(declared)} does not define how it is encoded; use plain types, tuples, msgspec structs")


def _describe(declared: Any, where: str) -> inspect.Type:
    try:
        return inspect.type_info(declared)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None


def _check_ordered(info: inspect.Type, declared: Any, where: str) -> None:
    for part in _parts(info):
        if not isinstance(part, (*_KEY_ATOMS, inspect.TupleType, inspect.VarTupleType)):
            raise TypeError(f"{where}: {type_name(declared)} is no key; a key is bytes, str, int, bool, or a tuple of these")


def _is_mutable(info: inspect.Type) -> bool:
    if isinstance(info, inspect.StructType):
        return not info.cls.__struct_config__.frozen
    composites = (inspect.UnionType, inspect.TupleType, inspect.VarTupleType, inspect.NamedTupleType)
    return not isinstance(info, (*_ATOMS, *composites, *_UNORDERED, *_UNKNOWN))


def _parts(info: inspect.Type) -> Iterator[inspect.Type]:
    """The type and all types that it is composed of, each struct once."""
    seen: set[Any] = set()
    waiting: list[Any] = [info]
    while waiting:
        part = waiting.pop()
        if isinstance(part, inspect.Metadata):
            waiting.append(part.type)
            continue
        if hasattr(part, "fields"):
            if part.cls in seen:
                continue
            seen.add(part.cls)
            waiting += [field.type for field in part.fields]
        elif isinstance(part, inspect.TupleType):
            waiting += part.item_types
        elif isinstance(part, inspect.UnionType):
            waiting += part.types
        elif isinstance(part, inspect.DictType):
            waiting += [part.key_type, part.value_type]
        elif isinstance(part, inspect.CollectionType):
            waiting.append(part.item_type)
        yield part
