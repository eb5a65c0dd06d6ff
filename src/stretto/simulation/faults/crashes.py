"""Faults that crash a replica or a sequencer. At most f replicas have lost their state at any time."""

from __future__ import annotations

from typing import Any

from stretto.simulation.faults.base import MILLISECOND, SHORTEST_NS, Fault, MachineFault, log_uniform
from stretto.simulation.lifecycle import Lifecycle
from stretto.simulation.world import Machine

REST_NS = 200 * MILLISECOND
"""The longest time between two crashes: long enough for most replicas to come back into service."""


class Crash(MachineFault):
    """A replica stops for good, once all have come into service; at most f replicas stop."""

    for_good = True

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed."""
        candidates = self.lifecycle.may_lose_state()
        if not candidates or self.lifecycle.bootstrapping():
            return None
        self.lifecycle.crash_for_good(self.choose(candidates))
        return {}

    def end(self) -> None:
        """Never."""


class Restart(MachineFault):
    """A replica crashes, loses its state and restarts; up to f replicas at a time, again and again, also while they recover."""

    longest_rest_ns = REST_NS

    @classmethod
    def at_once(cls, lifecycle: Lifecycle) -> int:
        """As many as the protocols tolerate."""
        return lifecycle.max_lost

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed."""
        candidates = self.lifecycle.may_lose_state()
        if not candidates:
            return None
        self.lifecycle.crash(self.choose(candidates))
        self.machine.forget()
        self.lifecycle.lose_state(self.machine)
        return {}

    def end(self) -> None:
        """Restart it."""
        self.lifecycle.restart(self.machine)


class FalseBootstrap(Restart):
    """A replica crashes, loses its state, and is started by mistake as if for the first time. It must notice that and stop.

    Not during the first start itself: nobody may choose between two first starts then, and all would have to stop.
    """

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed."""
        return None if self.lifecycle.bootstrapping() else super().begin()

    def end(self) -> None:
        """Start it as if for the first time."""
        if self.machine.crashed:
            self.lifecycle.bootstrap_mistakenly(self.machine)


class Kill(MachineFault):
    """A replica crashes, and restarts with what is on its disk. All replicas may be down at the same time."""

    needs_disk = True
    longest_rest_ns = REST_NS

    @classmethod
    def at_once(cls, lifecycle: Lifecycle) -> int:
        """All."""
        return len(lifecycle.replicas)

    def begin(self) -> dict[str, Any] | None:
        """Crash one that keeps its state, or may lose it."""
        candidates = self.lifecycle.may_crash()
        if not candidates:
            return None
        self.lifecycle.crash(self.choose(candidates))
        return {}

    def end(self) -> None:
        """Restart it."""
        self.lifecycle.restart(self.machine)


class PowerCut(Fault):
    """All replicas crash at once, and restart with what is on their disks, one after the other."""

    needs_disk = True
    longest_rest_ns = REST_NS

    def begin(self) -> dict[str, Any] | None:
        """Crash all, if all have been in service and therefore keep their state."""
        running = self.lifecycle.running()
        if not running or len(self.lifecycle.may_crash_later()) < len(running):
            return None
        for machine in running:
            self.lifecycle.crash(machine)
            back_ns = int(log_uniform(self.random, SHORTEST_NS, self.longest_ns))
            self.stricken.world.at(self.stricken.world.now_ns + back_ns, self._restart, machine)
        self._machines = running
        return {"replicas": [machine.address for machine in running]}

    def _restart(self, machine: Machine, _: Any) -> None:
        self.lifecycle.restart(machine)

    def end(self) -> None:
        """Restart those that are still down."""
        for machine in self._machines:
            self.lifecycle.restart(machine)


class SequencerRestart(MachineFault):
    """A sequencer crashes and restarts with no state. All sequencers may be down at the same time: calls only wait until one is back."""

    needs_sequencer = True
    longest_rest_ns = REST_NS

    def begin(self) -> dict[str, Any] | None:
        """Crash one."""
        running = [machine for machine in self.stricken.sequencers if not machine.crashed]
        if not running:
            return None
        self.choose(running).crash()
        return {}

    def end(self) -> None:
        """Restart it."""
        self.stricken.begin_sequencer(self.machine)
