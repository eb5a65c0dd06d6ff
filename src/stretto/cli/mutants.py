"""`stretto mutants`: do the swarm and the explorer find planted bugs?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from stretto.cli.options import NumberRange, json_option, seed_option
from stretto.cli.output import console as stdout_console
from stretto.cli.output import exit_status, print_json
from stretto.cli.sweep import run_sweep
from stretto.core.errors import ConfigurationError
from stretto.mutants.generated import PARTS
from stretto.mutants.hunting import Finding, hunt, mutated
from stretto.mutants.mutant import Mutant
from stretto.mutants.table import MUTANTS


def _chosen(_context: click.Context, _parameter: click.Parameter, names: Sequence[str]) -> tuple[Mutant, ...]:
    known = {mutant.name: mutant for mutant in MUTANTS}
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{name!r} is not a mutant; stretto mutants --list names them all", key="only")
    return tuple(known[name] for name in names) or MUTANTS


@click.command("mutants")
@click.option("--only", "mutants", multiple=True, callback=_chosen, metavar="NAME", help="This mutant; may be given several times.")
@click.option("--budget", type=NumberRange(min=0, min_open=True), help="Seconds for each mutant.  [default: its own]")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="How many hunts run at a time.")
@click.option("--list", "only_list", is_flag=True, help="List the mutants, and hunt none.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--sweep", is_flag=True, help="Try generated one-line mutants against the fast tests instead.")
@click.option(
    "--package", type=click.Choice((*PARTS, "all")), default="all", show_default=True, help="With --sweep: whose code is mutated."
)
@click.option(
    "--seconds", type=NumberRange(min=0, min_open=True), default=600.0, show_default=True, help="With --sweep: how long to try mutants."
)
@seed_option("With --sweep: in which order mutants are tried.", default=0)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --sweep: write what is tried to this file, and try nothing that is in it. Remove it when code or tests have changed.",
)
@click.option(
    "--tests", type=click.Path(path_type=Path, file_okay=False), help="With --sweep: the tests.  [default: those of this source tree]"
)
@json_option
def command(
    mutants: tuple[Mutant, ...],
    budget: float | None,
    jobs: int,
    only_list: bool,
    markdown: bool,
    sweep: bool,
    package: str,
    seconds: float,
    seed: int,
    record: Path | None,
    tests: Path | None,
    as_json: bool,
) -> int:
    """Plant bugs in copies of the package, one at a time, and let the swarm or the explorer find them.

    A mutant is a few changed lines that break one rule of the protocol. It has a hunter: the command that must find it, and within how many
    seconds. A violation counts only if the same run shows none without the mutant. Exit status 1 if a mutant was not found. Ctrl-C prints
    what was found until then.

    With --sweep, mutants are generated, one for each way to change a line by a few fixed rules, and tried against the scenarios and unit
    tests that cover the line. Exit status 1 if one survives that is not settled.
    """
    if sweep:
        return run_sweep(package, seconds, seed, tests, record, as_json)
    if only_list:
        _print_list(mutants, as_json)
        return 0
    findings = _hunt_all(mutants, budget, jobs)
    if as_json:
        print_json({"mutants": len(mutants), "found": sum(finding.found for finding in findings), "findings": findings})
    elif markdown:
        _print_markdown(findings)
    else:
        _print_table(findings)
    return exit_status(not all(finding.found for finding in findings), interrupted=len(findings) < len(mutants))


def _print_list(mutants: Sequence[Mutant], as_json: bool) -> None:
    if as_json:
        print_json([{"mutant": mutant.name, "rule": mutant.rule, "hunter": str(mutant.hunter)} for mutant in mutants])
        return
    table = Table(box=None)
    for title in ("mutant", "rule", "found by", "within s"):
        table.add_column(title, overflow="fold")
    for mutant in mutants:
        table.add_row(mutant.name, mutant.rule, str(mutant.hunter), f"{mutant.hunter.seconds:g}")
    stdout_console().print(table)


def _hunt_all(mutants: Sequence[Mutant], budget: float | None, jobs: int) -> list[Finding]:
    """The findings in the order of the mutants: all of them, or those until Ctrl-C."""
    for mutant in mutants:
        mutated(mutant)  # a mutant that does not fit is an error before the first hunt, not in the middle
    findings: dict[str, Finding] = {}
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of {task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("mutants", total=len(mutants))
        free = asyncio.Semaphore(jobs)

        async def one(mutant: Mutant) -> None:
            async with free:
                progress.update(task, description=mutant.name)
                findings[mutant.name] = finding = await hunt(mutant, budget)
                console.print(f"{mutant.name}: {_verdict(finding)}, {finding.seconds:.1f} s", highlight=False)
                progress.advance(task)

        async def every() -> None:
            async with asyncio.TaskGroup() as group:
                for mutant in mutants:
                    group.create_task(one(mutant))

        try:
            asyncio.run(every())
        except KeyboardInterrupt:
            console.print("interrupted; these are the mutants until then")
    return [findings[mutant.name] for mutant in mutants if mutant.name in findings]


def _verdict(finding: Finding) -> str:
    return finding.kind if finding.found else f"NOT FOUND {finding.kind}".strip()


def _cells(finding: Finding) -> tuple[str, ...]:
    effort = ", ".join(f"{count:,} {name}" for name, count in finding.effort.items())
    return finding.mutant, finding.rule, finding.hunter, _verdict(finding), effort, f"{finding.seconds:.1f}"


_HEADINGS = ("mutant", "rule", "found by", "as", "after", "s")


def _print_table(findings: Sequence[Finding]) -> None:
    table = Table(*_HEADINGS, box=None)
    for finding in findings:
        table.add_row(*_cells(finding), style=None if finding.found else "bold red")
    console = Console()
    console.print(table)
    console.print(f"{sum(finding.found for finding in findings)} of {len(findings)} found, in {sum(f.seconds for f in findings):.0f} s")


def _print_markdown(findings: Sequence[Finding]) -> None:
    for cells in (_HEADINGS, ("---",) * len(_HEADINGS), *map(_cells, findings)):
        click.echo(f"| {' | '.join(cells)} |")
