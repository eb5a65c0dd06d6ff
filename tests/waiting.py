"""Waiting for processes to begin and to end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def alive(temporary: Path) -> list[int]:
    """Processes that were started with this directory for temporary files."""
    mark = f"TMPDIR={temporary}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for(condition: Any, what: str) -> None:
    """Until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
