"""What the controller of a testbed is asked and answers, and whoever asks it.

One line of JSON each way, over the socket `Plan.controller_socket`: a command with its name as `command`, and the answer under `done`, or
under `error` why there is none.
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
    """These are the groups from now on, and there are no others. Answered by a `Change`."""

    groups: tuple[Group, ...]


class Status(msgspec.Struct, frozen=True, tag_field="command", tag="status", forbid_unknown_fields=True):
    """Answered by a `State`."""


class Verify(msgspec.Struct, frozen=True, tag_field="command", tag="verify", forbid_unknown_fields=True):
    """Compare what all switches hold with what they should. Answered by a `Verification`."""


class Events(msgspec.Struct, frozen=True, tag_field="command", tag="events", forbid_unknown_fields=True):
    """Answered by a list of the changes with a number above `since`, as far as they are remembered."""

    since: int = 0


class Installed(msgspec.Struct, frozen=True, tag_field="command", tag="installed", forbid_unknown_fields=True):
    """Answered by a list of the rules that switches hold, as `network.rules.rows` has them, with the packets that each has met."""


Command = SetDesign | SetGroups | Status | Verify | Events | Installed


class Change(msgspec.Struct, frozen=True):
    """Something happened, and what the controller did about it.

    `causes` are such as `root0 failed`, `p0t0:5 repaired`, `design serialised`, `groups`. Times are those of CLOCK_MONOTONIC, in ns: when
    the controller noticed or was asked, when it knew what to do, and when the last switch confirmed. `flows` counts those added,
    changed and deleted. `moved` names for each group whose roots changed those before and after. `refused` is not empty if a switch did
    not do as it was told.
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
    """What a controller has been told and sees. `failed` are switches, and links by their first ends; `cut` is that of
    `network.controller`; `changes` is the number of the last change."""

    design: Design
    groups: tuple[Group, ...]
    roots: dict[str, tuple[str, ...]]
    failed: tuple[str, ...]
    cut: dict[str, dict[str, tuple[str, ...]]]
    changes: int


class Deviation(msgspec.Struct, frozen=True):
    """A flow or group that a switch should hold and does not, or holds and should not."""

    switch: str
    kind: str
    detail: str


class Verification(msgspec.Struct, frozen=True):
    """What a comparison found: how much was compared, what deviates, and what the rules that switches obey do wrong.

    `unreachable` switches were not asked.
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
    """Asks the controller that listens at `path`. Each call answers when the switches have confirmed.

    All raise ConfigurationError for what makes no sense, in which case nothing has changed, and StrettoError if there is no controller.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def set_design(self, design: Design) -> Change:
        """Compile all groups under this design from now on."""
        return self._ask(SetDesign(design), Change)

    def set_groups(self, groups: tuple[Group, ...]) -> Change:
        """These are the groups from now on, and there are no others."""
        return self._ask(SetGroups(groups), Change)

    def status(self) -> State:
        """What the controller has been told and sees."""
        return self._ask(Status(), State)

    def verify(self) -> Verification:
        """Compare what all switches hold with what they should."""
        return self._ask(Verify(), Verification)

    def events(self, since: int = 0) -> list[Change]:
        """The changes with a number above `since`, as far as they are remembered."""
        return self._ask(Events(since), list[Change])

    def installed(self) -> list[dict[str, Any]]:
        """The rules that switches hold, a row each, with the packets that each has met."""
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
