"""The coverage of a run: a cheap signature of the rare events that its nodes report. Runs with new coverage can be kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from stretto.core.node import Address

_NUMBERS = re.compile(r"\d+")


class Coverage:
    """Takes every report. `active` names the faults that are active at the moment.

    - `events`: how often each kind of event was reported; the kind includes the event's reason, without the numbers in it;
    - `features`: which event followed which, under which fault, and about how often. They distinguish runs.
    """

    def __init__(self, active: Callable[[], Iterable[str]]) -> None:
        self.events: dict[str, int] = {}
        self.features: set[str] = set()
        self._active = active
        self._last = "the beginning"

    def reported(self, address: Address, event: str, details: dict[str, Any]) -> None:
        """A node has reported an event."""
        reason = details.get("reason")
        kind = event if reason is None else f"{event}: {_NUMBERS.sub('N', str(reason))}"
        times = self.events[kind] = self.events.get(kind, 0) + 1
        if times & (times - 1) == 0:
            self.features.add(f"{kind} x {times}")
        self.features.add(f"{kind} after {self._last}")
        self.features.update(f"{kind} under {fault}" for fault in self._active())
        self._last = kind
