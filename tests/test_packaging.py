"""What is installed: the versions of the tools, and what the core install may need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    """The packages that requirements name, Stretto's own extras apart."""
    return {re.split(r"[\s\[<>=]", requirement)[0] for requirement in requirements} - {"stretto"}


def test_every_tool_has_one_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pinned = [re.fullmatch(r"([\w-]+)==[\w.]+", line) for line in lines]
    assert all(pinned), lines
    tools = names(EXTRAS["testing"]) | names(EXTRAS["docs"]) | names(EXTRAS["dev"])
    assert tools == {match[1] for match in pinned if match is not None}


def test_a_replica_and_a_client_need_three_packages() -> None:
    assert names(PROJECT["dependencies"]) == {"msgspec", "click", "rich"}


def test_developers_get_every_extra() -> None:
    own = next(requirement for requirement in EXTRAS["dev"] if requirement.startswith("stretto["))
    assert set(own.removeprefix("stretto[").removesuffix("]").split(",")) == EXTRAS.keys() - {"dev"}
