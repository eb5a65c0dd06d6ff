"""Generated mutants that no test can find, or need find: each with the reason why it cannot matter."""

from __future__ import annotations

from typing import NamedTuple


class Settled(NamedTuple):
    """A survivor that cannot matter. The fields are those of `Change`; `why`: one sentence."""

    module: str
    function: str
    old: str
    new: str
    why: str
    nth: int = 0

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """As `Change.key`."""
        return self.module, self.function, self.old, self.new, self.nth


SETTLED: tuple[Settled, ...] = ()
