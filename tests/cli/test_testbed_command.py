"""`stretto testbed`: wrong use is one line and exit status 2, and what is missing is named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from stretto.cli.main import run
from stretto.testbed import fabric, probe

NAME = f"test-{os.getpid()}-cli"


@pytest.fixture
def root() -> Iterator[None]:
    if lacks := probe.missing():
        pytest.skip(f"this machine lacks {'; '.join(lacks)}")
    yield
    fabric.down(NAME)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["up", "datacentre"], "119 switches are too many for a testbed on one machine; 20 at most"),
        (["up", "nowhere"], "'nowhere' is neither a .toml file nor one of testbed"),
        (["up", "--name", "a b"], "'a b' cannot name a testbed"),
        (["up", "--scale", "7"], "scale: 7.0 is not a factor for the links' rates; 0.0001 to 1"),
        (["up", "--scale", "fast"], "'fast' is not a valid float"),
        (["status", "--name", "../x"], "'../x' cannot name a testbed"),
        (["kill"], "Missing argument 'ELEMENT'"),
    ],
)
def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    assert run(["testbed", *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["up"], ["down"], ["status"], ["kill", "root0"], ["revive", "root0"]])
def test_without_root_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["testbed", *arguments, "--name", NAME]) == 1
    assert "root" in capsys.readouterr().err


@pytest.mark.usefixtures("root")
@pytest.mark.xdist_group("testbed")
def test_up_look_kill_revive_down(capsys: pytest.CaptureFixture[str]) -> None:
    def stretto(*arguments: str) -> tuple[int, str]:
        status = run(["testbed", *arguments, "--name", NAME])
        return status, capsys.readouterr().out

    assert stretto("up", "leaf_spine(1,2,1)") == (0, f"testbed {NAME} is up: 3 switches, 1 hosts\n")
    assert stretto("up", "leaf_spine(1,2,1)") == (0, f"testbed {NAME} was up already: 3 switches, 1 hosts\n")
    assert stretto("kill", "spine0-leaf0") == (0, "spine0-leaf0 is killed\n")
    code, table = stretto("status")
    assert code == 1
    assert "spine0-leaf0 killed" in table
    code, text = stretto("status", "--json")
    state = json.loads(text)
    assert code == 1
    assert {cable["name"]: cable["state"] for cable in state["cables"]} == {"leaf0:1": "up", "spine0:1": "killed", "spine1:1": "up"}
    assert state["hosts"] == {"leaf0h0": "10.83.0.1"}
    assert stretto("kill", "nobody")[0] == 2
    assert stretto("revive", "spine0-leaf0") == (0, "spine0-leaf0 is back\n")
    assert stretto("status")[0] == 0
    assert stretto("down") == (0, f"testbed {NAME} is down\n")
    assert stretto("down") == (0, f"there was no testbed {NAME}\n")
    assert stretto("status")[0] == 1
