"""The results of points: a flat row for each, stored in a file at once, so that an interrupted run can continue.

The key of a row is a hash of everything that determines it: the experiment, all settings, and the code that ran it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.reproduction.points import Point

Row = dict[str, Any]
FILE_NAME = "rows.jsonl"

_NOT_DECIDING = (
    "cli",
    "reproduction/experiments",
    "reproduction/report",
    "reproduction/charts",
    "reproduction/drawing",
    "reproduction/styles",
    "reproduction/claims",
)
"""Parts of the source that only present results. Rows stay valid when they change."""


class Missing(Exception):
    """There is no row with the requested value."""


class Rows:
    """A selection of rows."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.all = list(rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.all)

    def __bool__(self) -> bool:
        return bool(self.all)

    def where(self, **factors: Any) -> Rows:
        """The rows with these values."""
        return Rows(row for row in self.all if all(row.get(name) == value for name, value in factors.items()))

    def good(self) -> Rows:
        """The rows of points that did not fail."""
        return Rows(row for row in self.all if "error" not in row)

    def values(self, name: str) -> list[Any]:
        """The distinct values of a column, in the order of the rows."""
        return list(dict.fromkeys(row[name] for row in self.all if row.get(name) is not None))

    def median(self, name: str) -> float:
        """The median of a column. Raises Missing if no row has the column."""
        found = [row[name] for row in self.all if row.get(name) is not None]
        if not found:
            raise Missing(name)
        return float(median(found))

    def spread(self, name: str) -> tuple[float, float]:
        """The least and the greatest value of a column. Raises Missing if no row has the column."""
        found = [float(row[name]) for row in self.all if row.get(name) is not None]
        if not found:
            raise Missing(name)
        return min(found), max(found)

    def best(self, name: str, by: str) -> Rows:
        """The rows with that value of the column `by` whose median of `name` is greatest. Raises Missing."""
        if not self.all:
            raise Missing(name)
        return max((self.where(**{by: value}) for value in self.values(by)), key=lambda rows: rows.median(name))


def flat(figures: dict[str, Any], prefix: str = "") -> Row:
    """Nested figures as a flat row with dotted names."""
    row: Row = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            row |= flat(value, f"{prefix}{name}.")
        else:
            row[prefix + name] = value
    return row


def code_version() -> str:
    """A hash of the source that determines the results of points."""
    package = Path(__file__).parents[1]
    digest = blake2b(digest_size=8)
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        if not name.startswith(_NOT_DECIDING):
            digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def key_of(experiment: str, point: Point, version: str) -> str:
    """The key of the row of a point."""
    return blake2b(msgspec.json.encode([experiment, version, point]), digest_size=10).hexdigest()


class RowFile:
    """The rows in a directory, by key; new ones are appended.

    `fresh`: delete the former ones. Raises ConfigurationError if the file cannot be read or written.
    """

    def __init__(self, directory: Path, fresh: bool) -> None:
        self._path = directory / FILE_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if fresh:
                self._path.unlink(missing_ok=True)
            self.by_key = self._read()
            self._file = self._path.open("ab")
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=error.filename or directory) from None

    def _read(self) -> dict[str, Row]:
        """The stored rows. A last line that its process did not finish is removed."""
        if not self._path.exists():
            return {}
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            self._path.write_bytes(whole)
        found: dict[str, Row] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
                found[row["key"]] = row
            except (msgspec.DecodeError, KeyError):
                raise ConfigurationError(f"line {number} is not a row; start again with --fresh", file=self._path) from None
        return found

    def add(self, row: Row) -> None:
        """Store a row."""
        self._file.write(msgspec.json.encode(row) + b"\n")
        self._file.flush()
        self.by_key[row["key"]] = row

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def columns(rows: Sequence[Row]) -> list[str]:
    """The names of all columns, in the order of their first row."""
    return list(dict.fromkeys(name for row in rows for name in row))


def to_csv(rows: Sequence[Row]) -> str:
    """Rows as comma-separated values, with the names of the columns in the first line."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
