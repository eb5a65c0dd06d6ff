"""The glossary defines each term once, and the names that it gives occur in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in GLOSSARY.splitlines() if line.startswith("| **")]
TERMS = [row[0].strip("*") for row in ROWS]


@pytest.fixture(scope="module")
def words() -> set[str]:
    """All words of the source, and of the names of its modules."""
    files = sorted((ROOT / "src").rglob("*.py"))
    return {word for file in files for word in re.findall(r"\w+", f"{file.stem} {file.parent.name} {file.read_text(encoding='utf-8')}")}


def test_rows_have_all_columns() -> None:
    assert ROWS
    assert [row for row in ROWS if len(row) != 4 or not all(row)] == []


def test_terms_are_defined_once() -> None:
    assert len(set(TERMS)) == len(TERMS)


@pytest.mark.parametrize("row", ROWS, ids=TERMS)
def test_names_occur_in_the_code(row: list[str], words: set[str]) -> None:
    names = re.findall(r"`([^`]+)`", row[-1])
    assert names, "a term without a name in the code"
    assert [name for name in names if not set(re.findall(r"\w+", name)) <= words] == []
