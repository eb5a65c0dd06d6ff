"""The marked methods of a service and the encoding of their calls, compiled from the annotations when the class is defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec

from stretto.core.state_machine import encode
from stretto.services.values import check_replicable
from stretto.services.versions import tag_of, written


@dataclass(frozen=True, eq=False)
class Method:
    """One operation or query.

    - `parameters`: names and types in order; `result_type`: what it returns;
    - `since`, `until`: the versions that have it; see `stretto.services.versions`;
    - `call_type`: the struct of its arguments, tagged with its name and `since`;
    - `run(service, call)`: call the method and encode its result.
    """

    name: str
    where: str
    is_query: bool
    since: int
    until: int | None
    parameters: dict[str, Any]
    result_type: Any
    call_type: type[msgspec.Struct]
    run: Callable[[Any, Any], bytes]
    decode_call: Callable[[bytes], Any]
    decode_result: Callable[[bytes], Any]

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Encode a call with these arguments. Raises TypeError that names the parameter whose argument does not fit."""
        try:
            call = self.call_type(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.where}: {error}") from None
        try:
            encoded = encode(call)
            self.decode_call(encoded)
        except (TypeError, ValueError, OverflowError, RecursionError):
            self._refuse(call)
            raise
        return encoded

    def signature(self) -> str:
        """What must be equal on all replicas: its kind, its parameters and its result."""
        kind = "query" if self.is_query else "operation"
        defaults = len(self.call_type.__struct_defaults__)
        optional = list(self.parameters)[len(self.parameters) - defaults :]
        values = dict(zip(optional, self.call_type.__struct_defaults__, strict=True))
        parameters = [
            f"{name}: {written(declared)}" + (f" = {values[name]!r}" if name in values else "")
            for name, declared in self.parameters.items()
        ]
        return f"{kind} {self.name}({', '.join(parameters)}) -> {written(self.result_type)}"

    def _refuse(self, call: msgspec.Struct) -> None:
        """Raise TypeError for the first argument that does not have the type of its parameter."""
        for name, declared in self.parameters.items():
            value = getattr(call, name)
            try:
                msgspec.msgpack.decode(encode(value), type=declared)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise TypeError(f"{self.where}: {name}: {error}") from None


def methods_of(service_class: type) -> dict[str, Method]:
    """Return the marked methods of a class and its bases, by name. Raises TypeError that names a method whose signature is not allowed."""
    methods: dict[str, Method] = {}
    for base in reversed(service_class.__mro__):
        for name, member in vars(base).items():
            mark = getattr(member, "__stretto_mark__", None)
            if mark is not None:
                methods[name] = _method(f"{base.__name__}.{name}", name, mark, member)
            elif name in methods:
                raise TypeError(f"{base.__name__}.{name} replaces a {methods[name].where}; mark it @operation or @query too")
    return methods


@dataclass(frozen=True)
class Mark:
    """What the decorator of a method says: `is_query`, and the versions that have the method."""

    is_query: bool
    since: int
    until: int | None


def _method(where: str, name: str, mark: Mark, function: Callable[..., Any]) -> Method:
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{where}: an operation is an ordinary method, not async and not a generator")
    parameters, defaults, result_type = _signature(where, function)
    fields = [(field, declared, *defaults.get(field, ())) for field, declared in parameters.items()]
    tag = tag_of(name, mark.since)
    try:
        call_type = msgspec.defstruct(name, fields, frozen=True, array_like=True, tag=tag, gc=False, forbid_unknown_fields=True)
        decode_call = msgspec.msgpack.Decoder(call_type).decode
        decode_result = msgspec.msgpack.Decoder(result_type).decode
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None
    # One generated line instead of `method(service, *astuple(call))` saves an eighth of a microsecond in every operation.
    source = f"lambda service, call: encode(method({', '.join(['service', *(f'call.{field}' for field in parameters)])}))"
    run = eval(source, {"encode": encode, "method": function})
    versions = (mark.since, mark.until)
    return Method(name, where, mark.is_query, *versions, parameters, result_type, call_type, run, decode_call, decode_result)


def _signature(where: str, function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, tuple[Any]], Any]:
    """The parameter types, the defaults and the result type of a method."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"{where}: {error}; its types must be global names of the module, defined before the class") from None
    parameters: dict[str, Any] = {}
    defaults: dict[str, tuple[Any]] = {}
    _, *own = inspect.signature(function).parameters.values()
    for parameter in own:
        name = parameter.name
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"{where}: {parameter} is not supported; an operation has plain parameters, without *, ** and /")
        if name not in hints:
            raise TypeError(f"{where}: parameter {name} has no annotation")
        check_replicable(hints[name], f"{where}: parameter {name}")
        parameters[name] = hints[name]
        if parameter.default is not parameter.empty:
            defaults[name] = (parameter.default,)
    if "return" not in hints:
        raise TypeError(f"{where}: the result has no annotation; write -> None if there is none")
    check_replicable(hints["return"], f"{where}: the result")
    return parameters, defaults, hints["return"]
