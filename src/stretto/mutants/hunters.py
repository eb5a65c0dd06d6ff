"""Which command must find a mutant: a search that fits the rule that the mutant breaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stretto.mutants.schedules import Script

_USUAL = {"fuzz": ("--seed", "0", "--workers", "1", "--violations", "1", "--shrink", "0"), "explore": ()}
"""Options of every hunt: one process, always the same runs, and an end at the first violation."""


@dataclass(frozen=True)
class Hunter:
    """A command of `stretto` that looks for violations, run on the mutated package.

    - `command`: its name; `options`: they make the search fit the mutant;
    - `seconds`: how long it may take to find the mutant;
    - `beginning`: the schedule at whose end the search begins, if there is one.
    """

    command: str
    options: tuple[str, ...]
    seconds: float
    beginning: Script | None = None

    def __str__(self) -> str:
        return " ".join((self.command, *self.options, *(["--after its schedule"] if self.beginning else [])))

    def words(self, seconds: float, schedule: Path) -> list[str]:
        """The command line of a hunt of at most that many seconds. `schedule`: the file with the beginning, if there is one."""
        after = ["--after", str(schedule)] if self.beginning else []
        return [self.command, *_USUAL[self.command], *self.options, *after, "--seconds", f"{seconds:g}", "--json"]


_SPECULATIVE = ("--protocol", "speculative")
_NETWORK = "loss,reordering,partition,one_way_partition,duplication,pause"


def swarm(*options: str, seconds: float = 180) -> Hunter:
    """Random runs, of Speculative Paxos unless the options name another protocol."""
    return Hunter("fuzz", options if "--protocol" in options else (*_SPECULATIVE, *options), seconds)


def network(replicas: int, *options: str, seconds: float = 180) -> Hunter:
    """Random short runs in which the network fails, and nodes pause."""
    return swarm(*_short(replicas, "memory", _NETWORK), *options, seconds=seconds)


def restarts(replicas: int, *options: str, seconds: float = 180) -> Hunter:
    """Random short runs in which replicas lose their state too."""
    return swarm(*_short(replicas, "memory", f"restart,slow,{_NETWORK}"), *options, seconds=seconds)


def false_starts(replicas: int, *options: str, seconds: float = 180) -> Hunter:
    """Random short runs in which replicas with lost state are started as if for the first time."""
    return swarm(*_short(replicas, "memory", "false_bootstrap,restart,loss,partition"), *options, seconds=seconds)


def disks(*options: str, seconds: float = 180) -> Hunter:
    """Random short runs of three replicas with disks; the replicas crash, and the disks fail."""
    faults = "kill,power_cut,restart,bit_flip,disk_full,failing_sync,loss,partition,reordering,slow"
    return swarm(*_short(3, "disk", faults), "--set", "limits.checkpoint_operations=12", *options, seconds=seconds)


def sequencers(replicas: int, durability: str = "memory", *options: str, seconds: float = 180) -> Hunter:
    """Random short runs of NOPaxos, in which the network fails, and replicas and sequencers crash and restart."""
    faults = f"sequencer_restart,{'kill' if durability == 'disk' else 'restart'},{_NETWORK}"
    return swarm("--protocol", "nopaxos", *_short(replicas, durability, faults), *options, seconds=seconds)


def adaptive(replicas: int, durability: str = "memory", *options: str, seconds: float = 180) -> Hunter:
    """Random short runs of Adaptive Speculative Paxos, in which the network fails, and replicas crash and restart."""
    faults = f"{'kill' if durability == 'disk' else 'restart'},{_NETWORK}"
    return swarm("--protocol", "adaptive", *_short(replicas, durability, faults), *options, seconds=seconds)


def explorer(bounds: str, seconds: float = 180) -> Hunter:
    """Every order of events in a small world."""
    return Hunter("explore", (*_SPECULATIVE, "--bounds", bounds), seconds)


def walks(bounds: str, seconds: float = 180) -> Hunter:
    """Guided walks through a small world that is too large to be searched whole."""
    return Hunter("explore", (*_SPECULATIVE, "--guided", "--seed", "0", "--bounds", bounds), seconds)


def after(beginning: Script, seconds: float = 180) -> Hunter:
    """Guided walks from the end of a schedule, within its bounds."""
    options = ("--protocol", beginning.protocol, "--guided", "--seed", "0", "--bounds", beginning.bounds)
    return Hunter("explore", options, seconds, beginning)


def _short(replicas: int, durability: str, faults: str) -> tuple[str, ...]:
    return ("--replicas", str(replicas), "--operations-per-run", "60", "--durability", durability, "--faults", faults)
