"""`stretto reproduce`: the experiments of the papers, and one report of their results."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import CommaSeparated, dask_option, json_option, seed_option, workers_option
from stretto.cli.output import print_json, progress_line

if TYPE_CHECKING:
    from rich.console import Console

    from stretto.reproduction.experiment import Experiment
    from stretto.reproduction.report import Chapter
    from stretto.reproduction.runner import Job, Plan

_DEFAULT_OUT = Path("reproduction")


@click.command("reproduce")
@click.option("--quick", is_flag=True, help="Fewer points and seeds: about five minutes instead of an hour, on two cores.")
@click.option("--out", type=click.Path(path_type=Path), default=_DEFAULT_OUT, show_default=True, help="The directory for report and data.")
@seed_option("The first seed; it decides every simulation.", 1)
@click.option("--costs", "costs_file", type=click.Path(path_type=Path), help="What stretto calibrate wrote.  [default: calibrate now]")
@click.option("--only", type=CommaSeparated(str), default="", metavar="NAME,...", help="Only these experiments.")
@click.option("--resume/--fresh", default=True, show_default=True, help="Continue with the rows that the directory has, or start anew.")
@workers_option
@dask_option
@json_option
def command(
    quick: bool,
    out: Path,
    seed: int,
    costs_file: Path | None,
    only: tuple[str, ...],
    resume: bool,
    workers: int,
    dask: str | None,
    as_json: bool,
) -> int:
    """Run the experiments of the papers, and write one page that says what was reproduced, with the data beside it.

    Every row is kept as soon as it is there: after Ctrl-C the same command continues. Exit status 1 if a point failed; a claim that was
    not reproduced is a result, not a failure.
    """
    from rich.console import Console

    from stretto.bench.machine import measured_on
    from stretto.cli.interrupts import ended_by_signals
    from stretto.reproduction import experiments, runner, steps
    from stretto.reproduction.experiment import Scope, protocols
    from stretto.reproduction.rows import RowFile

    chosen = [experiments.experiment(name) for name in only or experiments.NAMES]
    console, machine = Console(stderr=True), measured_on()
    with closing(RowFile(out, fresh=not resume)) as file, ended_by_signals():
        with progress_line(console, "calibrating") as show:
            costs, costs_from = steps.costs_of(out, costs_file, not resume, lambda what, done: show(f"calibrating: {what}", done))
        scope = Scope(quick, seed, costs, protocols())
        plan = runner.plan(chosen, scope, file)
        _announce(console, chosen, plan, scope, costs_from, workers, dask)
        try:
            _run(console, plan, lambda done: runner.run(plan.jobs, file, workers, dask, done))
        except KeyboardInterrupt:
            left = sum(job.key not in file.by_key for job in plan.jobs)
            console.print(f"ended; {left} points are left, all others are kept in {out}. The same command continues with them.")
            raise click.Abort from None
        run = steps.described(_words(quick, out, seed, costs_file, only), scope, costs, costs_from, machine)
        chapters = steps.chapters_of(chosen, plan, file)
        with progress_line(console, "drawing the report") as show:
            written = steps.write(out, run, chapters, lambda what: show(what, None))
    _print(chapters, written, as_json)
    return 1 if any("error" in row for chapter in chapters for row in chapter.rows) else 0


def _words(quick: bool, out: Path, seed: int, costs_file: Path | None, only: Sequence[str]) -> str:
    """The command line of this run, as far as it decides what is run."""
    words = ["stretto", "reproduce", *(["--quick"] if quick else []), "--seed", str(seed)]
    words += ["--out", str(out)] if out != _DEFAULT_OUT else []
    words += ["--costs", str(costs_file)] if costs_file is not None else []
    return shlex.join(words + (["--only", ",".join(only)] if only else []))


def _announce(
    console: Console, chosen: Sequence[Experiment], plan: Plan, scope: Any, costs_from: str, workers: int, dask: str | None
) -> None:
    """Print what will be run, and how long it takes."""
    from rich.table import Table

    from stretto.reproduction.runner import slowness

    console.print(f"costs of simulated machines: {costs_from}", highlight=False)
    console.print(f"protocols: {', '.join(scope.protocols)}; first seed {scope.seed}; {dask or f'{workers} workers'}", highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("experiment", "points", "to run"):
        table.add_column(column, justify="left" if column == "experiment" else "right")
    for experiment in chosen:
        left = sum(job.experiment == experiment.name for job in plan.jobs)
        table.add_row(f"{experiment.name}: {experiment.title}", str(len(plan.keys[experiment.name])), str(left))
    console.print(table)
    if plan.jobs:
        expected_s = plan.expected_s(slowness(scope), workers)
        console.print(f"about {_duration(expected_s)}" + (", less on a cluster" if dask else ""), highlight=False)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _run(console: Console, plan: Plan, run: Callable[[Callable[[Job], None]], None]) -> None:
    """Run all jobs, with a progress bar for each experiment."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {}
        for job in plan.jobs:
            if job.experiment not in tasks:
                tasks[job.experiment] = bars.add_task(job.experiment, total=sum(other.experiment == job.experiment for other in plan.jobs))
        run(lambda job: bars.advance(tasks[job.experiment]))


def _print(chapters: Sequence[Chapter], written: Sequence[Path], as_json: bool) -> None:
    from stretto.reproduction.report import summary

    claims = [summary(verdict, chapter.experiment) for chapter in chapters for verdict in chapter.verdicts]
    if as_json:
        print_json({"claims": claims, "files": [str(path) for path in written]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("claim", "paper", "here", "verdict"):
        table.add_column(column)
    for claim in claims:
        table.add_row(claim["subject"], f"{claim['claimed']} ({claim['paper']})", claim["here"], claim["verdict"])
    console = Console()
    console.print(table)
    console.print(f"report: {written[-1]}", highlight=False, soft_wrap=True)
