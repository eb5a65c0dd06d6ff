"""`stretto mutants --sweep`: do the fast tests find generated one-line mutants?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import monotonic

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stretto.cli.interrupts import ended_by_signals
from stretto.cli.output import exit_status, print_facts, print_json
from stretto.core.errors import ConfigurationError
from stretto.mutants.generated import PACKAGE, PARTS, Change, changes
from stretto.mutants.settled import SETTLED


class Verdict(msgspec.Struct, frozen=True):
    """What became of one mutant: where it is, what it changes, whether a test found it, and how many tests cover its place."""

    file: str
    line: int
    module: str
    function: str
    old: str
    new: str
    nth: int
    killed: bool
    tests: int

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """As `Change.key`."""
        return self.module, self.function, self.old, self.new, self.nth


class SweepReport(msgspec.Struct, frozen=True):
    """The report of a sweep. `made` = `settled` + `tried` + `left`; `tried` = `killed` + the survivors."""

    seed: int
    seconds: float
    made: int
    settled: int
    tried: int
    killed: int
    left: int
    survivors: list[Verdict]


def run_sweep(package: str, seconds: float, seed: int, tests: Path | None, record: Path | None, as_json: bool) -> int:
    """Try generated mutants in the order that the seed decides, until time is up, and print those that no test has found."""
    made = changes(PARTS if package == "all" else (package,))
    settled = {one.key for one in SETTLED}
    former = {verdict.key: verdict for verdict in _read(record)}
    verdicts = [verdict for change in made if (verdict := former.get(change.key)) and change.key not in settled]
    wanted = [change for change in made if change.key not in settled and change.key not in former]
    Random(seed).shuffle(wanted)
    began = monotonic()
    interrupted = _try_all(wanted, verdicts, began + seconds, PACKAGE.parents[1] / "tests" if tests is None else tests, record)
    survivors = sorted((verdict for verdict in verdicts if not verdict.killed), key=lambda verdict: (verdict.file, verdict.line))
    inside = sum(change.key in settled for change in made)
    left, killed = len(made) - inside - len(verdicts), len(verdicts) - len(survivors)
    report = SweepReport(seed, round(monotonic() - began, 1), len(made), inside, len(verdicts), killed, left, survivors)
    if as_json:
        print_json(report)
    else:
        _print(report)
    return exit_status(bool(survivors), interrupted)


def _try_all(wanted: Sequence[Change], verdicts: list[Verdict], deadline: float, tests: Path, record: Path | None) -> bool:
    """Add a verdict for each mutant that is tried. Returns whether Ctrl-C came."""
    try:
        from stretto.mutants.sweeping import Sweep, Trial
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"needs {error.name}, one of the tools for working on Stretto: pip install 'stretto[dev]'") from None

    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of {task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, ended_by_signals():
        task = progress.add_task("the tests without a mutant", total=len(wanted))

        def note(change: Change, trial: Trial) -> None:
            file = str(change.file.relative_to(PACKAGE.parent))
            verdict = Verdict(file, change.line, *change.key, trial.killed, trial.tests)
            verdicts.append(verdict)
            if record is not None:
                with record.open("ab") as lines:
                    lines.write(msgspec.json.encode(verdict) + b"\n")
            if not trial.killed:
                console.print(f"survives: {file}:{change.line} in {change.function}", markup=False, highlight=False)
            alive = sum(not verdict.killed for verdict in verdicts)
            progress.update(task, advance=1, description=f"{change.function}; {alive} survive")

        try:
            Sweep(wanted, deadline, note).run(tests)
        except KeyboardInterrupt:
            console.print("interrupted; these are the mutants until then")
            return True
    return False


def _read(record: Path | None) -> list[Verdict]:
    """What former sweeps have written, if anything. Raises ConfigurationError."""
    if record is None or not record.exists():
        return []
    try:
        return [msgspec.json.decode(line, type=Verdict) for line in record.read_bytes().splitlines()]
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=record) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"is not the record of a sweep: {error}", file=record) from None


def _print(report: SweepReport) -> None:
    for verdict in report.survivors:
        click.echo(f"{verdict.file}:{verdict.line} in {verdict.function}, covered by {verdict.tests} tests")
        for sign, text in (("-", verdict.old), ("+", verdict.new)):
            for line in text.splitlines():
                click.echo(f"  {sign} {line.strip()}")
    facts = [
        ("made", f"{report.made:,}"),
        ("settled", f"{report.settled:,}"),
        ("tried", f"{report.tried:,}, seed {report.seed}, {report.seconds:.0f} s"),
        ("killed", f"{report.killed:,}"),
        ("open", f"{len(report.survivors):,}"),
        ("not tried", f"{report.left:,}"),
    ]
    print_facts(facts)
