"""Runs that are kept, one JSON file each: those that failed, and those that reached something that no run before them had reached."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.fuzzing.hunt import Finding
from stretto.fuzzing.plan import Plan
from stretto.simulation.run import SimulationResult
from stretto.simulation.spec import SimulationSpec


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One run. `comment`: why it is kept, for people; `spec`: what ran, as `stretto simulate --json` prints it.

    The specification is kept rather than the seed that it was drawn from: what is drawn from a seed may change, a specification does not.
    """

    comment: str
    spec: SimulationSpec


def load(directory: Path) -> list[Entry]:
    """All entries, those that failed first. Creates a missing directory. Raises ConfigurationError with the file and the fault."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot be made: {error.strerror}", file=directory) from None
    return [_read(file) for file in sorted(directory.glob("*.json"))]


def _read(file: Path) -> Entry:
    try:
        entry = msgspec.json.decode(file.read_bytes(), type=Entry)
        entry.spec.validate()
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"is not a corpus entry: {error}", file=file) from None
    except ConfigurationError as error:
        raise error.in_file(file) from None
    return entry


def save(directory: Path, kind: str, entry: Entry) -> None:
    """Add an entry: `kind` is "failed" or "reached". Raises ConfigurationError if the directory cannot be written."""
    digest = blake2b(msgspec.json.encode(entry.spec), digest_size=6).hexdigest()
    file = directory / f"{kind}-{entry.spec.protocol}-{digest}.json"
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(entry), indent=2) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=file) from None


class Keeper:
    """Decides which runs are kept. Those that reached something new go into the plan; and both kinds into `directory`, if there is one.

    `seen`: everything that the runs have reached.
    """

    def __init__(self, plan: Plan, directory: Path | None) -> None:
        self.seen: set[str] = set()
        self._plan = plan
        self._directory = directory

    def keep(self, outcome: SimulationResult | Finding) -> None:
        """Keep the run of this outcome if it failed or reached something new."""
        if isinstance(outcome, Finding):
            violation = outcome.violation
            self._save("failed", f"{violation.kind}: {violation.description}", outcome.spec)
            return
        new = {f"{outcome.spec.protocol}: {feature}" for feature in outcome.features} - self.seen
        self.seen |= new
        if new and outcome.violation is None and outcome.spec not in self._plan.interesting:
            self._plan.interesting.append(outcome.spec)
            self._save("reached", "; ".join(sorted(new)), outcome.spec)

    def _save(self, kind: str, comment: str, spec: SimulationSpec) -> None:
        if self._directory is not None:
            save(self._directory, kind, Entry(comment, spec))
