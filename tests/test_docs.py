"""What the documents show is what happens: programs and commands are run as they stand there, settings are compared with the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stretto.core.config import ClusterConfig, Limits, Member, Multicast, Timeouts, load_config
from stretto.runtime.local_cluster import LocalCluster, loopback_config

pytestmark = pytest.mark.xdist_group("processes")

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "stretto"
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def blocks(language: str, document: str = README) -> list[str]:
    """A document's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)


def sessions() -> list[str]:
    """The blocks that show commands with their output."""
    return [block for block in blocks("console") if block.startswith("$ ")]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where the README's files are; clusters that were started there are ended."""
    yield tmp_path
    for file in tmp_path.rglob("cluster.toml"):
        LocalCluster(file.parent).stop()


def test_there_are_blocks() -> None:
    assert len(blocks("python")) == 1
    assert len(sessions()) == 2


@pytest.mark.parametrize("session", sessions())
def test_commands_print_what_is_shown(directory: Path, session: str) -> None:
    [program] = blocks("python")
    (directory / program.splitlines()[0].removeprefix("# ")).write_text(program)
    binaries = directory / "bin"
    binaries.mkdir()
    (binaries / "stretto").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from stretto.cli.main import main; main()" "$@"\n')
    (binaries / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for command in binaries.iterdir():
        command.chmod(0o755)
    commands = [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
    script = "set -e\n" + "\n".join(f"echo '$ '{_quoted(command)}\n{command}" for command in commands)
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", script], cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == (session, 0), result.stderr


def test_the_program_of_the_guide_runs(directory: Path) -> None:
    [program] = blocks("python", GUIDE)
    LocalCluster.create(directory, loopback_config(3, "speculative", "stretto.apps.kv:KeyValueStore")).start()
    result = subprocess.run([sys.executable, "-c", program], cwd=directory, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("b'hello'\n", 0), result.stderr


def test_the_configuration_of_the_guide_is_right(tmp_path: Path) -> None:
    [text] = blocks("toml", GUIDE)
    (tmp_path / "cluster.toml").write_text(text)
    assert load_config(tmp_path / "cluster.toml").n == 3


def test_the_guide_names_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `([a-z_.\[\]]+)` \| ([^|]*?) ?\|", GUIDE, re.MULTILINE)
    documented = {key: default.strip("`") for key, default in rows}
    tables: list[tuple[str, Any]] = [("", ClusterConfig(())), ("multicast.", Multicast("", 0)), ("", Timeouts()), ("", Limits())]
    expected = {
        prefix + key: msgspec.json.encode(getattr(defaults, key)).decode().removesuffix(".0")
        for prefix, defaults in tables
        for key in defaults.__struct_fields__
        if key not in ("replicas", "sequencers", "multicast", "timeouts", "limits")
    }
    members = (f"{kind}[].{key}" for kind in ("replicas", "sequencers") for key in Member.__struct_fields__)
    required = {"multicast.group", "multicast.port", *members}
    assert documented == expected | dict.fromkeys(required, "")


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#]+)", prose)
    assert [target for target in targets if "://" not in target and not (document.parent / target).exists()] == []


SOURCES = sorted(path for folder in ("src", "examples") for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted(
    [*(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]
)


def test_files_and_tests_that_are_named_exist() -> None:
    """In documents, docstrings and comments: paths from the repository's root or the package, and names of tests."""
    tests = {test for path in (ROOT / "tests").rglob("*.py") for test in re.findall(r"\bdef (test_\w+)|$", path.read_text("utf-8"))}
    tests |= {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for page in [*PAGES, *SOURCES]:
        text = page.read_text(encoding="utf-8")
        paths = re.findall(r"(?<![\w/.-])((?:src|tests|docs|examples|\w+)/[\w./-]*\.(?:py|md))\b", text)
        missing += [
            f"{page.name}: {path}"
            for path in paths
            if not any((base / path).exists() for base in (ROOT, PACKAGE, page.parent, ROOT / "examples"))
        ]
        if page.suffix == ".md":
            missing += [f"{page.name}: {test}" for test in re.findall(r"`(test_\w+)`", text) if test not in tests]
    assert missing == []


def test_names_of_the_package_exist() -> None:
    """Dotted names from `stretto` on, in documents, docstrings and comments."""
    names = {name for page in [*PAGES, *SOURCES] for name in re.findall(r"`(stretto(?:\.\w+)+)", page.read_text(encoding="utf-8"))}
    assert [name for name in sorted(names) if not _exists(name)] == []


def _exists(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for attribute in parts[end:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
