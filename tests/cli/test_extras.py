"""Commands on an installation that has neither numpy nor matplotlib."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NUMPY, MATPLOTLIB = "numpy", "matplotlib"

_RUN = """
import sys

class Missing:
    \"\"\"Finds these packages, and says that they are not there.\"\"\"

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from stretto.cli.main import run
sys.exit(run(sys.argv[2:]))
"""


def without(packages: tuple[str, ...], arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """The end of a command in a process where these packages cannot be imported."""
    command = [sys.executable, "-c", _RUN, ",".join(packages), *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False, env=os.environ)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["cluster", "init", "here"],
        ["replica", "--help"],
        ["sequencer", "--help"],
        ["kv", "--help"],
        ["log", "--help"],
        ["verify", "--help"],
        ["explore", "--help"],
        ["torture", "--help"],
        ["simulate", "--operations", "50"],
        ["fuzz", "--help"],
        ["mutants", "--help"],
        *([name, "--help"] for name in ("bench", "calibrate", "compare", "demo", "reproduce", "testbed")),
    ],
    ids=" ".join,
)
def test_clusters_and_plain_simulations_need_neither(arguments: list[str], tmp_path: Path) -> None:
    done = without((NUMPY, MATPLOTLIB), arguments, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("packages", "arguments"),
    [
        ((NUMPY, MATPLOTLIB), ["reproduce"]),
        ((MATPLOTLIB,), ["reproduce"]),
        ((NUMPY, MATPLOTLIB), ["bench"]),
        ((NUMPY, MATPLOTLIB), ["calibrate"]),
        ((NUMPY, MATPLOTLIB), ["demo"]),
        ((MATPLOTLIB,), ["demo", "--plot", "protocols.png"]),
        ((NUMPY, MATPLOTLIB), ["compare", "a.json", "b.json"]),
        ((NUMPY, MATPLOTLIB), ["network", "reorder"]),
        ((NUMPY, MATPLOTLIB), ["simulate", "--topology", "testbed"]),
    ],
)
def test_a_command_that_needs_one_says_what_to_install_before_it_does_anything(
    packages: tuple[str, ...], arguments: list[str], tmp_path: Path
) -> None:
    done = without(packages, arguments, tmp_path)
    expected = [f"stretto: this needs {package}: pip install 'stretto[lab]'\n" for package in packages]
    assert done.returncode == 2
    assert done.stderr in expected
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
