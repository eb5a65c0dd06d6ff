"""Everything that a run makes on the machine, and its removal. One directory names all of it.

    TMP/stretto-torture-xxxxxxxx/owner.pid           the process of the run itself
    TMP/stretto-torture-xxxxxxxx/replica-0.pid ...   the processes that it started
    TMP/stretto-torture-xxxxxxxx/...                 mounts
    namespaces stretto-torture-xxxxxxxx-...

A run that is killed leaves these behind. The next run finds a directory whose owner has ended, and removes everything that it names.
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
    """Make a directory for this run. On exit it is removed, with every process, mount and namespace that belongs to it."""
    directory = Path(mkdtemp(prefix=_PREFIX))
    PidFile(directory / _OWNER).write(os.getpid())
    try:
        yield directory
    finally:
        _remove(directory)


def remove_leftovers() -> list[Path]:
    """Remove everything left by runs of this user whose process has ended. Returns their directories."""
    removed = []
    for directory in sorted(Path(gettempdir()).glob(f"{_PREFIX}*")):
        owner = PidFile(directory / _OWNER)
        if directory.stat().st_uid == os.geteuid() and owner.path.exists() and owner.pid() is None:
            _remove(directory)
            removed.append(directory)
    return removed


def _remove(directory: Path) -> None:
    for path in directory.rglob("replica-*.pid"):
        process = PidFile(path)
        process.signal(signal.SIGKILL)
        process.wait(_END_SECONDS)
    unmount_below(directory)
    remove_namespaces(directory.name)
    shutil.rmtree(directory)
