"""Durability: a message leaves only after the records that it depends on are on disk, and a disk failure ends the process."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import stretto
from hosting import Hosting, Note, Processes, Scenario, local_config
from stretto.apps.kv import KeyValueStore
from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.core.protocol import ProtocolDefinition
from stretto.protocols.unreplicated import UNREPLICATED
from stretto.runtime.disk import Disk, open_disk
from stretto.storage.contents import read_contents
from stretto.storage.files import Corrupt, StorageFailure
from stretto.storage.format import Codec

Play = Callable[[ClusterConfig, Scenario], None]
Start = Callable[..., Processes]
MS = 1_000_000
DEFINITION = ProtocolDefinition("notes", (Note,), (Note,), UNREPLICATED.replica, UNREPLICATED.client)


class Synced:
    """The state of a data directory after a power failure: each file has the length that it had at its last fdatasync."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.count = 0
        self._sizes: dict[int, int] = {}
        fdatasync = os.fdatasync

        def watched(descriptor: int) -> None:
            self.count += 1
            fdatasync(descriptor)
            status = os.fstat(descriptor)
            self._sizes[status.st_ino] = status.st_size

        monkeypatch.setattr(os, "fdatasync", watched)

    place = "synced"

    def names(self) -> list[str]:
        return os.listdir(self.directory)

    def read(self, name: str) -> bytes:
        file = self.directory / name
        return file.read_bytes()[: self._sizes.get(file.stat().st_ino, 1 << 40)]

    def numbers(self) -> list[int]:
        """The numbers of the records in the directory."""
        contents = read_contents(self)
        return [note.number for file in contents for frame in file.frames for note in Codec((Note,)).records(frame)]


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Synced:
    return Synced(tmp_path / "data", monkeypatch)


def disk_of(config: ClusterConfig, synced: Synced) -> Disk:
    return Disk(synced.directory, DEFINITION, config, 0)


def test_a_message_leaves_only_after_earlier_records_are_on_disk(play: Play, synced: Synced) -> None:
    """For each kind of send: an answer in a datagram, over a stream, by multicast or to itself, from a timer, and from a call outside."""
    config = local_config(3)

    async def scenario(hosting: Hosting) -> None:
        disk = disk_of(config, synced)
        node, other, client = hosting.replica(0, disk), hosting.replica(1), hosting.client()
        came: list[int] = []

        def speak(number: int, send: Callable[[Note], None], text: bytes = b"") -> None:
            node.port.persist(Note(number))
            send(Note(number, text))
            node.port.persist(Note(number + 1_000))

        def check(source: int, note: Note) -> None:
            assert source != 0 or note.number in synced.numbers()
            came.append(note.number)

        def act(source: int, note: Note) -> None:
            if source == 0:
                check(source, note)
            elif note.number == 1:
                speak(1, lambda said: node.port.send(source, said))
            elif note.number == 2:
                speak(2, lambda said: node.port.send(source, said), bytes(50_000))
            elif note.number == 3:
                speak(3, node.port.multicast)
            elif note.number == 4:
                speak(4, lambda said: node.port.send(0, said))
            elif note.number == 5:
                node.port.set_timer("5", MS)

        node.on_timer = lambda name: speak(5, lambda said: node.port.send(client.port.address, said))  # type: ignore[method-assign]
        node.reaction = act
        client.reaction = other.reaction = check
        for number in range(1, 6):
            client.port.send(0, Note(number))
            await hosting.until(lambda: number in came)  # noqa: B023
        speak(6, lambda said: node.port.send(client.port.address, said))
        await hosting.until(lambda: 6 in came)
        await hosting.until(lambda: came.count(3) == 2)
        disk.close()

    play(config, scenario)


def test_a_burst_costs_one_sync_and_a_burst_without_messages_none(play: Play, synced: Synced) -> None:
    config = local_config(1)

    async def scenario(hosting: Hosting) -> None:
        disk = disk_of(config, synced)
        node, client = hosting.replica(0, disk), hosting.client()

        def act(source: int, note: Note) -> None:
            node.port.persist(note)
            if note.number % 100 == 0:
                node.port.send(source, note)

        node.reaction = act
        for number in range(1, 10):
            client.port.send(0, Note(number))
            await hosting.until(lambda: len(node.got) == number)  # noqa: B023
        assert synced.count == 0
        for number in range(10, 101):
            client.port.send(0, Note(number))
        await hosting.until(lambda: client.got)
        assert synced.count == 1
        assert synced.numbers() == list(range(1, 101))
        metrics = node.port.metrics()
        assert metrics["fsyncs"] > 1
        assert metrics["bytes_persisted"] > 500
        assert metrics["fsync_us"]["p50"] <= metrics["fsync_us"]["p99"]
        disk.close()

    play(config, scenario)


