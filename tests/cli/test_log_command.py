"""`stretto log`: what it reports of a replica's data, whole, torn and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stretto.cli.main import run
from stretto.core.config import ClusterConfig, Member
from stretto.protocols.speculative import SPECULATIVE
from stretto.replication.messages import Request
from stretto.replication.records import Checkpoint, Committed, RolledBack
from stretto.runtime.disk import Disk
from stretto.runtime.files import DirectoryFiles
from stretto.storage.format import Identity
from stretto.storage.store import Store

CONFIG = ClusterConfig(tuple(Member("127.0.0.1", 7_000 + index) for index in range(3)))


def requests(count: int) -> list[Request]:
    return [Request(1 << 41, 1, number, 0, 0, b"x") for number in range(count)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A checkpoint at 100 with two entries behind it, then three entries of which one was rolled back, and a commit."""
    files = DirectoryFiles(tmp_path / "data")
    store = Store(files, Identity(CONFIG.data_digest(), 2, "speculative"), SPECULATIVE.record_types)
    store.compact([Checkpoint(100, bytes(16), 0, b"state"), *requests(2), Committed(101)])
    compaction = store.sync()
    assert compaction is not None
    compaction.run()
    for burst in (requests(3), [RolledBack(104), Committed(103)]):
        for record in burst:
            store.append(record)
        store.sync()
    files.close()
    return tmp_path / "data"


def log(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert run(["log", *arguments, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_inspect(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = log(capsys, "inspect", str(data))
    assert (found["replica"], found["protocol"], found["cluster"]) == (2, "speculative", CONFIG.data_digest().hex())
    checkpoint, segment = found["files"]
    assert checkpoint == {
        "name": "checkpoint-0000000002",
        "kind": "checkpoint",
        "generation": 2,
        "bytes": (data / "checkpoint-0000000002").stat().st_size,
        "torn_bytes": 0,
        "frames": 1,
        "records": {"Checkpoint": 1, "Committed": 1, "Request": 2},
        "committed": 101,
        "last": 102,
    }
    assert (segment["name"], segment["frames"]) == ("log-0000000002.seg", 2)
    assert segment["records"] == {"Committed": 1, "Request": 3, "RolledBack": 1}
    assert (segment["committed"], segment["last"]) == (103, 104)


def test_text_for_people(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "inspect", str(data)]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "replica 2, protocol speculative"
    size = (data / "log-0000000002.seg").stat().st_size
    assert lines[2:] == [
        f"log-0000000002.seg: {size} bytes, 2 frames, committed 103, last 104",
        "    1 Committed, 3 Request, 1 RolledBack",
    ]


def test_it_changes_nothing_and_works_while_the_replica_runs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = Disk(data, SPECULATIVE, CONFIG, 2)
    before = {file.name: file.read_bytes() for file in data.iterdir()}
    assert log(capsys, "verify", str(data)) == {
        "directory": str(data),
        "verdict": "ok",
        "files": 2,
        "records": 9,
        "torn_bytes": 0,
    }
    assert log(capsys, "inspect", str(data))["files"][-1]["last"] == 104
    assert {file.name: file.read_bytes() for file in data.iterdir()} == before
    disk.close()


def test_a_torn_end(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = data / "log-0000000002.seg"
    segment.write_bytes(segment.read_bytes()[:-20])
    found = log(capsys, "verify", str(data))
    assert found["verdict"] == "torn"
    assert found["torn_bytes"] > 0
    assert found["records"] == 7
    assert run(["log", "verify", str(data)]) == 0
    assert f"the last {found['torn_bytes']} bytes of log-0000000002.seg are torn" in capsys.readouterr().out


def test_damage(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = data / "log-0000000002.seg"
    content = bytearray(segment.read_bytes())
    content[70] ^= 8
    segment.write_bytes(content)
    found = log(capsys, "verify", str(data), status=1)
    assert (found["verdict"], found["file"], found["offset"]) == ("corrupt", str(segment), 52)
    assert "there is no intact frame here, but there is one at byte" in found["reason"]
    assert "--repair" in found["repair"]
    assert run(["log", "verify", str(data)]) == 1
    assert capsys.readouterr().out.startswith(f"corrupt: {segment}: byte 52: ")
    assert run(["log", "inspect", str(data)]) == 1
    assert capsys.readouterr().err.startswith(f"stretto: {segment}: byte 52: ")


@pytest.mark.parametrize("name", ["inspect", "verify"])
def test_wrong_use(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", name, str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"stretto: {tmp_path / 'nowhere'}: there is no such directory\n"
    assert run(["log", name, str(tmp_path)]) == 2
    assert "holds no data of a replica" in capsys.readouterr().err
    assert run(["log", name]) == 2
