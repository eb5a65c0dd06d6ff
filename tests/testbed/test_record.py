"""The record of a testbed, and its lock, which excludes a second command."""

from __future__ import annotations

from pathlib import Path

import pytest

from stretto.network.topologies import leaf_spine
from stretto.testbed import record
from stretto.testbed.record import Record

RECORD = Record(leaf_spine(2, 1, 1), 0.02, ["stretto-a-leaf0"], True, ["spine0"])


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert record.load(tmp_path) is None
    RECORD.save(tmp_path)
    assert record.load(tmp_path) == RECORD


def test_an_invalid_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(record.TestbedFailure, match="not a testbed's record"):
        record.load(tmp_path)


def test_the_directory_exists_while_it_is_locked_and_is_removed_when_empty(tmp_path: Path) -> None:
    with record.locked(tmp_path / "all" / "a"):
        assert (tmp_path / "all" / "a").is_dir()
        others = record.locked(tmp_path / "all" / "a")
        with pytest.raises(record.TestbedFailure, match="another command is changing the testbed a"), others:
            pass
        with record.locked(tmp_path / "all" / "b"):
            pass
        assert (tmp_path / "all" / "a").is_dir()
    assert not (tmp_path / "all").exists()


def test_the_record_is_removed_last_and_its_directory_with_it(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with record.locked(place):
        RECORD.save(place)
        (place / "leaf0").mkdir()
        (place / "leaf0" / "log").write_text("")
    assert record.load(place) == RECORD
    with record.locked(place):
        record.remove(place)
    assert not place.exists()


def test_an_unfinished_record_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.mkdir()
    (place / "record.json.unfinished").write_text("{")
    with record.locked(place):
        assert list(place.iterdir()) == []
    assert not place.exists()
