"""Small testbeds for tests. They are named after the process id, and always removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.network.topologies import named
from stretto.runtime.namespaces import WHERE
from stretto.testbed import fabric, probe
from stretto.testbed.fabric import Fabric
from stretto.testbed.plan import DIRECTORY, Plan

SMALL = "leaf_spine(2,2,2,host_gbps=1,fabric_gbps=1)"
"""Two racks of two hosts, with two paths between the racks."""


def leftovers(name: str) -> list[str]:
    """The namespaces, processes and files of a testbed that exist."""
    left = [str(path) for path in WHERE.glob(f"stretto-{name}-*")]
    if (DIRECTORY / name).exists():
        left.append(str(DIRECTORY / name))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if any(word == name or f"{DIRECTORY}/{name}/" in word for word in words) and int(process.name) != os.getpid():
            left.append(f"{process.name}: {' '.join(words)}")
    return left


@pytest.fixture(scope="module")
def machine() -> None:
    """Skip the test if the machine does not allow testbeds, except on CI with root."""
    lacks = probe.missing()
    if lacks and os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"this machine lacks {'; '.join(lacks)}")
    if lacks:
        pytest.skip(f"this machine lacks {'; '.join(lacks)}")


@pytest.fixture
def name(machine: None) -> Iterator[str]:
    """A name for a testbed, which is taken down at the end."""
    called = f"test-{os.getpid()}"
    yield called
    fabric.down(called)


@pytest.fixture(scope="module")
def testbed(machine: None) -> Iterator[Fabric]:
    """A small testbed that is up, for all tests of a module."""
    made = Fabric(Plan(named(SMALL), f"test-{os.getpid()}-up"), 0.01)
    made.up()
    yield made
    fabric.down(made.plan.name)
