"""Packages that only some commands need, and the extra that installs each of them."""

from __future__ import annotations

_EXTRA_OF = {"numpy": "lab", "matplotlib": "lab"}


def remedy(error: ModuleNotFoundError) -> str | None:
    """The line that says what to install, if a package of an extra is missing; None if the error has another reason."""
    package = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF.get(package)
    return None if extra is None else f"this needs {package}: pip install 'stretto[{extra}]'"
