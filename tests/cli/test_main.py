"""The frame of the commands: what is listed exists, it starts quickly, and errors are one line and a status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from stretto.cli import lazy, main
from stretto.core.errors import ConfigurationError, RequestTimeout


def test_every_command_that_is_listed_is_there() -> None:
    context = click.Context(main.stretto)
    for name in main.stretto.list_commands(context):
        command = main.stretto.get_command(context, name)
        assert isinstance(command, click.Command)
        assert command.help, f"stretto {name} has no help"


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from stretto.cli.main import run; status = run(['--help'])\n"
        "sys.exit(status or any(m in sys.modules for m in ('numpy', 'rich', 'asyncio', 'stretto.runtime', 'stretto.cli.cluster')))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "cluster" in result.stdout


def test_it_is_a_module_too() -> None:
    result = subprocess.run([sys.executable, "-m", "stretto", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("stretto 0.")


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        ([], 2, "stretto: Missing command, one of demo, cluster, "),
        (["cluster"], 2, "stretto cluster: Missing command, one of down, init, status, up."),
        (["kv", "incr", "a", "9223372036854775808"], 2, "is not in the range"),
        (["kv", "scan", "--limit", "9223372036854775808"], 2, "is not in the range"),
        (["fuzz", "--seconds", "nan"], 2, "stretto fuzz: Invalid value for '--seconds': 'nan' is not a number"),
        (
            ["cluster", "init", "--replicas", "99999"],
            2,
            "stretto: replicas: 99999 are too many for one machine; at most 99 can be set up here",
        ),
        (["torture", "--keep", "/dev/null/kept"], 2, "stretto: /dev/null/kept: cannot be written: Not a directory"),
        (["explore", "--save", "nowhere/schedule"], 2, "cannot be written: there is no directory"),
        (["calibrate", "--out", "."], 2, "stretto: .: cannot be written: Is a directory"),
        (["nosuch"], 2, "stretto: No such command 'nosuch'"),
        (["cluster", "upp"], 2, "stretto cluster: No such command 'upp'"),
        (["cluster", "up", "--nosuch"], 2, "No such option"),
        (["replica"], 2, "stretto: no cluster.toml in"),
        (["replica", "--config", "nowhere.toml", "--index", "0"], 2, "nowhere.toml: cannot be read: No such file"),
        (["replica", "--config", "nowhere.toml", "--index", "one"], 2, "'one' is not a valid integer"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], status: int, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(arguments) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert part in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigurationError("is wrong", key="replicas", file="c.toml"), 2, "stretto: c.toml: replicas: is wrong\n"),
        (RequestTimeout("no quorum\nanswered"), 1, "stretto: no quorum answered\n"),
        (click.ClickException("failed"), 1, "stretto: failed\n"),
        (OSError(28, "No space left on device"), 1, "stretto: No space left on device\n"),
        (OSError(2, "No such file", "a/b"), 1, "stretto: a/b: No such file\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_how_a_command_ends(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(lazy.LazyGroup, "get_command", lambda *_: failing)
    assert main.run(["demo"]) == status
    assert capsys.readouterr().err == line
