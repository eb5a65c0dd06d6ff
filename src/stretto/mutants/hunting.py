"""Hunts: a mutant is planted in a copy of the package, and its hunter runs there as a process of its own."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import msgspec

import stretto
from stretto.mutants.mutant import Mutant

PACKAGE = Path(stretto.__file__).parent
_EFFORTS = ("operations", "runs", "states", "walks", "steps")
_NO_PROGRAM = ("AttributeError", "NameError", "TypeError", "UnboundLocalError")
"""What a mutant raises whose text does not fit the code around it: that it fails says nothing about the checks."""
_GRACE_SECONDS = 30.0
"""How long after its time limit a hunter may still run, to complete the last run that it started."""


class Finding(msgspec.Struct, frozen=True):
    """The result of one hunt.

    - `hunter`: its command line; `effort`: how much work it did, in its own units (operations, runs, states or steps);
    - `found`: whether there was a violation with the mutant, and none in the same run without it;
    - `kind`, `description`: the violation, or why none counts.
    """

    mutant: str
    rule: str
    hunter: str
    found: bool
    effort: dict[str, int]
    seconds: float
    kind: str = ""
    description: str = ""


def mutated(mutant: Mutant) -> str:
    """The source of the mutant's module with the bug in it. Raises MutantError if it does not fit."""
    return mutant.plant((PACKAGE / _file(mutant)).read_text(encoding="utf-8"))


def plant(mutant: Mutant, directory: Path) -> None:
    """Put a copy of the package that has the bug into `directory`. Raises MutantError if it does not fit."""
    source = mutated(mutant)
    copy = directory / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / _file(mutant)).write_text(source, encoding="utf-8")


def _file(mutant: Mutant) -> Path:
    return Path(*mutant.module.split(".")[1:]).with_suffix(".py")


async def hunt(mutant: Mutant, seconds: float | None = None) -> Finding:
    """Let the mutant's hunter look for it, for at most `seconds`, or as long as the mutant allows.

    A violation counts if the command that repeats it shows nothing without the mutant. Raises MutantError if the bug does not fit,
    ScheduleError if its schedule does not.
    """
    seconds = mutant.hunter.seconds if seconds is None else seconds
    began = monotonic()
    with TemporaryDirectory(prefix="stretto-mutant-") as directory:
        plant(mutant, Path(directory))
        beginning = Path(directory, "beginning.json")
        if mutant.hunter.beginning is not None:
            beginning.write_bytes(msgspec.json.encode(mutant.hunter.beginning.played()))
        status, output, errors = await _run(mutant.hunter.words(seconds, beginning), Path(directory), seconds + _GRACE_SECONDS)
        finding = partial(Finding, mutant.name, mutant.rule, str(mutant.hunter), seconds=round(monotonic() - began, 1))
        try:
            report: dict[str, Any] = msgspec.json.decode(output)
        except msgspec.DecodeError:
            reason = f"no end {_GRACE_SECONDS:g} s late" if status is None else " ".join(errors.split())[-300:]
            return finding(False, {}, kind="the hunter failed", description=reason)
        effort = {name: report[name] for name in _EFFORTS if name in report}
        shown = _shown(report, Path(directory))
        if shown is None:
            return finding(False, effort)
        kind, description, again = shown
        if any(error in description for error in _NO_PROGRAM):
            return finding(False, effort, kind="the mutant is no program", description=f"{kind}: {description}")
        status, _, _ = await _run(again, PACKAGE.parent, seconds + _GRACE_SECONDS)
        if status == 0:
            return finding(True, effort, kind=kind, description=description)
        return finding(False, effort, kind="found without the mutant too", description=f"{kind}: {description}")


def _shown(report: dict[str, Any], directory: Path) -> tuple[str, str, list[str]] | None:
    """Kind and description of the first violation that a hunter reports, and the command that repeats it; None if there is none."""
    if "violations" in report:  # of the swarm
        for found in report["violations"]:
            violation = found["violation"]
            return violation["kind"], violation["description"], shlex.split(violation["command"])[1:]
    elif report["violation"] is not None:
        schedule = report["violation"]["schedule"]
        file = directory / "schedule.json"
        file.write_bytes(msgspec.json.encode(schedule))
        return schedule["violation"]["kind"], schedule["violation"]["description"], ["explore", "--replay", str(file)]
    return None


async def _run(words: Sequence[str], package: Path, limit: float) -> tuple[int | None, bytes, str]:
    """Run `stretto` of the package in this directory. Returns its exit status (None if it was ended at `limit` seconds) and its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stretto", *words),
        env=os.environ | {"PYTHONPATH": str(package)},
        cwd=package,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), limit)
    except TimeoutError:
        return None, b"", ""
    finally:
        # End its workers too: the mutant may have made a run of one endless.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return process.returncode, output, errors.decode(errors="replace")
