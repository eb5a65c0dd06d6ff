"""A planted bug."""

from __future__ import annotations

from dataclasses import dataclass

from stretto.core.errors import StrettoError
from stretto.mutants.hunters import Hunter


class MutantError(StrettoError):
    """A mutant no longer fits the source."""


@dataclass(frozen=True)
class Mutant:
    """One bug: `old` occurs exactly once in `module`, and `new` in its place breaks `rule`."""

    name: str
    rule: str
    module: str
    old: str
    new: str
    hunter: Hunter

    def plant(self, source: str) -> str:
        """The module's source with the bug in it. Raises MutantError if `old` does not occur exactly once."""
        count = source.count(self.old)
        if count != 1:
            raise MutantError(f"mutant {self.name}: its old text occurs {count} times in {self.module}, not once")
        return source.replace(self.old, self.new)
