"""A group of commands, each in a module of its own, which is imported when the command is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands are modules of a package: each has a click command as its attribute `command`.

    - `package`: the package's name;
    - `summaries`: a line for each command, by its name. Help shows these, so that it imports no command;
    - `hidden`: commands that help does not show.
    """

    def __init__(self, *arguments: Any, package: str, summaries: Mapping[str, str], hidden: frozenset[str] = frozenset(), **settings: Any):
        super().__init__(*arguments, **settings)
        self._package = package
        self._summaries = summaries
        self._hidden = hidden

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a reader wants them."""
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of the module of this name."""
        if cmd_name not in self._summaries and cmd_name not in self._hidden:
            return None
        command: click.Command = import_module(f"{self._package}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))
