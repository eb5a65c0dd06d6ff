"""What a planted bug is."""

from __future__ import annotations

from dataclasses import dataclass

from stretto.core.errors import StrettoError
from stretto.mutants.hunters import Hunter


class MutantError(StrettoError):
    """A mutant does not fit the source any more."""


@dataclass(frozen=True)
class Mutant:
    """One bug: `old` stands exactly once in `module`, and `new` in its place breaks `rule`."""

    name: str
    rule: str
    module: str
    old: str
    new: str
    hunter: Hunter

    def plant(self, source: str) -> str:
        """The module's source with the bug in it. Raises MutantError if the place is not found, or is not the only one."""
        count = source.count(self.old)
        if count != 1:
            raise MutantError(f"mutant {self.name}: its old text stands {count} times in {self.module}, not once")
        return source.replace(self.old, self.new)
