"""`stretto verify`: are recorded histories linearizable?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, perf_counter

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stretto import catalog
from stretto.cli.options import NumberRange, json_option, seed_option
from stretto.cli.output import exit_status, print_json, writing
from stretto.core.model import Model
from stretto.verify import files as files_of_histories
from stretto.verify.linearizability import OK, UNDECIDED, Failure, Verdict, check_steps
from stretto.verify.picture import page
from stretto.verify.report import Report, report_of
from stretto.verify.search import Step

_MOST_CONFIGURATIONS = 3_000_000
"""About a gigabyte of memory, if all configurations are of one history."""


@click.command("verify")
@click.argument("files", nargs=-1, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--format", "history_format", type=click.Choice(["jepsen", "edn", "jsonl"]), default="jsonl", show_default=True)
@click.option("--model", "model_name", type=click.Choice(catalog.model_names()), default="kv", show_default=True)
@click.option("--seconds", type=NumberRange(min=0, min_open=True), default=60.0, show_default=True, help="The budget for each file.")
@click.option(
    "--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the histories that are not linearizable in this HTML page."
)
@click.option("--benchmark", is_flag=True, help="Measure the checker on generated histories instead.")
@seed_option("Decides the benchmark's histories.", 0)
@json_option
def command(
    files: tuple[Path, ...],
    history_format: str,
    model_name: str,
    seconds: float,
    plot_file: Path | None,
    benchmark: bool,
    seed: int,
    as_json: bool,
) -> int:
    """Check recorded histories for linearizability.

    Formats are jepsen, a log of Jepsen; edn, one map a line; and jsonl, which stretto simulate --history writes. The verdict is ok, not
    linearizable, or unknown if the budget was used up. Exit status 0 if all are ok, else 1.
    """
    if benchmark:
        return _benchmark(seed, as_json)
    if not files:
        raise click.UsageError("Missing argument 'FILE...'.")
    model = catalog.model(model_name, history_format)
    histories = [(file, files_of_histories.read(file, history_format, model)) for file in files]
    if plot_file is not None:
        _write(plot_file, page([], model))  # a file that cannot be written is an error before the search, not after it
    failures: list[tuple[str, Failure]] = []
    rows: list[Report] = []
    console = Console(stderr=True, soft_wrap=True)
    for file, verdict, took in _checked(histories, model, seconds, console):
        rows.append(report_of(str(file), verdict, took, model))
        if as_json:
            print_json(rows[-1])
        if verdict.failure is not None:
            failures.append((str(file), verdict.failure))
    if plot_file is not None:
        _write(plot_file, page(failures, model))
    if not as_json:
        _print_table(rows)
    if plot_file is not None:
        console.print(f"{len(failures)} of {len(rows)} histories drawn in {plot_file}", markup=False, highlight=False)
    return exit_status(any(row.verdict != OK for row in rows), interrupted=len(rows) < len(histories))


def _checked(
    histories: Sequence[tuple[Path, list[Step]]], model: Model, seconds: float, console: Console
) -> Iterator[tuple[Path, Verdict, float]]:
    """The verdicts one by one, and how many seconds each took; fewer than histories if Ctrl-C came."""
    with console.status("") as status:
        for number, (file, steps) in enumerate(histories, 1):
            deadline = monotonic() + seconds
            what = f"{escape(str(file))} ({number} of {len(histories)}): {len(steps):,} operations"
            status.update(what)

            def out_of_budget(searched: int, what: str = what, deadline: float = deadline) -> bool:
                status.update(f"{what}, {searched:,} configurations")
                return searched > _MOST_CONFIGURATIONS or monotonic() > deadline

            began = perf_counter()
            try:
                verdict = check_steps(steps, model, out_of_budget)
            except KeyboardInterrupt:
                console.print(f"interrupted at {file}; these are the verdicts on the files before it", markup=False)
                return
            yield file, verdict, round(perf_counter() - began, 4)


def _print_table(rows: Sequence[Report]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("file", "verdict", "operations", "seconds"):
        table.add_column(name, justify="right" if name in ("operations", "seconds") else "left")
    for row in rows:
        colour = "green" if row.verdict == OK else "yellow" if row.verdict == UNDECIDED else "red"
        table.add_row(escape(row.file), f"[{colour}]{row.verdict}", f"{row.operations:,}", f"{row.seconds:.3f}")
    console = Console(soft_wrap=True)
    console.print(table)
    for row in rows:
        for line in _explained(row):
            console.print(line, markup=False, highlight=False)


def _explained(row: Report) -> Iterator[str]:
    """Why a file is not ok."""
    if row.failure is not None:
        last = row.failure.failing
        beginning = "the shortest beginning that fails" if row.failure.is_shortest else "a beginning that fails"
        yield f"\n{row.file}: no order explains the answer to process {last.process}:"
        yield f"  {last.operation}, called at {last.called:,}, returned at {last.returned:,}"
        yield f"  {beginning} has {row.failure.prefix:,} operations; those on {', '.join(row.failure.keys)} are enough"
    if row.undecided:
        yield f"\n{row.file}: the budget was used up for {len(row.undecided):,} keys, among them {row.undecided[0]}"


def _benchmark(seed: int, as_json: bool) -> int:
    from stretto.bench.verification import timings

    table = Table(box=None, pad_edge=False)
    for name in ("history", "keys", "verdict", "seconds"):
        table.add_column(name, justify="right" if name in ("keys", "seconds") else "left")
    with Console(stderr=True).status("generating and checking histories"):
        for timing in timings(seed):
            if as_json:
                print_json(timing)
            table.add_row(timing.case, f"{timing.keys:,}", timing.verdict, f"{timing.seconds:.2f}")
    if not as_json:
        Console(soft_wrap=True).print(table)
    return 0


def _write(file: Path, text: str) -> None:
    with writing(file):
        file.write_text(text, encoding="utf-8")
