"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

_HASHES, _ROUNDS, _HASHED = 2_000, 5, bytes(62)


def measured_on() -> dict[str, Any]:
    """Version and commit of Stretto, Python, kernel, processor, and the present load of the machine. Unknown values are None.

    `hash_ns` is the processor time that one small hash takes now. The same work takes up to twice the processor time with a busy sibling
    core, a cold cache or a lower clock, and all other figures change with it.
    """
    return {
        "version": version("stretto"),
        "commit": _commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "hash_ns": _hash_ns(),
    }


def _hash_ns() -> float:
    rounds = []
    for _ in range(_ROUNDS):
        started_ns = time.process_time_ns()
        for _ in range(_HASHES):
            blake2b(_HASHED, digest_size=16).digest()
        rounds.append((time.process_time_ns() - started_ns) / _HASHES)
    return median(rounds)


def _commit() -> str | None:
    """The commit of the source tree, marked if the source differs from it; None outside a checkout."""
    source = Path(__file__).parents[1]
    try:
        head = _git(source, "rev-parse", "HEAD")
        return f"{head}+changes" if _git(source, "status", "--porcelain", "--", ".") else head
    except (OSError, subprocess.SubprocessError):
        return None


def _git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=True, timeout=5)
    return done.stdout.strip()


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine() or None
