"""Fixtures: real replica processes, and nodes that run in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hosting import Hosting, Scenario
from stretto.core.config import ClusterConfig
from stretto.runtime.loop import DatagramLoop


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