def test_the_node_continues_while_a_compaction_runs(play: Play, synced: Synced) -> None:
    config = local_config(1)

    async def scenario(hosting: Hosting) -> None:
        disk = disk_of(config, synced)
        node, client = hosting.replica(0, disk), hosting.client()

        def act(source: int, note: Note) -> None:
            node.port.persist(note)
            if note.number % 50 == 0:
                node.port.compact([Note(-note.number)])
            node.port.send(source, note)

        node.reaction = act
        for number in range(1, 121):
            client.port.send(0, Note(number))
            await hosting.until(lambda: len(client.got) == number)  # noqa: B023
        await hosting.until(lambda: len(synced.names()) == 2)
        assert synced.numbers() == [-100, *range(101, 121)]
        disk.close()

    play(config, scenario)


def test_a_new_directory_is_durable_in_its_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, synced = os.fsync, list[str]()

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    Disk(tmp_path / "a" / "b", DEFINITION, local_config(1), 0).close()
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(synced)


def test_only_one_process_at_a_time_can_use_a_directory(tmp_path: Path) -> None:
    config = local_config(1)
    disk = Disk(tmp_path / "data", DEFINITION, config, 0)
    with pytest.raises(ConfigurationError, match="data: is in use by another replica process"):
        Disk(tmp_path / "data", DEFINITION, config, 0)
    disk.close()
    Disk(tmp_path / "data", DEFINITION, config, 0).close()


def test_times_may_change_but_not_the_values_that_records_depend_on(tmp_path: Path) -> None:
    config = local_config(1)
    Disk(tmp_path, DEFINITION, config, 0).close()
    timeouts = msgspec.structs.replace(config.timeouts, retransmit_ms=20)
    Disk(tmp_path, DEFINITION, msgspec.structs.replace(config, timeouts=timeouts), 0).close()
    with pytest.raises(ConfigurationError, match="another service"):
        Disk(tmp_path, DEFINITION, msgspec.structs.replace(config, service="a:B"), 0)


def test_unfinished_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-0000000002.unfinished").write_bytes(b"half")
    Disk(tmp_path, DEFINITION, local_config(1), 0).close()
    assert [file.name for file in tmp_path.iterdir()] == ["log-0000000001.seg"]


def test_intact_data_is_not_repaired(tmp_path: Path) -> None:
    config, data = local_config(1), tmp_path / "data"
    for _ in range(2):
        disk, aside = open_disk(data, DEFINITION, config, 0, repair=True)
        assert aside is None
        disk.close()
    checkpoint = data / "checkpoint-0000000002"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(Corrupt, match=f"{checkpoint}: byte 52: there is no intact frame"):
        open_disk(data, DEFINITION, config, 0, repair=False)
    disk, aside = open_disk(data, DEFINITION, config, 0, repair=True)
    assert aside is not None
    assert list(disk.take_records()) == []
    assert (aside / "checkpoint-0000000002").exists()
    disk.close()


def test_a_stopped_node_sends_nothing_and_is_not_called(play: Play) -> None:
    async def scenario(hosting: Hosting) -> None:
        node, client = hosting.replica(0), hosting.client()

        def act(source: int, note: Note) -> None:
            node.port.send(source, note)
            if note.number == 2:
                node.port.stop("enough")

        node.reaction = act
        node.port.set_timer("later", 20 * MS)
        client.port.send(0, Note(1))
        await hosting.until(lambda: client.got)
        for number in range(2, 5):
            client.port.send(0, Note(number))
        await hosting.until(lambda: hosting.stopped)
        client.port.send(0, Note(5, bytes(50_000)))
        await asyncio.sleep(0.05)
        assert hosting.stopped == ["enough"]
        assert (node.numbers(), client.numbers(), node.fired) == ([1, 2], [1], [])

    play(local_config(1), scenario)


# A disk that fails

SINGLE: dict[str, Any] = {"protocol": "unreplicated", "durability": "disk"}


