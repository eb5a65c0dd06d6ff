"""`stretto log`: the data that a replica keeps on disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import json_option
from stretto.cli.output import print_json
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stretto.storage.contents import File
    from stretto.storage.files import ReadableFiles
    from stretto.storage.format import Codec

directory_argument = click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")


@click.group()
def command() -> None:
    """Look at the data that a replica keeps on disk.

    DIR is its data directory: the directory given to `stretto replica` with --data, or replica-N.data of a `stretto cluster`. Nothing is
    changed, and the replica may be running.
    """


@command.command()
@directory_argument
@json_option
def inspect(directory: Path, as_json: bool) -> None:
    """Show the current files, the oldest first: frames, records by type, and the log positions after each file."""
    files, contents = _read(directory)
    codec = _codec(contents)
    owner = contents[-1].header.identity
    rows = _rows(files, contents, codec)
    if as_json:
        cluster = owner.cluster.hex()
        print_json({"directory": str(directory), "replica": owner.index, "protocol": owner.protocol, "cluster": cluster, "files": rows})
    else:
        click.echo(f"replica {owner.index}, protocol {owner.protocol}")
        _print(rows)


@command.command()
@directory_argument
@json_option
def verify(directory: Path, as_json: bool) -> int:
    """Check every byte that a restart would read. The verdict is ok, torn (a restart cuts the torn end off) or corrupt (a restart refuses).

    A torn end is what a crash leaves of a burst that was not acknowledged (or, while the replica runs, one that is being written). Exit
    status 1 if anything is corrupt.
    """
    from stretto.storage.files import REPAIR, Corrupt
    from stretto.storage.store import decode_records

    try:
        files, contents = _read(directory)
        records = len(decode_records(_codec(contents), files, contents))
    except Corrupt as corrupt:
        found: dict[str, Any] = {"verdict": "corrupt", "file": corrupt.file, "offset": corrupt.offset, "reason": corrupt.reason}
        found["repair"] = REPAIR
        line = f"corrupt: {corrupt}"
    else:
        last = contents[-1]
        torn = last.torn_bytes
        found = {"verdict": "torn" if torn else "ok", "files": len(contents), "records": records, "torn_bytes": torn}
        where = f"; the last {torn} bytes of {last.name} are torn, and a start cuts them" if torn else ""
        line = f"ok: {records:,} records in {len(contents)} files{where}"
    if as_json:
        print_json({"directory": str(directory), **found})
    else:
        click.echo(line)
    return 1 if found["verdict"] == "corrupt" else 0


def _read(directory: Path) -> tuple[ReadableFiles, list[File]]:
    """The current files. If a running replica removes some while they are read, they are read again."""
    from stretto.runtime.files import ReadOnlyDirectory
    from stretto.storage.contents import read_contents
    from stretto.storage.files import Corrupt

    files = ReadOnlyDirectory(directory)
    while True:
        names = files.names()
        try:
            contents = read_contents(files)
        except Corrupt:
            if set(files.names()) == set(names):
                raise
        else:
            break
    if not contents:
        raise ConfigurationError(
            "holds no data of a replica; it is in the directory that was given to `stretto replica` with --data", file=directory
        )
    return files, contents


def _codec(contents: list[File]) -> Codec:
    from stretto.catalog import protocol_of_data
    from stretto.storage.format import Codec

    return Codec(protocol_of_data(contents[-1].header.identity.protocol).record_types)


def _rows(files: ReadableFiles, contents: list[File], codec: Codec) -> list[dict[str, Any]]:
    from stretto.replication.messages import Request
    from stretto.replication.records import Checkpoint, Committed, RolledBack
    from stretto.storage.format import KINDS
    from stretto.storage.store import decode_records

    rows = []
    last = committed = 0
    for file in contents:
        records = decode_records(codec, files, [file])
        for record in records:
            if isinstance(record, Request):
                last += 1
            elif isinstance(record, RolledBack):
                last = record.position
            elif isinstance(record, Committed):
                committed = record.position
            elif isinstance(record, Checkpoint):
                last = committed = record.position
        rows.append(
            {
                "name": file.name,
                "kind": KINDS[file.header.kind],
                "generation": file.header.generation,
                "bytes": file.size,
                "torn_bytes": file.torn_bytes,
                "frames": sum(1 for frame in file.frames if frame.payload),
                "records": dict(sorted(Counter(type(record).__name__ for record in records).items())),
                "committed": committed,
                "last": last,
            }
        )
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        torn = f", the last {row['torn_bytes']:,} torn" if row["torn_bytes"] else ""
        positions = f"committed {row['committed']:,}, last {row['last']:,}"
        click.echo(f"{row['name']}: {row['bytes']:,} bytes{torn}, {row['frames']:,} frames, {positions}")
        click.echo(f"    {', '.join(f'{count:,} {name}' for name, count in row['records'].items()) or 'no records'}")
