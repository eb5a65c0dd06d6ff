"""The steps of one reproduction, from costs to report. `stretto reproduce` calls them and shows their progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stretto import catalog
from stretto.bench.machine import measured_on
from stretto.bench.measure import Progress
from stretto.calibration import costs
from stretto.calibration.costs import ROLES, CostFile
from stretto.calibration.fit import calibrate
from stretto.calibration.loads import loads_of, sample_all
from stretto.core.errors import ConfigurationError
from stretto.reproduction.claims import judge
from stretto.reproduction.experiment import Experiment, Scope
from stretto.reproduction.report import Chapter, Run, page, results
from stretto.reproduction.rows import RowFile, Rows, to_csv
from stretto.reproduction.runner import Plan
from stretto.reproduction.styles import label_of

_BUSY = 0.5
"""A machine whose load average is more than this part of its cores counts as busy with other work."""

REPORT, RESULTS, COSTS = "report.html", "results.json", "costs.json"


def costs_of(directory: Path, given: Path | None, fresh: bool, progress: Progress) -> tuple[CostFile, str]:
    """The costs of simulated machines, and a description of their source.

    They come from the file `given`, else from the calibration of an earlier run in `directory` unless `fresh`, else from a new quick
    calibration, which starts clusters on this machine and takes about a minute. Raises ConfigurationError if a file cannot be read or
    written.
    """
    if given is not None:
        return costs.load(given), f"the file {given}"
    kept = directory / COSTS
    if not fresh and kept.exists():
        return costs.load(kept), f"a quick calibration on the machine that began this run ({COSTS})"
    machine = measured_on()
    loads = loads_of(catalog.protocol_names(), quick=True)
    found = calibrate([sample for some in sample_all(loads, 1, 0.5, progress) for sample in some], machine)
    costs.save(found, kept)
    return found, f"a quick calibration on this machine, made before everything else ({COSTS})"


def chapters_of(experiments: Sequence[Experiment], plan: Plan, file: RowFile) -> list[Chapter]:
    """A chapter for each experiment, from the rows of its points. Points without a row are left out."""
    chapters = []
    for experiment in experiments:
        rows = Rows(file.by_key[key] for key in plan.keys[experiment.name] if key in file.by_key)
        shown = [one for one in experiment.show(rows.good()) if one is not None]
        chapters.append(Chapter(experiment, rows, shown, [judge(claim, rows) for claim in experiment.claims]))
    return chapters


def described(command: str, scope: Scope, found: CostFile, costs_from: str, machine: dict[str, Any]) -> Run:
    """The description of a run. `machine`: the result of `stretto.bench.machine.measured_on` before the run."""
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "run": "quick" if scope.quick else "full",
        "first seed": f"first seed {scope.seed}",
        "version": f"Stretto {machine['version']}, commit {(machine['commit'] or 'unknown')[:12]}",
        "processor": f"{machine['processor']}, {machine['cores']} cores",
        "system": f"{machine['kernel']}, {machine['python']}",
        "speed": f"load {machine['load_average']:.1f} before it began, {machine['hash_ns']:.0f} ns a hash",
    }
    busy = machine["load_average"] > _BUSY * machine["cores"]
    spent = {}
    for role in ROLES:
        received = {f"receive_message_ns, {label_of(name)}": found.costs(role, name).receive_message_ns for name in scope.protocols}
        others = msgspec.to_builtins(getattr(found, role))
        del others["receive_message_ns"]
        spent[role] = others | received
    fits = ", ".join(f"{found.fit[role].rms:.0%} for a {role}" for role in ROLES if role in found.fit)
    return Run(command, facts, spent, costs_from, fits or "an unknown part", scope.protocols, busy)


def write(directory: Path, run: Run, chapters: Sequence[Chapter], progress: Callable[[str], Any]) -> list[Path]:
    """Write the report, and all rows as CSV and JSON. Returns the written files. Raises ConfigurationError if one cannot be written."""
    contents = {f"{chapter.experiment.name}.csv": to_csv(chapter.rows.all) for chapter in chapters}
    contents[RESULTS] = msgspec.json.format(msgspec.json.encode(results(run, chapters)), indent=1).decode()
    progress("drawing the report")
    contents[REPORT] = page(run, chapters)
    written = []
    for name, content in contents.items():
        path = directory / name
        try:
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", file=path) from None
        written.append(path)
    return written
