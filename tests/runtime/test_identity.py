"""The identity of a replica without a disk: one start line serves for the first start and for every later one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stretto
from stretto.apps.kv import KeyValueStore
from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError
from stretto.runtime.identity import IdentityFile
from stretto.runtime.local_cluster import in_service, loopback_config
from stretto.runtime.metrics import metrics_or_none

pytestmark = pytest.mark.xdist_group("processes")


def test_it_is_kept_and_read(tmp_path: Path) -> None:
    new = IdentityFile(tmp_path / "made" / "here", 1, 3)
    assert new.first is None
    new.keep([7, 8, 9])
    new.keep([7, 8, 9])
    with pytest.raises(ConfigurationError, match="is in use by another replica process"):
        IdentityFile(tmp_path / "made" / "here", 1, 3)
    new.close()
    again = IdentityFile(tmp_path / "made" / "here", 1, 3)
    assert again.first == (7, 8, 9)
    again.close()


@pytest.mark.parametrize(
    ("index", "n", "content", "reason"),
    [
        (2, 3, None, "is the identity of replica 1 of 3, not of replica 2 of 3"),
        (1, 5, None, "is the identity of replica 1 of 3, not of replica 1 of 5"),
        (1, 3, b'{"replica":1', "is damaged"),
        (1, 3, b"\xff\xfe", "is damaged"),
        (1, 3, b"", "remove it, and start this replica once without --bootstrap"),
    ],
)
def test_what_it_cannot_be_is_refused(tmp_path: Path, index: int, n: int, content: bytes | None, reason: str) -> None:
    made = IdentityFile(tmp_path, 1, 3)
    made.keep([7, 8, 9])
    made.close()
    if content is not None:
        (tmp_path / "identity").write_bytes(content)
    with pytest.raises(ConfigurationError, match=reason):
        IdentityFile(tmp_path, index, n)


def test_the_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log-0000000001.seg").touch()
    with pytest.raises(ConfigurationError, match=r"holds log-0000000001\.seg and no identity"):
        IdentityFile(tmp_path, 1, 3)


class Units:
    """Three replicas that are always started by the same line."""

    def __init__(self, directory: Path, config: ClusterConfig) -> None:
        self.directory = directory
        self.config = config
        self.file = directory / "cluster.toml"
        self.file.write_text(config.to_toml())
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *indices: int) -> None:
        for index in indices:
            line = [sys.executable, "-m", "stretto", "replica", "--config", str(self.file), "--index", str(index), "--bootstrap"]
            places = ["--data", str(self.directory / f"data-{index}"), "--log", str(self.log(index))]
            self.processes[index] = subprocess.Popen([*line, *places], stderr=subprocess.DEVNULL)

    def log(self, index: int) -> Path:
        return self.directory / f"{index}.log"

    def kill(self, *indices: int) -> None:
        for index in indices:
            self.processes[index].kill()
            self.processes.pop(index).wait()

    def serve(self, *indices: int) -> bool:
        return all(in_service(metrics_or_none(self.config, index)) for index in indices)


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Units]:
    units = Units(tmp_path, loopback_config(3, "adaptive", "stretto.apps.kv:KeyValueStore"))
    try:
        yield units
    finally:
        units.kill(*list(units.processes))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_the_same_line_starts_and_recovers(units: Units) -> None:
    units.start(0, 1, 2)
    wait_for(lambda: units.serve(0, 1, 2), "the first start")
    with stretto.connect(units.config) as client:
        store = client.service(KeyValueStore)
        store.put(b"a", b"1")
        for index in (0, 1, 2):
            units.kill(index)
            units.start(index)
            wait_for(lambda index=index: units.serve(index), "it recovers")  # type: ignore[misc]
        assert store.get(b"a") == b"1"


def test_a_majority_without_state_says_what_to_do(units: Units) -> None:
    units.start(0, 1, 2)
    wait_for(lambda: units.serve(0, 1, 2), "the first start")
    units.kill(0, 1, 2)
    units.start(0, 1, 2)
    wait_for(lambda: all("remove their identities" in units.log(index).read_text() for index in range(3)), "they say that all is lost")
    assert not units.serve(0)
    units.kill(0, 1, 2)
    for index in range(3):
        (units.directory / f"data-{index}" / "identity").unlink()
    units.start(0, 1, 2)
    wait_for(lambda: units.serve(0, 1, 2), "they start anew")


def test_one_of_another_life_ends_with_a_line(units: Units) -> None:
    units.start(0, 1, 2)
    wait_for(lambda: units.serve(0, 1, 2), "the first start")
    old = (units.directory / "data-2" / "identity").read_bytes()
    units.kill(0, 1, 2)
    for index in range(3):
        (units.directory / f"data-{index}" / "identity").unlink()
    units.start(0, 1, 2)
    wait_for(lambda: units.serve(0, 1, 2), "they start anew")
    units.kill(2)
    (units.directory / "data-2" / "identity").write_bytes(old)
    units.start(2)
    assert units.processes[2].wait(60) == 1
    assert "the others are of another life of the cluster" in units.log(2).read_text()
    (units.directory / "data-2" / "identity").unlink()
