"""Faults of disks."""

from __future__ import annotations

from typing import Any

from stretto.simulation.durable import DurableMachine
from stretto.simulation.faults.base import MachineFault
from stretto.simulation.faults.crashes import REST_NS


class DiskFault(MachineFault):
    """A fault of the disk of one replica at a time."""

    needs_disk = True
    longest_rest_ns = REST_NS

    machine: DurableMachine


class SlowDisk(DiskFault):
    """Syncs take longer."""

    def begin(self) -> dict[str, Any]:
        """Up to a thousand times as long."""
        self._factor = self.draw_strength(1, 1_000)
        self.choose(self.stricken.replicas)
        self.machine.disk.slowdown *= self._factor
        return {"factor": self._factor}

    def end(self) -> None:
        """Let them take as long as before."""
        self.machine.disk.slowdown /= self._factor


class DiskFull(DiskFault):
    """Nothing fits on the disk any more. The replica ends when it wants to write, and begins again when there is room."""

    def begin(self) -> dict[str, Any] | None:
        """Fill the disk of one that will remember."""
        candidates = self.lives.may_end_later()
        if not candidates:
            return None
        self.choose(candidates)
        self.machine.disk.full = True
        return {}

    def end(self) -> None:
        """Make room, and let it begin again."""
        self.machine.disk.full = False
        self.lives.begin_again(self.machine)


class FailingSync(DiskFault):
    """The disk's syncs fail, so that nobody knows what is on it. The replica ends at the first, and begins again when they do not."""

    def begin(self) -> dict[str, Any] | None:
        """Let the syncs of one fail that will remember."""
        candidates = self.lives.may_end_later()
        if not candidates:
            return None
        self.choose(candidates)
        self.machine.disk.failing = True
        return {}

    def end(self) -> None:
        """Let them work, and let it begin again."""
        self.machine.disk.failing = False
        self.lives.begin_again(self.machine)


class BitFlip(DiskFault):
    """A replica crashes, and what it reads from its disk is not what it wrote. That counts as the loss of its memory."""

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed, and flip one bit."""
        candidates = self.lives.may_lose_memory()
        if not candidates:
            return None
        self.choose(candidates)
        # All that was written is there, and so shows that the flipped bit is none of a torn write.
        self.machine.disk.keep_all()
        self.lives.end(self.machine)
        self.lives.lose_memory(self.machine)
        return self.machine.disk.flip_bit()

    def end(self) -> None:
        """Let it begin again: it refuses what is damaged, and recovers."""
        self.lives.begin_again(self.machine)
