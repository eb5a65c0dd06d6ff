"""The simulated disk: synced data stays, any part of unsynced data may survive, and a crash stops a burst at any point."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from stretto.simulation.disk import SECTOR_BYTES, Disk, DiskTimes
from stretto.simulation.network import Delay
from stretto.storage.files import StorageFailure

TIMES = DiskTimes(Delay("constant", 1_000), Delay("constant", 0))
OLD = b"what was synced"
NEW = b"x" * (3 * SECTOR_BYTES)


def disk_with(seed: int, *files: str) -> Disk:
    disk = Disk("disk", TIMES, Random(seed))
    for name in files:
        disk.replace(name, [OLD])
    disk.settle()
    return disk


def test_written_data_can_be_read() -> None:
    disk = disk_with(0, "a", "b")
    disk.append("a", b" and more")
    assert disk.read("a") == OLD + b" and more"
    disk.replace("a", [b"new", b"er"])
    disk.remove("b")
    assert (disk.read("a"), disk.names()) == (b"newer", ["a"])
    with pytest.raises(FileNotFoundError):
        disk.read("b")


def test_synced_data_survives_a_crash() -> None:
    for seed in range(50):
        disk = disk_with(seed, "a")
        disk.append("a", NEW)
        disk.sync("a")
        disk.replace("b", [NEW])
        disk.settle()
        disk.crash()
        assert (disk.read("a"), disk.read("b")) == (OLD + NEW, NEW)


def test_any_part_of_unsynced_data_may_survive() -> None:
    kinds = Counter[str]()
    for seed in range(200):
        disk = disk_with(seed, "a")
        disk.append("a", NEW)
        disk.settle()
        disk.crash()
        content = disk.read("a")
        assert content.startswith(OLD)
        torn = content[len(OLD) :]
        kinds["nothing" if not torn else "all" if torn == NEW else "sectors" if 0 in torn else "a beginning"] += 1
    assert min(kinds[kind] for kind in ("nothing", "all", "sectors", "a beginning")) > 10


def test_a_crash_stops_a_burst_anywhere_and_in_order() -> None:
    found = Counter[tuple[bool, ...]]()
    for seed in range(200):
        disk = disk_with(seed, "a")
        disk.append("a", b"!")
        disk.sync("a")
        disk.replace("b", [b"b"])
        disk.replace("c", [b"c"])
        disk.crash()
        found[disk.read("a") == OLD + b"!", "b" in disk.names(), "c" in disk.names()] += 1
    assert set(found) == {(False, False, False), (True, False, False), (True, True, False), (True, True, True)}


def test_a_removed_file_may_exist_again_until_the_directory_was_synced() -> None:
    back = Counter[bool]()
    for seed in range(50):
        disk = disk_with(seed, "a", "b")
        disk.remove("a")
        disk.settle()
        disk.crash()
        back["a" in disk.names()] += 1
        disk = disk_with(seed, "a", "b")
        disk.remove("a")
        disk.replace("b", [OLD])
        disk.settle()
        disk.crash()
        assert disk.names() == ["b"]
    assert min(back[True], back[False]) > 10


def test_syncs_take_time() -> None:
    disk = disk_with(0, "a")
    assert disk.take_spent_ns() == 1_000
    disk.append("a", NEW)
    assert disk.take_spent_ns() == 0
    disk.slowdown = 3.0
    disk.sync("a")
    disk.replace("b", [])
    assert (disk.take_spent_ns(), disk.take_spent_ns()) == (6_000, 0)


def test_a_full_disk_takes_at_most_a_part() -> None:
    disk = disk_with(3, "a")
    disk.full = True
    with pytest.raises(StorageFailure, match="disk/a: no space left"):
        disk.append("a", NEW)
    with pytest.raises(StorageFailure, match="disk/b: no space left"):
        disk.replace("b", [OLD])
    assert disk.names() == ["a"]
    assert (OLD + NEW).startswith(disk.read("a"))
    assert len(disk.read("a")) < len(OLD + NEW)


def test_after_a_failed_sync_the_written_data_is_uncertain() -> None:
    contents = set()
    for seed in range(50):
        disk = disk_with(seed, "a")
        disk.append("a", b"!")
        disk.failing = True
        with pytest.raises(StorageFailure, match="disk/a: input/output error"):
            disk.sync("a")
        disk.crash()
        contents.add(disk.read("a"))
    assert contents >= {OLD, OLD + b"!"}


def test_a_flipped_bit_is_one_bit() -> None:
    disk = disk_with(1, "a", "b")
    flipped = disk.flip_bit()
    before, after = (int.from_bytes(content, "big") for content in (OLD, disk.read(str(flipped["file"]))))
    assert (before ^ after).bit_count() == 1


def test_a_crash_of_only_the_process_loses_nothing() -> None:
    for seed in range(20):
        disk = disk_with(seed, "a", "b")
        disk.append("a", NEW)
        disk.remove("b")
        disk.keep_all()
        disk.crash()
        assert (disk.names(), disk.read("a")) == (["a"], OLD + NEW)
