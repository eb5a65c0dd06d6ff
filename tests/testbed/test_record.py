"""The record of a testbed, and that two commands do not change one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from stretto.network.topologies import leaf_spine
from stretto.testbed import record
from stretto.testbed.record import Record

RECORD = Record(leaf_spine(2, 1, 1), 0.02, ["stretto-a-leaf0"], True, ["spine0"])


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert record.load(tmp_path) is None
    RECORD.save(tmp_path)
    assert record.load(tmp_path) == RECORD


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(record.TestbedFailure, match="not a testbed's record"):
        record.load(tmp_path)


def test_the_directory_is_there_while_somebody_is_in_it_and_goes_when_it_is_empty(tmp_path: Path) -> None:
    with record.alone(tmp_path / "all" / "a"):
        assert (tmp_path / "all" / "a").is_dir()
        others = record.alone(tmp_path / "all" / "a")
        with pytest.raises(record.TestbedFailure, match="another command is at work on the testbed a"), others:
            pass
        with record.alone(tmp_path / "all" / "b"):
            pass
        assert (tmp_path / "all" / "a").is_dir()
    assert not (tmp_path / "all").exists()


def test_it_is_removed_last_and_its_directory_with_it(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with record.alone(place):
        RECORD.save(place)
        (place / "leaf0").mkdir()
        (place / "leaf0" / "log").write_text("")
    assert record.load(place) == RECORD
    with record.alone(place):
        record.remove(place)
    assert not place.exists()


def test_one_that_was_never_finished_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.mkdir()
    (place / "record.json.unfinished").write_text("{")
    with record.alone(place):
        assert list(place.iterdir()) == []
    assert not place.exists()
