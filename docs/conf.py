"""How Sphinx builds the site from these pages and from the docstrings: `make docs`. It needs no network."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "Stretto"
copyright = "the Stretto authors"
version = release = version_of("stretto")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Stretto {release}"

myst_heading_anchors = 3  # links such as `guide.md#settings` work here as on a code host

default_role = "code"  # docstrings write `names` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}


def mark_code(app: object, what: str, name: str, subject: object, options: object, lines: list[str]) -> None:
    """Make an indented block of a docstring a block of code, as it is in Markdown."""
    for index in reversed(range(1, len(lines) - 1)):
        before, here, after = lines[index - 1 : index + 2]
        if before and not before.startswith("    ") and not here and after.startswith("    "):
            lines[index:index] = ["", "::"]


def shorten_types(app: object, what: str, name: str, subject: object, options: object, arguments: str | None, result: str | None) -> Any:
    """Names without their modules where Sphinx cannot parse a type, and would show them in full with a tilde."""
    if arguments is None or "Concatenate" not in arguments:
        return None
    return tuple(None if part is None else re.sub(r"~[\w.]+\.", "", part) for part in (arguments, result))


INCLUDED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the site that show files of the folder above."""


def resolve_outside(app: object, page: str, source: list[str]) -> None:
    """A link to Markdown outside of docs leads to the page that includes the file; where none does, it becomes the name of the file."""

    def resolved(link: re.Match[str]) -> str:
        text, file = link.groups()
        return f"[{text}]({INCLUDED[file]})" if file in INCLUDED else f"{text} (`{file}`)"

    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)]+\.md)\)", resolved, source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", resolve_outside)
    app.connect("autodoc-process-docstring", mark_code)
    app.connect("autodoc-process-signature", shorten_types)
