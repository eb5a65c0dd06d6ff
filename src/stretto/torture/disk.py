"""A disk that can be filled: a small file system in memory, mounted for one replica's data."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

from stretto.core.errors import StrettoError

_BALLAST = "ballast"


class NoDisk(StrettoError):
    """The machine does not allow the mount. The message says what is missing."""


class SmallDisk:
    """A file system of `megabytes` at `path`, which `up` mounts. The replica's data directory lies on it."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        self._megabytes = megabytes
        self._ballast = path / _BALLAST

    def up(self) -> None:
        """Mount the file system. Raises NoDisk if this machine does not allow it."""
        if os.geteuid() != 0:
            raise NoDisk("mounting a file system needs root")
        if shutil.which("mount") is None:
            raise NoDisk("the command mount is not installed (Debian has it in mount)")
        self.path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m,mode=700", "stretto-torture", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoDisk(f"{' '.join(command)} failed: {done.stderr.strip()}")

    def fill(self) -> None:
        """Fill the disk with a ballast file until no byte is free."""
        with self._ballast.open("ab", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(1 << 20))
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        return
                    raise

    def free(self) -> None:
        """Remove the ballast file."""
        self._ballast.unlink(missing_ok=True)


def unmount_below(directory: Path) -> None:
    """Unmount every file system that is mounted below the directory."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        point = Path(line.split()[1].replace("\\040", " "))  # /proc/self/mounts writes a space as \040
        if directory in point.parents:
            subprocess.run(["umount", "--lazy", str(point)], check=True, capture_output=True)
