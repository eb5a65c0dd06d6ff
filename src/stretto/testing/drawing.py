"""Calls drawn from a service's annotations. Needs hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from msgspec import inspect as types

from stretto.services.service import ServiceCodec
from stretto.services.signatures import Method
from stretto.testing.calls import Call

Arguments = Mapping[str, Mapping[str, st.SearchStrategy[Any]]]
"""By method and parameter: what to draw an argument from, where its annotation allows too much."""

_INT64 = 2**63


def calls_of_service(codec: ServiceCodec, arguments: Arguments) -> st.SearchStrategy[Call]:
    """A strategy for calls of any method. Raises ValueError if `arguments` names a method or parameter that does not exist."""
    for method, own in arguments.items():
        if method not in codec.methods:
            raise ValueError(f"arguments: {codec.name} has no operation {method!r}")
        if unknown := own.keys() - codec.methods[method].parameters.keys():
            raise ValueError(f"arguments: {codec.name}.{method} has no parameter {min(unknown)!r}")
    return st.one_of([_calls_of(method, arguments.get(name, {})) for name, method in sorted(codec.methods.items())])


def _calls_of(method: Method, own: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Call]:
    drawn = [own[name] if name in own else strategy_for(declared) for name, declared in method.parameters.items()]
    return st.builds(Call, st.just(method.name), st.tuples(*drawn), st.integers(0, 2**62), st.integers(0, 2**32 - 1))


def strategy_for(declared: Any) -> st.SearchStrategy[Any]:
    """A hypothesis strategy for a type that operations may have; it prefers a few values, so that operations often use the same keys."""
    return _strategy(types.type_info(declared), {})


_PLAIN: dict[type[types.Type], Any] = {
    types.NoneType: type(None),
    types.BoolType: bool,
    types.UUIDType: UUID,
    types.DecimalType: Decimal,
    types.DateTimeType: datetime,
    types.DateType: date,
    types.TimeType: time,
    types.TimeDeltaType: timedelta,
}


def _strategy(info: Any, structs: dict[type, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    def of(part: Any) -> st.SearchStrategy[Any]:
        return _strategy(part, structs)

    match info:
        case types.Metadata():
            return of(info.type)
        case types.IntType():
            return _integers(info)
        case types.FloatType():
            low, high = (info.gt if info.ge is None else info.ge), (info.lt if info.le is None else info.le)
            return st.floats(low, high, exclude_min=info.gt is not None, exclude_max=info.lt is not None)
        case types.BytesType():
            return _sized(st.binary, [b"", b"a", b"b", b"ab", b"7"], info)
        case types.StrType(pattern=str() as pattern):
            return st.from_regex(pattern).filter(lambda text: _fits(text, info))
        case types.StrType():
            return _sized(st.text, ["", "a", "b", "ab", "7"], info)
        case types.EnumType():
            return st.sampled_from(list(info.cls))
        case types.LiteralType():
            return st.sampled_from(list(info.values))
        case types.ListType():
            return _sized(lambda **sizes: st.lists(of(info.item_type), **sizes), [], info)
        case types.VarTupleType():
            return _sized(lambda **sizes: st.lists(of(info.item_type), **sizes), [], info).map(tuple)
        case types.TupleType():
            return st.tuples(*map(of, info.item_types))
        case types.DictType():
            return _sized(lambda **sizes: st.dictionaries(of(info.key_type), of(info.value_type), **sizes), [], info)
        case types.UnionType():
            return st.one_of(*map(of, info.types))
        case types.StructType() | types.NamedTupleType() | types.DataclassType():
            if info.cls not in structs:
                structs[info.cls] = st.deferred(lambda: st.builds(info.cls, **{field.name: of(field.type) for field in info.fields}))
            return structs[info.cls]
    if type(info) in _PLAIN:
        return st.from_type(_PLAIN[type(info)])
    raise TypeError(f"no arguments can be drawn from {info}; give a strategy of your own in `arguments`")


def _integers(info: types.IntType) -> st.SearchStrategy[int]:
    low = info.ge if info.ge is not None else info.gt + 1 if info.gt is not None else -_INT64
    high = info.le if info.le is not None else info.lt - 1 if info.lt is not None else _INT64 - 1
    numbers = st.integers(low, high)
    if info.multiple_of:
        step = info.multiple_of
        return numbers.map(lambda number: number // step * step).filter(lambda number: low <= number <= high)
    few = [number for number in range(-2, 11) if low <= number <= high]
    return st.one_of(st.sampled_from(few), numbers) if few else numbers


def _sized(make: Any, few: list[Any], info: Any) -> st.SearchStrategy[Any]:
    """Values of the allowed lengths, and often one of `few`."""
    fitting = [value for value in few if _fits(value, info)]
    least = info.min_length or 0
    general = make(min_size=least, max_size=info.max_length if info.max_length is not None else least + 20)
    return st.one_of(st.sampled_from(fitting), general) if fitting else general


def _fits(value: Any, info: Any) -> bool:
    return (info.min_length or 0) <= len(value) and (info.max_length is None or len(value) <= info.max_length)
