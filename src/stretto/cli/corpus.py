"""Runs that are worth having again, one JSON file each: what failed, and what reached something that no run before it had reached."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.simulation.spec import SimulationSpec


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One run. `comment`: why it is kept, for people; `spec`: what ran, as `stretto simulate --json` prints it. A specification means the
    same for ever, while what is drawn from a seed may change."""

    comment: str
    spec: SimulationSpec


def load(directory: Path) -> list[Entry]:
    """All entries, those that failed first; the directory is made if there is none. Raises ConfigurationError with what is wrong where."""
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
        raise ConfigurationError(f"is no run of a corpus: {error}", file=file) from None
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
