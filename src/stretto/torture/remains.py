"""What a run makes on the machine, and how it is found again: all of it hangs on one directory, and all of it is removed by its name.

    TMP/stretto-torture-xxxxxxxx/owner.pid           the process whose run it is
    TMP/stretto-torture-xxxxxxxx/replica-0.pid ...   the processes that it started
    TMP/stretto-torture-xxxxxxxx/...                 mounts
    namespaces stretto-torture-xxxxxxxx-...

A run that is killed half-way leaves these; the next one finds the directory without its owner, and removes the same things.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from stretto.runtime.pid_file import PidFile
from stretto.torture.disk import unmount_below
from stretto.torture.namespaces import remove_namespaces

_PREFIX = "stretto-torture-"
_OWNER = "owner.pid"
_END_SECONDS = 5.0


@contextmanager
def own_directory() -> Iterator[Path]:
    """A directory for this run. Whatever has been made in its name by then is removed at the end."""
    directory = Path(mkdtemp(prefix=_PREFIX))
    PidFile(directory / _OWNER).write(os.getpid())
    try:
        yield directory
    finally:
        _remove(directory)


def remove_leftovers() -> list[Path]:
    """Remove what runs of this user left whose process has ended; their directories."""
    left = []
    for directory in sorted(Path(gettempdir()).glob(f"{_PREFIX}*")):
        owner = PidFile(directory / _OWNER)
        if directory.stat().st_uid == os.geteuid() and owner.path.exists() and owner.pid() is None:
            _remove(directory)
            left.append(directory)
    return left


def _remove(directory: Path) -> None:
    for path in directory.rglob("replica-*.pid"):
        process = PidFile(path)
        process.signal(signal.SIGKILL)
        process.wait(_END_SECONDS)
    unmount_below(directory)
    remove_namespaces(directory.name)
    shutil.rmtree(directory)
