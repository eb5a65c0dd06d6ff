"""The store over files in memory: which records survive crashes, failures and damage."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from memory_files import OWNER, Crash, Item, MemoryFiles, numbers, opened

from stretto.core.errors import ConfigurationError
from stretto.storage.contents import read_contents, segment_name
from stretto.storage.files import Corrupt, StorageFailure
from stretto.storage.format import FRAME_BYTES, HEADER_BYTES, Identity
from stretto.storage.store import Store


def write(store: Store, *bursts: list[int], text: bytes = b"") -> None:
    for burst in bursts:
        for number in burst:
            store.append(Item(number, text))
        store.sync()


def segments(files: MemoryFiles) -> list[str]:
    return [name for name in files.names() if name.startswith("log")]


def test_synced_records_are_there_in_the_next_incarnation() -> None:
    files = MemoryFiles()
    store = opened(files)
    assert numbers(store) == []
    write(store, [1, 2], [3])
    store.append(Item(4))
    assert store.pending
    again = opened(files)
    assert numbers(again) == [1, 2, 3]
    write(again, [5])
    assert numbers(opened(files)) == [1, 2, 3, 5]


def test_a_burst_costs_one_sync() -> None:
    files = MemoryFiles()
    store = opened(files)
    files.calls.clear()
    write(store, list(range(200)))
    name = segments(files)[-1]
    assert files.calls == [f"append {name}", f"sync {name}", f"append {name}"]
    files.calls.clear()
    assert not store.pending
    store.sync()
    assert files.calls == []


def test_compacted_records_replace_the_earlier_ones() -> None:
    files = MemoryFiles()
    store = opened(files)
    write(store, [1, 2], [3])
    store.append(Item(4))
    store.compact([Item(100)])
    store.append(Item(5))
    compaction = store.sync()
    assert compaction is not None
    write(store, [6])
    assert numbers(opened(files.copy())) == [1, 2, 3, 4, 5, 6]
    compaction.run()
    assert numbers(opened(files.copy())) == [100, 5, 6]
    assert len(files.names()) == 2
    write(store, [7])
    assert numbers(opened(files)) == [100, 5, 6, 7]


def test_a_compaction_while_another_runs_is_skipped() -> None:
    files = MemoryFiles()
    store = opened(files)
    write(store, [1])
    store.compact([Item(100)])
    first = store.sync()
    assert first is not None
    store.append(Item(2))
    store.compact([Item(200)])
    assert store.sync() is None
    assert numbers(opened(files.copy())) == [1, 2]
    first.run()
    assert numbers(opened(files.copy())) == [100, 2]
    store.append(Item(3))
    store.compact([Item(300)])
    second = store.sync()
    assert second is not None
    second.run()
    assert numbers(opened(files)) == [300]


def test_a_large_checkpoint() -> None:
    files = MemoryFiles()
    store = opened(files)
    store.compact([Item(number) for number in range(2_500)])
    compaction = store.sync()
    assert compaction is not None
    compaction.run()
    assert numbers(opened(files)) == list(range(2_500))


def test_a_crash_at_any_call_loses_nothing_that_was_synced() -> None:
    """Crashes at each changing call in turn, with several states that a power failure could leave."""
    random = Random(7)
    for calls in range(40):
        files = MemoryFiles()
        appended: list[int] = []
        synced = 0
        files.calls_left = calls
        try:
            store = opened(files)
            for burst in range(6):
                for number in range(burst * 10, burst * 10 + random.randint(1, 5)):
                    store.append(Item(number, random.randbytes(random.choice([3, 400]))))
                    appended.append(number)
                if burst == 3:
                    store.compact([Item(number) for number in appended])
                compaction = store.sync()
                synced = len(appended)
                if compaction is not None and random.random() < 0.7:
                    compaction.run()
                if burst == 4:
                    store = opened(files)
                    assert numbers(store) == appended
        except Crash:
            pass
        for _ in range(30):
            left = files.power_cut(random)
            found = numbers(opened(left))
            assert found == appended[: len(found)], calls
            assert len(found) in (synced, len(appended)), calls
            assert numbers(opened(left)) == found


def test_a_crash_while_the_store_opens_loses_nothing() -> None:
    random = Random(8)
    files = MemoryFiles()
    write(opened(files), [1, 2], [3, 4])
    for calls in range(8):
        crashed = files.copy()
        crashed.calls_left = calls
        try:
            opened(crashed)
        except Crash:
            for _ in range(10):
                assert numbers(opened(crashed.power_cut(random))) == [1, 2, 3, 4]
        else:
            assert calls >= 3


def test_data_in_the_page_cache_is_synced_before_the_store_relies_on_it() -> None:
    """A process that is killed between write and sync leaves a frame that a power failure could still remove."""
    files = MemoryFiles()
    store = opened(files)
    write(store, [1])
    files.calls_left = 1
    store.append(Item(2))
    with pytest.raises(Crash):
        store.sync()
    files.calls_left = None
    assert numbers(opened(files)) == [1, 2]
    for seed in range(20):
        assert numbers(opened(files.power_cut(Random(seed)))) == [1, 2]


@pytest.mark.parametrize("call", [0, 1, 2])
def test_after_a_failure_nothing_is_retried(call: int) -> None:
    files = MemoryFiles()
    store = opened(files)
    write(store, [1])
    files.failure, files.calls_left = StorageFailure, call
    store.append(Item(2))
    with pytest.raises(StorageFailure):
        store.sync()
    files.calls_left = None
    made = len(files.calls)
    with pytest.raises(StorageFailure, match="an earlier write has failed"):
        store.sync()
    assert len(files.calls) == made


def three_bursts() -> MemoryFiles:
    files = MemoryFiles()
    write(opened(files), [1, 2], [3], [4, 5], text=b"some text")
    return files


def test_a_cut_segment_still_has_all_bursts_before_the_cut() -> None:
    files = three_bursts()
    [name] = segments(files)
    [contents] = read_contents(files)
    ends = {frame.end: len(frame.payload) > 0 for frame in contents.frames}
    bursts = [[1, 2], [3], [4, 5]]
    for size in range(HEADER_BYTES, len(files.files[name]) + 1):
        cut = files.copy()
        del cut.files[name][size:]
        whole = sum(has_records for end, has_records in ends.items() if end <= size)
        expected = [number for burst in bursts[:whole] for number in burst]
        assert numbers(opened(cut)) == expected, size
        assert numbers(opened(cut)) == expected, size
    for size in range(HEADER_BYTES):
        cut = files.copy()
        del cut.files[name][size:]
        with pytest.raises(Corrupt, match="fewer than its header"):
            opened(cut)


def damage(files: MemoryFiles, name: str, bit: int) -> MemoryFiles:
    damaged = files.copy()
    damaged.files[name][bit // 8] ^= 1 << bit % 8
    return damaged


def test_any_flipped_bit_of_a_segment_is_detected_or_harmless() -> None:
    """Only bits of a mark are harmless, because a mark holds no records."""
    files = three_bursts()
    [name] = segments(files)
    [contents] = read_contents(files)
    marks = [range(frame.offset, frame.end) for frame in contents.frames if not frame.payload]
    for bit in range(8 * len(files.files[name])):
        damaged = damage(files, name, bit)
        if any(bit // 8 in mark for mark in marks):
            assert numbers(opened(damaged)) == [1, 2, 3, 4, 5], bit
        else:
            with pytest.raises(Corrupt) as caught:
                opened(damaged)
            assert caught.value.file == f"memory/{name}"
            assert caught.value.offset <= bit // 8
            assert "--repair" in str(caught.value)


def test_any_flipped_bit_and_any_cut_of_an_older_file_is_detected() -> None:
    files = MemoryFiles()
    store = opened(files)
    write(store, [1, 2], [3])
    store.compact([Item(100), Item(101)])
    compaction = store.sync()
    before = files.copy()  # two segments
    assert compaction is not None
    compaction.run()
    write(store, [4])
    after = files.copy()  # a checkpoint, and the second segment
    for directory, expected, name in ((before, [1, 2, 3], segments(before)[0]), (after, [100, 101, 4], "checkpoint-0000000002")):
        assert numbers(opened(directory.copy())) == expected
        harmless = 0
        for bit in range(8 * len(directory.files[name])):
            with suppress(Corrupt):
                assert numbers(opened(damage(directory, name, bit))) == expected
                harmless += 1
        assert harmless == (8 * FRAME_BYTES * 2 if name.startswith("log") else 0)  # the marks of two bursts
        needed = len(directory.files[name]) - (FRAME_BYTES if name.startswith("log") else 0)  # a segment's last mark is not needed
        for size in range(needed):
            cut = directory.copy()
            del cut.files[name][size:]
            with pytest.raises(Corrupt) as caught:
                opened(cut)
            assert caught.value.file == f"memory/{name}"


@pytest.mark.parametrize("missing", ["checkpoint-0000000002", "log-0000000002.seg"])
def test_a_missing_file_is_detected(missing: str) -> None:
    files = MemoryFiles()
    store = opened(files)
    store.compact([Item(1)])
    compaction = store.sync()
    assert compaction is not None
    compaction.run()
    del files.files[missing]
    with pytest.raises(Corrupt, match=f"{missing}: byte 0: the file is missing"):
        opened(files)


def test_a_file_in_the_place_of_another_is_refused() -> None:
    files = MemoryFiles()
    store = opened(files)
    write(store, [1])
    store.compact([Item(1)])
    store.sync()
    first, second = segments(files)
    files.files[second] = files.files[first]
    with pytest.raises(Corrupt, match="the header belongs to another file"):
        opened(files)


def test_a_frame_of_another_file_is_not_valid_in_this_one() -> None:
    """Not even at the same offset: the files of another replica have frames of the same sizes."""
    files, other = MemoryFiles(), MemoryFiles()
    write(opened(files), [1], [2])
    write(Store(other, Identity(OWNER.cluster, 2, OWNER.protocol), (Item,)), [1], [3])
    [name] = segments(files)
    middle = HEADER_BYTES + (len(files.files[name]) - HEADER_BYTES) // 2
    files.files[name][middle:] = other.files[name][middle:]
    assert numbers(opened(files)) == [1]  # as if the second had never been written


@pytest.mark.parametrize(
    ("identity", "part"),
    [
        (Identity(OWNER.cluster, 2, OWNER.protocol), "of replica 1 with protocol speculative, not of replica 2"),
        (Identity(OWNER.cluster, 1, "multipaxos"), "not of replica 1 with protocol multipaxos"),
        (Identity(b"cluster2", 1, OWNER.protocol), "other replicas, or another service"),
    ],
)
def test_the_directory_of_another_replica_is_refused_and_not_changed(identity: Identity, part: str) -> None:
    files = MemoryFiles()
    write(opened(files), [1])
    before = dict(files.files)
    with pytest.raises(ConfigurationError, match=part):
        Store(files, identity, (Item,))
    assert files.files == before


def test_files_of_a_later_version_are_not_reported_as_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryFiles()
    monkeypatch.setattr("stretto.storage.format.VERSION", 2)
    opened(files)
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="version 2; this Stretto knows version 1; use the Stretto that wrote it"):
        opened(files)


def test_other_files_in_the_directory_are_not_changed() -> None:
    files = MemoryFiles()
    for name in ("lost+found", "log-1.seg", "checkpoint-0000000001.old"):
        files.files[name] = bytearray(b"mine")
        files.synced[name] = 4
    write(opened(files), [1])
    assert numbers(opened(files)) == [1]
    assert {"lost+found", "log-1.seg", "checkpoint-0000000001.old"} < set(files.names())


def test_names_sort_by_age() -> None:
    assert segment_name(9) < segment_name(10)
