"""A run leaves nothing behind. If a run is killed, the next one removes exactly what it left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.runtime.namespaces import WHERE
from stretto.runtime.pid_file import PidFile
from stretto.torture.disk import NoDisk, SmallDisk
from stretto.torture.leftovers import own_directory, remove_leftovers

pytestmark = pytest.mark.xdist_group("namespaces")

HALF_A_RUN = """
import os, signal, subprocess, sys
from subprocess import DEVNULL as quiet
from stretto.runtime.pid_file import PidFile
from stretto.torture.disk import NoDisk, SmallDisk
from stretto.runtime.namespaces import NoNetwork
from stretto.torture.namespaces import Network
from stretto.torture.leftovers import own_directory

with own_directory() as directory:
    (directory / "cluster").mkdir()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=quiet, stderr=quiet, start_new_session=True)
    PidFile(directory / "cluster" / "replica-0.pid").write(process.pid)
    for part in (Network(directory.name, 3), SmallDisk(directory / "disk", 1)):
        try:
            part.up()
        except (NoNetwork, NoDisk):
            pass
    print(directory, process.pid, flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
"""


def half_a_run(monkeypatch: pytest.MonkeyPatch, place: Path, number: str) -> tuple[Path, int]:
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    done = subprocess.run([sys.executable, "-c", HALF_A_RUN, number], capture_output=True, text=True, check=False)
    directory, pid = done.stdout.split()
    return Path(directory), int(pid)


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Removes what a test that failed has left."""
    yield
    remove_leftovers()


def traces_of(directory: Path) -> list[str]:
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(directory) in line]
    return [*map(str, WHERE.glob(f"{directory.name}*")), *mounts, *([str(directory)] if directory.exists() else [])]


def ended(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_run_that_is_interrupted_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory, pid = half_a_run(monkeypatch, tmp_path, "SIGINT")
    assert traces_of(directory) == []
    assert ended(pid)


def test_the_next_run_removes_the_leftovers_of_a_killed_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory, pid = half_a_run(monkeypatch, tmp_path, "SIGKILL")
    assert directory.exists()
    assert remove_leftovers() == [directory]
    assert traces_of(directory) == []
    assert ended(pid)
    assert remove_leftovers() == []


def test_directories_of_live_runs_and_of_other_users_are_not_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "stretto-torture-without-owner").mkdir()
    with own_directory() as directory:
        assert remove_leftovers() == []
        assert directory.exists()
        if os.geteuid() == 0:
            PidFile(directory / "owner.pid").path.write_text("1 1\n")  # an owner that has ended
            os.chown(directory, 12_345, 12_345)
            assert remove_leftovers() == []
            os.chown(directory, 0, 0)
        assert directory.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["stretto-torture-without-owner"]


def test_a_process_that_reuses_the_id_of_an_ended_replica_is_not_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with subprocess.Popen(["sleep", "60"]) as other:
        with own_directory() as directory:
            (directory / "replica-0.pid").write_text(f"{other.pid} 1\n")
        try:
            assert other.poll() is None
        finally:
            other.kill()


def test_a_full_disk_accepts_no_byte_until_it_is_freed(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk", 1)
    try:
        disk.up()
    except NoDisk as reason:
        pytest.skip(str(reason))
    try:
        file = disk.path / "file"
        file.write_bytes(b"x" * 1_000)
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.path / "other").write_bytes(b"x")
        disk.free()
        file.write_bytes(b"x" * 100_000)
    finally:
        subprocess.run(["umount", "--lazy", str(disk.path)], check=True)


def test_a_small_disk_needs_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoDisk, match="needs root"):
        SmallDisk(tmp_path / "disk", 1).up()