def until_it_ends(cluster: Processes, value: bytes) -> dict[bytes, bytes]:
    """Store one value after the other until the replica has ended. Returns what was acknowledged."""
    stored: dict[bytes, bytes] = {}
    with stretto.connect(cluster.config) as client:
        store = client.service(KeyValueStore)
        deadline = time.monotonic() + 60
        while cluster.children[0].is_alive():
            assert time.monotonic() < deadline, "it goes on"
            key = b"key-%06d" % len(stored)
            try:
                store.put(key, value)
            except StrettoError:
                continue
            stored[key] = value
    cluster.children[0].join()
    return stored


def check_the_disk_ended_it(cluster: Processes, part: str) -> None:
    assert cluster.children[0].exitcode == 1
    last = json.loads(cluster.log(0).read_text().splitlines()[-1])
    assert (last["event"], last["level"]) == ("disk failed", "critical")
    assert part in last["reason"]
    assert "traceback" not in last


def check_all_is_there(cluster: Processes, stored: dict[bytes, bytes]) -> None:
    """Start the replica again with a disk that does not fail, and check that all values are there."""
    cluster.prepare = lambda: None
    cluster.children[0] = cluster.start(0, bootstrap=False)
    cluster.wait_for(0)
    with stretto.connect(cluster.config) as client:
        store = client.service(KeyValueStore)
        assert {key: store.get(key) for key in stored} == stored
    assert stored


@pytest.fixture
def single() -> ClusterConfig:
    config = local_config(1, **SINGLE)
    return msgspec.structs.replace(config, timeouts=msgspec.structs.replace(config.timeouts, request_timeout_ms=300))


def test_a_failed_sync_ends_the_replica_and_is_not_retried(processes: Start, single: ClusterConfig, tmp_path: Path) -> None:
    counter = tmp_path / "syncs"

    def prepare() -> None:
        fdatasync = os.fdatasync

        def failing(descriptor: int) -> None:
            with counter.open("ab") as file:
                file.write(b".")
            if counter.stat().st_size == 20:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fdatasync(descriptor)

        os.fdatasync = failing  # type: ignore[assignment] # (the store gives it a descriptor)

    cluster = processes(single, prepare)
    stored = until_it_ends(cluster, b"value")
    check_the_disk_ended_it(cluster, ".seg cannot be synced: Input/output error")
    assert counter.stat().st_size == 20
    check_all_is_there(cluster, stored)


def test_a_write_without_space_ends_the_replica(processes: Start, single: ClusterConfig) -> None:
    def prepare() -> None:
        write, left = os.write, 10_000

        def failing(descriptor: int, data: bytes) -> int:
            nonlocal left
            if left < len(data):
                if not left:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                data, left = data[:left], 0  # a short write, as much as there is space for
                return write(descriptor, data)
            left -= len(data)
            return write(descriptor, data)

        os.write = failing  # type: ignore[assignment] # (the store gives it bytes)

    cluster = processes(single, prepare)
    stored = until_it_ends(cluster, bytes(100))
    check_the_disk_ended_it(cluster, "cannot be written: No space left on device; free some space, then start the replica again")
    check_all_is_there(cluster, stored)


def test_a_failed_compaction_ends_the_replica(processes: Start, single: ClusterConfig) -> None:
    def prepare() -> None:
        fsync, left = os.fsync, 7  # the checkpoint

        def failing(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(descriptor)

        os.fsync = failing  # type: ignore[assignment] # (the store gives it a descriptor)

    limits = msgspec.structs.replace(single.limits, checkpoint_operations=50)
    cluster = processes(msgspec.structs.replace(single, limits=limits), prepare)
    stored = until_it_ends(cluster, b"value")
    check_the_disk_ended_it(cluster, "checkpoint-0000000002 cannot be synced: Input/output error")
    check_all_is_there(cluster, stored)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    data = tmp_path / "replica-0.data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(data)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    yield data
    subprocess.run(["umount", "--lazy", str(data)], check=True)


def test_a_full_disk_ends_the_replica_and_it_restarts_when_there_is_space(
    processes: Start, single: ClusterConfig, small_disk: Path
) -> None:
    cluster = processes(single)
    stored = until_it_ends(cluster, bytes(2_000))
    check_the_disk_ended_it(cluster, "No space left on device")
    cluster.children[0] = cluster.start(0, bootstrap=False)
    cluster.children[0].join(60)
    assert cluster.children[0].exitcode == 1  # a second first start is refused
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    check_all_is_there(cluster, stored)
    cluster.end()


def test_storage_failures_name_file_and_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageFailure, match="cannot be synced: Input/output error"):
        Disk(tmp_path, DEFINITION, local_config(1), 0)
