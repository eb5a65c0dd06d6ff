"""A pid file finds its own process again, and never another one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.runtime.pid_file import PidFile


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as running:
        yield running
        running.kill()


def test_it_finds_its_process_until_that_ends(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    pid_file = PidFile(tmp_path / "a.pid")
    assert pid_file.pid() is None
    pid_file.write(process.pid)
    assert PidFile(tmp_path / "a.pid").pid() == process.pid
    assert not pid_file.wait(0.01)
    assert pid_file.signal(signal.SIGTERM)
    assert pid_file.wait(60)
    assert pid_file.pid() is None  # though it is a zombie still
    assert not pid_file.signal(signal.SIGTERM)
    process.wait(60)
    assert pid_file.pid() is None
    assert pid_file.wait(0)


def test_another_process_with_the_same_id_is_not_signalled(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    pid_file = PidFile(tmp_path / "a.pid")
    pid_file.write(process.pid)
    pid, started = pid_file.path.read_text().split()
    pid_file.path.write_text(f"{pid} {int(started) - 1}\n")
    assert pid_file.pid() is None
    assert not pid_file.signal(signal.SIGKILL)
    assert process.poll() is None


@pytest.mark.parametrize("content", ["", "junk", "1", "1 2 3"])
def test_an_invalid_file_identifies_no_process(tmp_path: Path, content: str) -> None:
    pid_file = PidFile(tmp_path / "a.pid")
    pid_file.path.write_text(content)
    assert pid_file.pid() is None
    assert not pid_file.signal(signal.SIGKILL)


def test_a_started_command_begins_only_after_it_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = PidFile(tmp_path / "a.pid")
    with (tmp_path / "a.log").open("wb") as log:
        process = pid_file.start(["sh", "-c", "echo $$"], log)
        assert process.wait(60) == 0
        assert (tmp_path / "a.log").read_text() == f"{process.pid}\n"
        assert (tmp_path / "a.pid").read_text().split()[0] == str(process.pid)

        monkeypatch.setattr(PidFile, "write", lambda self, pid: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pid_file.start(["touch", str(tmp_path / "began")], log)
        assert not (tmp_path / "began").exists()
