"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
