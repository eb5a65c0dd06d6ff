"""What all tests share."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from hosting import Processes
    from stretto.core.config import ClusterConfig

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("stretto", deadline=None, print_blob=True)
settings.load_profile("stretto")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[..., Processes]]:
    """Starts the replica processes of a configuration, and ends them after the test."""
    from hosting import Processes

    started: list[Processes] = []

    def start(config: ClusterConfig, prepare: Callable[[], None] = lambda: None) -> Processes:
        started.append(Processes(config, tmp_path, prepare))
        return started[-1]

    yield start
    for cluster in started:
        cluster.end()


# The tests end commands as Ctrl-C and a closed terminal do. A background job inherits an ignored SIGINT, and one under nohup an ignored
# SIGHUP; their children would ignore these too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_END_SECONDS = 30.0


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python process with the given arguments and options of `Popen`. What still runs after the test is ended."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, *arguments]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options))
        return processes[-1]

    yield start
    for process in processes:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """SIGTERM first: a command then ends what it has started."""
    if process.poll() is None:
        process.terminate()
    try:
        process.communicate(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    except ValueError:  # the test has read and closed the pipes
        process.wait()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write the files that tests compare with (transcripts, tables of the gate), do not compare them",
    )
