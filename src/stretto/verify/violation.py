"""The exception that checks raise."""

from __future__ import annotations

from typing import Any


class Violation(Exception):
    """A safety property was violated. `kind` is one of a few fixed phrases; `description` says what was observed."""

    def __init__(self, kind: str, description: str) -> None:
        super().__init__(f"{kind}: {description}")
        self.kind = kind
        self.description = description


def shortened(value: Any) -> str:
    """A value as text. The middle of a long text is left out."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-95:]}"
