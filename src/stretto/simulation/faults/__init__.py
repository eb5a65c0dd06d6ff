"""Faults by name. Each strikes repeatedly until all are healed; its strength, duration and target are drawn from the seed.

- `loss`, `duplication`, `reordering`, `partition`, `one_way_partition`: of the network;
- `pause`, `slow`, `clock_drift`, `wrong_clock`: of machines and links that stay up;
- `crash`: a replica stops for good; `restart`: it restarts with lost state; `false_bootstrap`: it restarts with lost state as if for the
  first time, which it must refuse; these three never affect more than f replicas at a time;
- `sequencer_restart`: sequencers crash and restart with no state, possibly all of them at once;
- `kill`, `power_cut`: crashes of replicas with disks, which keep their state; a write in progress is torn;
- `slow_disk`, `disk_full`, `failing_sync`, `bit_flip`: of disks. `bit_flip` counts as lost state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from stretto.core.errors import ConfigurationError
from stretto.core.trace import FaultBegun, FaultEnded
from stretto.simulation.faults.base import MICROSECOND, MILLISECOND, SHORTEST_NS, Fault, Strength, Stricken, log_uniform
from stretto.simulation.faults.crashes import Crash, FalseBootstrap, Kill, PowerCut, Restart, SequencerRestart
from stretto.simulation.faults.disks import BitFlip, DiskFull, FailingSync, SlowDisk
from stretto.simulation.faults.machines import ClockDrift, Pause, SlowNode, WrongClock
from stretto.simulation.faults.network import Duplication, Loss, OneWayPartition, Partition, Reordering, SlowLink, StalledLink

FAULTS: dict[str, tuple[type[Fault], ...]] = {
    "loss": (Loss,),
    "duplication": (Duplication,),
    "reordering": (Reordering,),
    "partition": (Partition,),
    "one_way_partition": (OneWayPartition,),
    "crash": (Crash,),
    "pause": (Pause,),
    "slow": (SlowNode, SlowLink, StalledLink),
    "clock_drift": (ClockDrift,),
    "wrong_clock": (WrongClock,),
    "restart": (Restart,),
    "kill": (Kill,),
    "power_cut": (PowerCut,),
    "slow_disk": (SlowDisk,),
    "disk_full": (DiskFull,),
    "failing_sync": (FailingSync,),
    "bit_flip": (BitFlip,),
    "false_bootstrap": (FalseBootstrap,),
    "sequencer_restart": (SequencerRestart,),
}
"""Every fault by its name."""

_BEHIND_A_REPORT_NS = (MICROSECOND, MILLISECOND)


def faults_for(durability: str, sequencers: int = 0) -> tuple[str, ...]:
    """The names of the faults that are possible with this durability and this number of sequencers."""

    def can_strike(kind: type[Fault]) -> bool:
        return (durability == "disk" or not kind.needs_disk) and (sequencers > 0 or not kind.needs_sequencer)

    return tuple(name for name, kinds in FAULTS.items() if all(map(can_strike, kinds)))


def check_names(names: Sequence[str], durability: str, sequencers: int = 0) -> None:
    """Raises ConfigurationError if there is no fault of one of these names, or if it needs disks or sequencers and there are none."""
    for name in names:
        if name not in FAULTS:
            raise ConfigurationError(f"{name!r} is not a fault; there are {', '.join(FAULTS)}", key="faults")
        if name not in faults_for("disk", sequencers):
            raise ConfigurationError(f"{name!r} strikes sequencers, and the protocol has none", key="faults")
        if name not in faults_for(durability, sequencers):
            raise ConfigurationError(f"{name!r} strikes disks, and there are none with durability {durability!r}", key="faults")


class Faults:
    """Starts and ends the faults of `strengths`, each with its strength. `struck` counts how often each struck.

    In half of the cases, a fault that is due waits until a node reports a rare event, and strikes right after it: protocols are most
    vulnerable right after a vote or after the start of a view.
    """

    def __init__(self, strengths: Mapping[str, Strength], stricken: Stricken, seed: str) -> None:
        self.struck = dict.fromkeys(strengths, 0)
        self._strengths = strengths
        self._world = stricken.world
        self._active: dict[Fault, str] = {}
        self._lurking: dict[Fault, str] = {}
        self._healed = False
        for name, strength in strengths.items():
            for kind in FAULTS[name]:
                for number in range(kind.at_once(stricken.lifecycle)):
                    self._rest(kind(stricken, Random(f"{seed}/{kind.__name__}/{number}"), strength.severity), name)

    @property
    def active(self) -> list[str]:
        """The names of the faults that are striking."""
        return list(self._active.values())

    def heal(self) -> None:
        """End all faults, and start no more."""
        self._healed = True
        for fault in list(self._active):
            self._end(fault)

    def noticed(self) -> None:
        """A node has reported something."""
        for fault, name in self._lurking.items():
            delay = int(log_uniform(fault.random, *_BEHIND_A_REPORT_NS))
            self._world.at(self._world.now_ns + delay, self._begin, fault, name)
        self._lurking.clear()

    def _rest(self, fault: Fault, name: str) -> None:
        self._world.at(self._world.now_ns + self._draw_rest(fault, name), self._end_rest, fault, name)

    def _draw_rest(self, fault: Fault, name: str) -> int:
        return int(log_uniform(fault.random, SHORTEST_NS, fault.longest_rest_ns) / self._strengths[name].frequency)

    def _end_rest(self, fault: Fault, name: str) -> None:
        if fault.random.random() < 0.5:
            self._begin(fault, name)
        else:
            self._lurking[fault] = name
            self._world.at(self._world.now_ns + self._draw_rest(fault, name), self._end_patience, fault)

    def _end_patience(self, fault: Fault, _: Any) -> None:
        name = self._lurking.pop(fault, None)
        if name is not None:
            self._begin(fault, name)

    def _begin(self, fault: Fault, name: str) -> None:
        if self._healed:
            return
        details = fault.begin()
        if details is not None:
            self.struck[name] += 1
            if self._world.tracer is not None:
                self._world.tracer(FaultBegun(self._world.now_ns, fault.target, name, details))
        if details is None or fault.for_good:
            self._rest(fault, name)
        else:
            self._active[fault] = name
            lasts = int(log_uniform(fault.random, SHORTEST_NS, fault.longest_ns) * self._strengths[name].duration)
            self._world.at(self._world.now_ns + lasts, self._end, fault)

    def _end(self, fault: Fault, _: Any = None) -> None:
        name = self._active.pop(fault, None)
        if name is None:
            return
        fault.end()
        if self._world.tracer is not None:
            self._world.tracer(FaultEnded(self._world.now_ns, fault.target, name))
        if not self._healed:
            self._rest(fault, name)
