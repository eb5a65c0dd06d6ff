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
        """Draw a factor of up to a thousand."""
        self._factor = self.draw_strength(1, 1_000)
        self.choose(self.stricken.replicas)
        self.machine.disk.slowdown *= self._factor
        return {"factor": self._factor}

    def end(self) -> None:
        """Let syncs take as long as before."""
        self.machine.disk.slowdown /= self._factor


class DiskFull(DiskFault):
    """The disk is full. The replica stops when it tries to write, and restarts when there is room."""

    def begin(self) -> dict[str, Any] | None:
        """Fill the disk of a replica that keeps its state."""
        candidates = self.lifecycle.may_crash_later()
        if not candidates:
            return None
        self.choose(candidates)
        self.machine.disk.full = True
        return {}

    def end(self) -> None:
        """Make room, and restart the replica."""
        self.machine.disk.full = False
        self.lifecycle.restart(self.machine)


class FailingSync(DiskFault):
    """The disk's syncs fail, so that its content is unknown. The replica stops at the first failure, and restarts when syncs work again."""

    def begin(self) -> dict[str, Any] | None:
        """Let the syncs of a replica fail that keeps its state."""
        candidates = self.lifecycle.may_crash_later()
        if not candidates:
            return None
        self.choose(candidates)
        self.machine.disk.failing = True
        return {}

    def end(self) -> None:
        """Let syncs work, and restart the replica."""
        self.machine.disk.failing = False
        self.lifecycle.restart(self.machine)


class BitFlip(DiskFault):
    """A replica crashes, and one bit on its disk changes. That counts as lost state."""

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed, and flip one bit."""
        candidates = self.lifecycle.may_lose_state()
        if not candidates:
            return None
        self.choose(candidates)
        # Everything written is kept, so the replica must not take the flipped bit for a torn write.
        self.machine.disk.keep_all()
        self.lifecycle.crash(self.machine)
        self.lifecycle.lose_state(self.machine)
        return self.machine.disk.flip_bit()

    def end(self) -> None:
        """Restart it: it refuses the damaged data, and recovers."""
        self.lifecycle.restart(self.machine)
