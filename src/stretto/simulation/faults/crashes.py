"""Faults that end a life, of a replica or a sequencer. No more than f replicas are without memory at any time."""

from __future__ import annotations

from typing import Any

from stretto.simulation.faults.base import MILLISECOND, SHORTEST_NS, Fault, MachineFault, log_uniform
from stretto.simulation.lives import Lives
from stretto.simulation.world import Machine

REST_NS = 200 * MILLISECOND
"""Between two ends of lives: at most; long enough for most to come back into service."""


class Crash(MachineFault):
    """A replica stops for good, once all have come into service; at most f of them do."""

    for_good = True

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed."""
        candidates = self.lives.may_lose_memory()
        if not candidates or self.lives.bootstrapping():
            return None
        self.lives.end_for_good(self.choose(candidates))
        return {}

    def end(self) -> None:
        """Never."""


class Restart(MachineFault):
    """A replica crashes, loses its memory and begins again; up to f at a time, also while they recover, again and again."""

    longest_rest_ns = REST_NS

    @classmethod
    def at_once(cls, lives: Lives) -> int:
        """As many as the protocols promise to survive."""
        return lives.most_without_memory

    def begin(self) -> dict[str, Any] | None:
        """Crash one, if that is allowed."""
        candidates = self.lives.may_lose_memory()
        if not candidates:
            return None
        self.lives.end(self.choose(candidates))
        self.machine.forget()
        self.lives.lose_memory(self.machine)
        return {}

    def end(self) -> None:
        """Let it begin again."""
        self.lives.begin_again(self.machine)


class FalseBootstrap(Restart):
    """A replica crashes, loses its memory, and is started by mistake as if for the first time. It must end itself, and take no part."""

    def end(self) -> None:
        """Make the mistake."""
        if self.machine.crashed:
            self.lives.begin_mistakenly(self.machine)


class Kill(MachineFault):
    """A replica crashes, and begins again with what is on its disk. It may strike all of them at a time."""

    needs_disk = True
    longest_rest_ns = REST_NS

    @classmethod
    def at_once(cls, lives: Lives) -> int:
        """All."""
        return len(lives.replicas)

    def begin(self) -> dict[str, Any] | None:
        """Crash one that will remember, or may lose its memory."""
        candidates = self.lives.may_end()
        if not candidates:
            return None
        self.lives.end(self.choose(candidates))
        return {}

    def end(self) -> None:
        """Let it begin again."""
        self.lives.begin_again(self.machine)


class PowerCut(Fault):
    """All replicas crash at once, and begin again with what is on their disks, one after the other."""

    needs_disk = True
    longest_rest_ns = REST_NS

    def begin(self) -> dict[str, Any] | None:
        """Crash all, if they have come into service so far that they will remember."""
        living = self.lives.living()
        if not living or len(self.lives.may_end_later()) < len(living):
            return None
        for machine in living:
            self.lives.end(machine)
            back_ns = int(log_uniform(self.random, SHORTEST_NS, self.longest_ns))
            self.stricken.world.at(self.stricken.world.now_ns + back_ns, self._begin_again, machine)
        self._machines = living
        return {"replicas": [machine.address for machine in living]}

    def _begin_again(self, machine: Machine, _: Any) -> None:
        self.lives.begin_again(machine)

    def end(self) -> None:
        """Let those begin again that have not yet."""
        for machine in self._machines:
            self.lives.begin_again(machine)


class SequencerRestart(MachineFault):
    """A sequencer crashes and begins again, knowing nothing. Nobody has to keep one alive: without any, calls only wait."""

    needs_sequencer = True
    longest_rest_ns = REST_NS

    def begin(self) -> dict[str, Any] | None:
        """Crash one."""
        living = [machine for machine in self.stricken.sequencers if not machine.crashed]
        if not living:
            return None
        self.choose(living).crash()
        return {}

    def end(self) -> None:
        """Let it begin again."""
        self.stricken.begin_sequencer(self.machine)
