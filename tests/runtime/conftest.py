"""Fixtures: real replica processes, and nodes that run in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosting import Hosting, Processes, Scenario

from stretto.core.config import ClusterConfig
from stretto.runtime.loop import DatagramLoop


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[..., Processes]]:
    started: list[Processes] = []

    def start(config: ClusterConfig, prepare: Callable[[], None] = lambda: None) -> Processes:
        started.append(Processes(config, tmp_path, prepare))
        return started[-1]

    yield start
    for cluster in started:
        cluster.end()


@pytest.fixture(params=[DatagramLoop, asyncio.SelectorEventLoop])
def play(request: pytest.FixtureRequest) -> Callable[[ClusterConfig, Scenario], None]:
    """Run a scenario with nodes in one event loop, a DatagramLoop and a loop of asyncio. No callback may fail."""

    def run(config: ClusterConfig, scenario: Scenario) -> None:
        errors: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
            hosting = Hosting(config)
            try:
                await scenario(hosting)
            finally:
                for host in hosting.hosts:
                    host.close()
                await asyncio.sleep(0)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())
        assert errors == []

    return run
