"""The commands to the controller of a testbed, their answers, and the client.

A command is one line of JSON over the socket `Plan.controller_socket`, with its name as `command`. The answer is one line too: the result
under `done`, or the reason why there is none under `error` (wrong use) or `failure`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stretto.core.errors import ConfigurationError, StrettoError
from stretto.network.designs import Design
from stretto.network.groups import Group
from stretto.network.verification import Violation

LONGEST_LINE_BYTES = 1 << 24
_PATIENCE_S = 30.0
T = TypeVar("T")


class SetDesign(msgspec.Struct, frozen=True, tag_field="command", tag="set_design", forbid_unknown_fields=True):
    """Compile all groups under this design from now on. Answered by a `Change`."""

    design: Design


class SetGroups(msgspec.Struct, frozen=True, tag_field="command", tag="set_groups", forbid_unknown_fields=True):
    """Use these groups and no others from now on. Answered by a `Change`."""

    groups: tuple[Group, ...]


class Status(msgspec.Struct, frozen=True, tag_field="command", tag="status", forbid_unknown_fields=True):
    """Answered by a `State`."""


class Verify(msgspec.Struct, frozen=True, tag_field="command", tag="verify", forbid_unknown_fields=True):
    """Compare the tables of all switches with the compiled ones. Answered by a `Verification`."""


class Events(msgspec.Struct, frozen=True, tag_field="command", tag="events", forbid_unknown_fields=True):
    """Answered by a list of the remembered changes with a number above `since`."""

    since: int = 0


class Installed(msgspec.Struct, frozen=True, tag_field="command", tag="installed", forbid_unknown_fields=True):
    """Answered by a list of the installed rules, as rows of `network.rules.rows`, with the packets that each has matched."""


Command = SetDesign | SetGroups | Status | Verify | Events | Installed


class Change(msgspec.Struct, frozen=True):
    """An event and the controller's reaction to it.

    Examples of `causes` are `root0 failed`, `p0t0:5 repaired`, `design serialised` and `groups`. Times are CLOCK_MONOTONIC in ns: when the
    controller noticed the event or got the command, when it had computed the new tables, and when the last switch had confirmed. `flows`
    counts the flows that were added, changed or deleted. `moved` has the old and new roots of each group whose roots changed. `refused`
    lists the requests that switches refused.
    """

    number: int
    causes: tuple[str, ...]
    noticed_ns: int
    computed_ns: int
    confirmed_ns: int
    flows: int
    moved: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    refused: tuple[str, ...]


class State(msgspec.Struct, frozen=True):
    """The state of a controller: its design and groups, and the failures that it sees.

    `failed` has switches, and links by their first ends; `cut` is that of `network.controller`; `changes` is the number of the last change.
    """

    design: Design
    groups: tuple[Group, ...]
    roots: dict[str, tuple[str, ...]]
    failed: tuple[str, ...]
    cut: dict[str, dict[str, tuple[str, ...]]]
    changes: int


class Deviation(msgspec.Struct, frozen=True):
    """A flow or group that is missing on a switch, unexpected, or wrong."""

    switch: str
    kind: str
    detail: str


class Verification(msgspec.Struct, frozen=True):
    """The result of a verification: how much was compared, the deviations, and the violations by the rules that the switches obey.

    `unreachable` switches were not compared.
    """

    switches: int
    flows: int
    groups: int
    checked: int
    unreachable: tuple[str, ...]
    deviations: tuple[Deviation, ...]
    violations: tuple[Violation, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.deviations and not self.violations


class ControllerClient:
    """A client of the controller that listens at `path`. Each call returns when the switches have confirmed.

    All calls raise ConfigurationError for invalid arguments, in which case nothing has changed, and StrettoError if no controller answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def set_design(self, design: Design) -> Change:
        """Compile all groups under this design from now on."""
        return self._ask(SetDesign(design), Change)

    def set_groups(self, groups: tuple[Group, ...]) -> Change:
        """Use these groups and no others from now on."""
        return self._ask(SetGroups(groups), Change)

    def status(self) -> State:
        """The design, the groups and the failures that the controller sees."""
        return self._ask(Status(), State)

    def verify(self) -> Verification:
        """Compare the tables of all switches with the compiled ones."""
        return self._ask(Verify(), Verification)

    def events(self, since: int = 0) -> list[Change]:
        """The remembered changes with a number above `since`."""
        return self._ask(Events(since), list[Change])

    def installed(self) -> list[dict[str, Any]]:
        """The installed rules, a row each, with the packets that each has matched."""
        return self._ask(Installed(), list[dict[str, Any]])

    def _ask(self, command: Command, kind: type[T]) -> T:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_PATIENCE_S)
                connection.connect(str(self._path))
                connection.sendall(msgspec.json.encode(command) + b"\n")
                with connection.makefile("rb") as lines:
                    line = lines.readline(LONGEST_LINE_BYTES)
        except OSError as error:
            raise StrettoError(f"no controller answers at {self._path}: {error.strerror or error}") from None
        answer = msgspec.json.decode(line or b'{"failure": "it has ended"}', type=dict[str, msgspec.Raw])
        if "error" in answer:
            raise ConfigurationError(msgspec.json.decode(answer["error"], type=str))
        if "failure" in answer:
            raise StrettoError(f"controller: {msgspec.json.decode(answer['failure'], type=str)}")
        return msgspec.json.decode(answer["done"], type=kind)
