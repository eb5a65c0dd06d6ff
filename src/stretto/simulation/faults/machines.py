"""Faults of machines that stay up: they pause, are slow, or have clocks that run fast or slow, or are set wrong."""

from __future__ import annotations

from typing import Any

from stretto.simulation.faults.base import MICROSECOND, MILLISECOND, MachineFault

_HOUR = 3_600_000 * MILLISECOND


class Pause(MachineFault):
    """A node pauses for a long time and then continues: input waits, timers fire late."""

    longest_ns = 1_000 * MILLISECOND

    def begin(self) -> dict[str, Any]:
        """Freeze any node."""
        self._life = self.choose(self.stricken.machines).hold()
        return {}

    def end(self) -> None:
        """Let it continue, if it has not crashed meanwhile."""
        self.machine.release(self._life)


class SlowNode(MachineFault):
    """A node takes longer for everything."""

    def begin(self) -> dict[str, Any]:
        """Slow every burst of a node by 1 us to 10 ms."""
        slowdown = int(self.draw_strength(MICROSECOND, 10 * MILLISECOND))
        self.choose(self.stricken.machines).slowdown_ns += slowdown
        self._slowdown = slowdown
        return {"slowdown_ns": slowdown}

    def end(self) -> None:
        """End the slowdown."""
        self.machine.slowdown_ns -= self._slowdown


class ClockDrift(MachineFault):
    """A node's clock runs fast or slow, and so do its timers, at a rate that stays the same for a while."""

    longest_ns = 1_000 * MILLISECOND

    def begin(self) -> dict[str, Any] | None:
        """Let a clock run up to twice as fast, or down to half as fast."""
        rate = self.draw_strength(1, 2)
        if self.random.random() < 0.5:
            rate = 1 / rate
        self.choose(self.stricken.machines).set_clock_rate(rate)
        return {"rate": rate}

    def end(self) -> None:
        """Let the clock run at the right rate. It stays ahead or behind."""
        self.machine.set_clock_rate(1.0)


class WrongClock(MachineFault):
    """The wall clock of a node steps ahead or back by up to an hour, and is set right later. Of the replicas, one at a time is wrong."""

    longest_ns = 1_000 * MILLISECOND

    def begin(self) -> dict[str, Any] | None:
        """Set a clock wrong."""
        offset = int(self.draw_strength(MILLISECOND, _HOUR)) * self.random.choice((-1, 1))
        self.choose(self.stricken.machines).wall_offset_ns = offset
        return {"offset_ns": offset}

    def end(self) -> None:
        """Set it right."""
        self.machine.wall_offset_ns = 0
