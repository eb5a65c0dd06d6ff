"""The tree of exceptions in core/errors.py is the one in the code, and users get all that they can meet from `stretto`."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

import stretto
from stretto.core import errors

LINE = re.compile(r"^ {4}((?:│   |    )*)[├└]── (\w+) +\S")


def drawn() -> Iterator[tuple[str, str]]:
    """Each exception of the drawing with its base."""
    path = ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        if found := LINE.match(line):
            depth = len(found[1]) // 4 + 1
            path[depth:] = [found[2]]
            yield path[depth], path[depth - 1]


def defined() -> set[type[Exception]]:
    """All exceptions that modules of the package define for others."""
    found: set[type[Exception]] = set()
    for module in pkgutil.walk_packages(stretto.__path__, "stretto."):
        if not module.name.endswith("__main__"):
            for name, value in vars(import_module(module.name)).items():
                if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.name and name[0] != "_":
                    found.add(value)
    return found


def test_the_drawing_is_the_tree() -> None:
    assert sorted(drawn()) == sorted((error.__name__, base.__name__) for error in defined() for base in error.__bases__)


def test_errors_that_users_meet_are_exported() -> None:
    public = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert public <= set(stretto.__all__)
    assert all(getattr(stretto, name) is getattr(errors, name) for name in public)
