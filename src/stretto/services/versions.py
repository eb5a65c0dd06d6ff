"""Versions of a service: which methods and containers a version has, and what must be equal in the code of all replicas.

Replicas are replaced one by one, so two releases of a service run side by side. The *active* version is part of the replicated state, and
an entry of the log changes it on all replicas alike. Newer code behaves as the active version until then; what two releases say of the
active version, its *signature*, is compared.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import inspect

SINCE_MARK = "@"
"""Separates the name of a method from the first version that has it, in a call; no name contains it."""


class Versioned(Protocol):
    """What some versions have: from `since` on, and before `until`; None: all later ones."""

    @property
    def since(self) -> int: ...
    @property
    def until(self) -> int | None: ...


def has(version: int, thing: Versioned) -> bool:
    """Whether a version has this method or container."""
    return thing.since <= version and (thing.until is None or version < thing.until)


def check_versions(where: str, newest: int, since: Any, until: Any) -> None:
    """Raise TypeError, with a text that begins with `where`, unless `since` is a version up to `newest` and `until` is later, or None."""
    if type(since) is not int or not 1 <= since <= newest:
        raise TypeError(f"{where}: since={since!r} is no version of this class; its versions are 1 to {newest} (`version = {newest}`)")
    if until is not None and (type(until) is not int or until <= since):
        raise TypeError(f"{where}: until={until!r} is not a version after since={since}")


def tag_of(name: str, since: int) -> str:
    """How a call names its method: by its name, and by the first version that has it, unless that is the first of all."""
    return name if since == 1 else f"{name}{SINCE_MARK}{since}"


def since_of(tag: str) -> int:
    """The first version that has the method that a call names; 1 if the tag does not say."""
    since = tag.rpartition(SINCE_MARK)[2] if SINCE_MARK in tag else ""
    return int(since) if since.isascii() and since.isdigit() and len(since) < 10 else 1


def written(declared: Any) -> str:
    """A type as text that is equal only for types with one encoding: with the fields of structs and the members of enumerations."""
    return _written(inspect.type_info(declared), ())


def _written(info: Any, within: tuple[Any, ...]) -> str:
    if isinstance(info, inspect.Metadata):
        return _written(info.type, within)
    name = type(info).__name__.removesuffix("Type").lower()
    if isinstance(info, inspect.EnumType):
        return f"{info.cls.__name__}({', '.join(repr(member.value) for member in info.cls)})"
    if hasattr(info, "fields"):
        if info.cls in within:
            return str(info.cls.__name__)
        inner = (*within, info.cls)
        fields = [f"{field.encode_name}: {_written(field.type, inner)}{'' if field.required else ' = ...'}" for field in info.fields]
        tag = [f"tag={info.tag!r}"] if getattr(info, "tag", None) is not None else []
        return f"{info.cls.__name__}({', '.join([*tag, *fields])})"
    parts = []
    for field in info.__struct_fields__:
        value = getattr(info, field)
        if isinstance(value, inspect.Type):
            parts.append(_written(value, within))
        elif isinstance(value, tuple) and all(isinstance(item, inspect.Type) for item in value):
            parts += [_written(item, within) for item in value]
        elif value is not None:
            parts.append(f"{field}={value!r}")
    return f"{name}[{', '.join(parts)}]" if parts else name
