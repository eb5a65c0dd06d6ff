"""Nothing is left of a testbed, no matter when `up` was killed, and nothing that others made is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from stretto.network.topologies import named
from stretto.runtime import namespaces
from stretto.testbed import fabric, record
from stretto.testbed.fabric import Fabric
from stretto.testbed.plan import Plan

from .conftest import leftovers

pytestmark = pytest.mark.xdist_group("testbed")

TINY = "leaf_spine(1,1,2)"
KILLED = """
import os, signal, subprocess, sys
from stretto.network.topologies import named
from stretto.testbed.fabric import Fabric
from stretto.testbed.plan import Plan

class Popen(subprocess.Popen):
    left = int(sys.argv[3])

    def __init__(self, *arguments, **keywords):
        if Popen.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Popen.left -= 1
        super().__init__(*arguments, **keywords)

subprocess.Popen = Popen
Fabric(Plan(named(sys.argv[1]), sys.argv[2])).up()
"""
"""Brings a testbed up, and kills itself before its nth command."""


def killed_up(name: str, commands: int) -> int:
    return subprocess.run([sys.executable, "-c", KILLED, TINY, name, str(commands)], check=False).returncode


# Of the thirty commands, the first checks the kernel, and the second makes the namespaces.
@pytest.mark.parametrize("commands", [1, 3, 5, 12, 20, 24, 27, 28, 29])
def test_down_removes_what_up_left_when_it_was_killed(name: str, commands: int) -> None:
    assert killed_up(name, commands) == -signal.SIGKILL
    fabric.down(name)
    assert leftovers(name) == []


def test_up_after_a_killed_up_makes_the_testbed_again(name: str) -> None:
    assert killed_up(name, 27) == -signal.SIGKILL
    made = Fabric(Plan(named(TINY), name))
    assert made.up() == "made"
    assert made.status().healthy
    assert fabric.down(name)
    assert leftovers(name) == []
    assert not fabric.down(name)


def test_nothing_is_left_when_a_switch_does_not_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stretto.testbed.switch._SETTINGS", ("datapath_type=netdev", "fail_mode=nonsense"))
    with pytest.raises(record.TestbedFailure, match=r"switch leaf0 did not start: .*nonsense is not one of"):
        Fabric(Plan(named(TINY), name)).up()
    assert leftovers(name) == []


def test_names_taken_by_others_are_refused_and_not_touched(name: str) -> None:
    theirs = f"stretto-{name}-leaf0h1"
    namespaces.make([theirs])
    try:
        with pytest.raises(record.TestbedFailure, match=f"{theirs} exists, but no testbed made it"):
            Fabric(Plan(named(TINY), name)).up()
        assert not fabric.down(name)
        assert leftovers(name) == [str(namespaces.WHERE / theirs)]
    finally:
        namespaces.delete([theirs])


def test_ctrl_c_leaves_nothing(name: str, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    process = start_python("-m", "stretto", "testbed", "up", "testbed", "--name", name, start_new_session=True)
    while not leftovers(name)[2:]:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(60) == 130
    assert leftovers(name) == []
