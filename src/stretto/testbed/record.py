"""The record of a testbed on disk. With it, later commands find and remove exactly what was made, also after a crash.

/run/stretto-testbed/NAME/record.json    written before anything else is made, and removed last
/run/stretto-testbed/NAME/.../*.pid      the processes; each begins only after its file is written
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from stretto.core.errors import StrettoError
from stretto.network.topology import Topology

_FILE = "record.json"
_UNFINISHED = "record.json.unfinished"


class TestbedFailure(StrettoError):
    """A testbed could not be made, found or changed. The message says why."""


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """A testbed: its topology, the factor on its link rates, its namespaces, whether all of it was made, and the switches and links that
    are killed (links by their upper ends)."""

    topology: Topology
    scale: float
    namespaces: list[str]
    complete: bool = False
    killed: list[str] = []

    def save(self, directory: Path) -> None:
        """Write the record atomically, replacing the former one."""
        unfinished = directory / _UNFINISHED
        unfinished.write_bytes(msgspec.json.encode(self))
        unfinished.rename(directory / _FILE)


def load(directory: Path) -> Record | None:
    """The record in this directory; None if there is none. Raises TestbedFailure if it is not valid."""
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise TestbedFailure(f"{directory / _FILE} is not a testbed's record: {error}") from None


def remove(directory: Path) -> None:
    """Remove the directory's contents, the record last."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _FILE:
            path.unlink()
    (directory / _FILE).unlink(missing_ok=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the directory and lock it against other commands. On exit it is removed if it is empty.

    Raises TestbedFailure if another command has locked it.
    """
    descriptor = _lock(directory)
    try:
        (directory / _UNFINISHED).unlink(missing_ok=True)
        yield
    finally:
        for place in (directory, directory.parent):
            with suppress(OSError):  # it is not empty
                place.rmdir()
        os.close(descriptor)


def _lock(directory: Path) -> int:
    while True:
        with suppress(FileNotFoundError):  # another command removed it in between
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), directory.stat()):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise TestbedFailure(f"another command is changing the testbed {directory.name}") from None
            except FileNotFoundError:
                pass
            os.close(descriptor)
