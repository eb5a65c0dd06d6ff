"""What a check raises."""

from __future__ import annotations

from typing import Any


class Violation(Exception):
    """Something happened that must never happen. `kind` is one of a few fixed phrases, `description` says what was seen."""

    def __init__(self, kind: str, description: str) -> None:
        super().__init__(f"{kind}: {description}")
        self.kind = kind
        self.description = description


def shortened(value: Any) -> str:
    """A value for people, its middle left out if it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-95:]}"
