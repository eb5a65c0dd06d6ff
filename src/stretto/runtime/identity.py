"""The identity of a replica without a disk: a small file that says in which life of the cluster it has been in service.

A replica with durability "memory" forgets everything when it ends. Started again with `--bootstrap`, it looks as if it were new. With this
file it knows better, so that one start line serves for the first start and for every later one. The file holds no state: it is written
once in a life of the cluster, before the replica serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.runtime.files import DirectoryFiles

_NAME = "identity"


class _Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    replica: int
    first_incarnations: tuple[int, ...]


class IdentityFile:
    """The file `identity` in `directory`, for replica `index` of `n`. No other process can use the directory until `close`.

    `first`: the first incarnations of all members, which name the life of the cluster; None if the replica has never been in service.

    Raises ConfigurationError if the directory cannot be used, or if the file is damaged or of another replica.
    """

    def __init__(self, directory: Path, index: int, n: int) -> None:
        self._files = DirectoryFiles(directory)
        self._index = index
        try:
            self.first = self._read(directory / _NAME, n)
        except BaseException:
            self._files.close()
            raise

    def _read(self, file: Path, n: int) -> tuple[int, ...] | None:
        names = self._files.names()
        if _NAME not in names:
            if names:
                raise ConfigurationError(
                    f'holds {min(names)} and no identity: it is not the directory of a replica with durability "memory"', file=file.parent
                )
            return None
        try:
            found = msgspec.json.decode(self._files.read(_NAME), type=_Identity)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = f"is damaged ({error}); remove it, and start this replica once without --bootstrap: it recovers from the others"
            raise ConfigurationError(reason, file=file) from None
        if found.replica != self._index or len(found.first_incarnations) != n:
            whose = f"replica {found.replica} of {len(found.first_incarnations)}"
            raise ConfigurationError(f"is the identity of {whose}, not of replica {self._index} of {n}", file=file)
        return found.first_incarnations

    def keep(self, first: Sequence[int]) -> None:
        """Write down, durably, in which life of the cluster the replica is. Raises StorageFailure."""
        if tuple(first) != self.first:
            self.first = tuple(first)
            self._files.replace(_NAME, [msgspec.json.encode(_Identity(self._index, self.first)) + b"\n"])

    def close(self) -> None:
        """Release the directory."""
        self._files.close()
