"""Each example is run by the commands of its docstring, and prints what stands there."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.runtime.local_cluster import LocalCluster

pytestmark = pytest.mark.xdist_group("processes")

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
FILES = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/__init__.py")])
NAMES = [str(file.relative_to(EXAMPLES)) for file in FILES]


def session(file: Path) -> str:
    """The commands of an example's docstring, with what they print."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring is not None
    return re.sub("^    ", "", docstring[docstring.index("    $ ") :], flags=re.MULTILINE) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A copy of the examples; a cluster that was started there is ended."""
    place = tmp_path / "examples"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns("__pycache__"))
    yield place
    if (place / "cluster.toml").exists():
        LocalCluster(place).stop()


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_print_what_is_shown(name: str, folder: Path) -> None:
    expected = session(EXAMPLES / name)
    binaries = folder / "bin"
    binaries.mkdir()
    (binaries / "stretto").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stretto "$@"\n')
    (binaries / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for command in binaries.iterdir():
        command.chmod(0o755)
    commands = [line.removeprefix("$ ") for line in expected.splitlines() if line.startswith("$ ")]
    script = "set -e\n" + "\n".join(f"echo '$ {command}'\n{command}" for command in commands)
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr


def test_the_table_names_every_example() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"^\|[^|]*\| \[[^]]*\]\(([^)]*)\)", table, re.MULTILINE)
    upgrade = "upgrade/"  # what it prints is measured; see test_roll_out.py
    assert sorted(linked) == sorted([upgrade, *(name.removesuffix("__init__.py") for name in NAMES)])
