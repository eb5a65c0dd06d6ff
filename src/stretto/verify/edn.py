"""A reader of EDN, the data notation of Clojure, as far as histories use it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TOKEN = re.compile(r'[\s,]*(?:(?P<bracket>#?\{|[\[\](){}])|"(?P<string>(?:[^"\\]|\\.)*)"|(?P<atom>[^\s,\[\](){}"]+))')
_CLOSING = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_CONSTANTS = {"nil": None, "true": True, "false": False}


class Keyword(str):
    """An EDN keyword, without its colon."""

    __slots__ = ()


def parsed(text: str) -> Any:
    """The one EDN value of a text. Vectors and lists become tuples. Raises ValueError if the text is not one value."""
    tokens = _tokens(text)
    try:
        value = _value(next(tokens), tokens)
    except StopIteration:
        raise ValueError("the value does not end") from None
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    except TypeError:
        raise ValueError("a map in a set, or as a key of a map, is not supported") from None
    rest = next(tokens, None)
    if rest is not None:
        raise ValueError(f"unexpected {rest.group().strip()!r} after the value")
    return value


def _tokens(text: str) -> Iterator[re.Match[str]]:
    place, end = 0, len(text.rstrip(" \t\r\n,"))
    while place < end:
        token = _TOKEN.match(text, place)
        if token is None:
            raise ValueError(f"cannot read {text[place:end][:40]!r}")
        yield token
        place = token.end()


def _value(token: re.Match[str], tokens: Iterator[re.Match[str]]) -> Any:
    if (string := token["string"]) is not None:
        return json.loads(f'"{string}"', strict=False)
    if (atom := token["atom"]) is not None:
        return _atom(atom)
    bracket = token["bracket"]
    if bracket not in _CLOSING:
        raise ValueError(f"unexpected {bracket!r}")
    items: list[Any] = []
    while (token := next(tokens))["bracket"] != _CLOSING[bracket]:
        items.append(_value(token, tokens))
    if bracket == "{":
        if len(items) % 2:
            raise ValueError("a map has a key without a value")
        return dict(zip(items[::2], items[1::2], strict=True))
    return frozenset(items) if bracket == "#{" else tuple(items)


def _atom(atom: str) -> Any:
    if atom in _CONSTANTS:
        return _CONSTANTS[atom]
    if atom.startswith(":"):
        return Keyword(atom[1:])
    try:
        return int(atom.removesuffix("N"))
    except ValueError:
        pass
    try:
        return float(atom.removesuffix("M"))
    except ValueError:
        raise ValueError(f"cannot read {atom[:40]!r}") from None
