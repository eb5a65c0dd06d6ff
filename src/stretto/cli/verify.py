"""`stretto verify`: are recorded histories linearizable?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stretto import catalog
from stretto.cli.options import json_option
from stretto.cli.output import print_json
from stretto.core.errors import ConfigurationError
from stretto.core.model import Model
from stretto.verify import history, jepsen
from stretto.verify.events import steps_of as steps_of_events
from stretto.verify.linearizability import OK, UNDECIDED, Failure, Verdict, check_steps, steps_of
from stretto.verify.picture import page
from stretto.verify.search import Step

_INVOLVED = 24
_MOST_CONFIGURATIONS = 3_000_000
"""A gigabyte of memory, if all are of one history that is hard."""


class Call(msgspec.Struct, frozen=True):
    """One operation of a failure. Times are nanoseconds, or lines of a text."""

    process: Any
    operation: str
    called: int
    returned: int | None
    place: int | None
    """Its place in the longest order that the model allows."""


class Explanation(msgspec.Struct, frozen=True):
    """Why a history is not linearizable; see `stretto.verify.linearizability.Failure`."""

    keys: list[str]
    failing: Call
    prefix: int
    is_shortest: bool
    involved: list[Call]


class Row(msgspec.Struct, frozen=True):
    """What was found about one file."""

    file: str
    verdict: str
    operations: int
    seconds: float
    configurations: int
    failure: Explanation | None
    undecided: list[str]


@click.command("verify")
@click.argument("files", nargs=-1, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--format", "history_format", type=click.Choice(["jepsen", "edn", "jsonl"]), default="jsonl", show_default=True)
@click.option("--model", "model_name", type=click.Choice(catalog.model_names()), default="kv", show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="The budget for each file.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw what is not linearizable here, as an HTML page.")
@click.option("--benchmark", is_flag=True, help="Measure the checker on generated histories instead.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the benchmark's histories.")
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
    linearizable, or unknown if the budget was used up. Exits 0 if all are ok, else 1.
    """
    if benchmark:
        return _benchmark(seed, as_json)
    if not files:
        raise click.UsageError("Missing argument 'FILE...'.")
    model = catalog.model(model_name, history_format)
    histories = [(file, _steps(file, history_format, model)) for file in files]
    if plot_file is not None:
        _write(plot_file, page([], model))  # rather fail now than after a long search
    failures: list[tuple[str, Failure]] = []
    rows: list[Row] = []
    console = Console(stderr=True, soft_wrap=True)
    for file, verdict, took in _checked(histories, model, seconds, console):
        rows.append(_row(file, verdict, took, model))
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
    return 0 if len(rows) == len(histories) and all(row.verdict == OK for row in rows) else 1


def _steps(file: Path, history_format: str, model: Model) -> list[Step]:
    """The history of a file. Raises ConfigurationError saying what is wrong with it, and where."""
    try:
        with file.open("rb") as lines:
            if history_format == "jsonl":
                steps = steps_of(history.from_lines(lines), model)
                if not steps:
                    raise ValueError("no operation was found")
                return steps
            read = jepsen.events_of_edn if history_format == "edn" else jepsen.events_of_log
            return steps_of_events(read(line.decode("utf-8", "backslashreplace") for line in lines), model)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except (ValueError, msgspec.DecodeError) as error:
        raise ConfigurationError(str(error), file=file) from None


def _checked(
    histories: Sequence[tuple[Path, list[Step]]], model: Model, seconds: float, console: Console
) -> Iterator[tuple[Path, Verdict, float]]:
    """The verdicts one by one; fewer than histories if Ctrl-C came."""
    with console.status("") as status:
        for number, (file, steps) in enumerate(histories, 1):
            deadline = monotonic() + seconds
            told = f"{escape(str(file))} ({number} of {len(histories)}): {len(steps):,} operations"
            status.update(told)

            def give_up(searched: int, told: str = told, deadline: float = deadline) -> bool:
                status.update(f"{told}, {searched:,} configurations")
                return searched > _MOST_CONFIGURATIONS or monotonic() > deadline

            began = perf_counter()
            try:
                verdict = check_steps(steps, model, give_up)
            except KeyboardInterrupt:
                console.print(f"interrupted at {file}; what follows is about the files before it", markup=False)
                return
            yield file, verdict, round(perf_counter() - began, 4)


def _row(file: Path, verdict: Verdict, took: float, model: Model) -> Row:
    undecided = [model.describe_state(key) for key in verdict.undecided]
    explanation = None if verdict.failure is None else _explanation(verdict.failure, model)
    return Row(str(file), verdict.verdict, verdict.operations, took, verdict.configurations, explanation, undecided)


def _explanation(failure: Failure, model: Model) -> Explanation:
    places = {index: place for place, (index, _) in enumerate(failure.order, 1)}

    def call(index: int) -> Call:
        step = failure.steps[index]
        return Call(step.process, model.describe(step.operation, step.result), step.called, step.returned, places.get(index))

    keys = [model.describe_state(key) for key in failure.keys]
    return Explanation(keys, call(failure.last), failure.prefix, failure.is_shortest, [call(index) for index in failure.near(_INVOLVED)])


def _print_table(rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("file", "verdict", "operations", "seconds"):
        table.add_column(name, justify="right" if name in ("operations", "seconds") else "left")
    for row in rows:
        colour = "green" if row.verdict == OK else "yellow" if row.verdict == UNDECIDED else "red"
        table.add_row(escape(row.file), f"[{colour}]{row.verdict}", f"{row.operations:,}", f"{row.seconds:.3f}")
    console = Console(soft_wrap=True)
    console.print(table)
    for row in rows:
        for line in _told(row):
            console.print(line, markup=False, highlight=False)


def _told(row: Row) -> Iterator[str]:
    """What there is to say of a file that is not ok."""
    if row.failure is not None:
        last = row.failure.failing
        beginning = "the shortest beginning that fails" if row.failure.is_shortest else "a beginning that fails"
        yield f"\n{row.file}: no order explains what process {last.process} was answered:"
        yield f"  {last.operation}, called at {last.called:,}, returned at {last.returned:,}"
        yield f"  {beginning} has {row.failure.prefix:,} operations; those on {', '.join(row.failure.keys)} are enough"
    if row.undecided:
        yield f"\n{row.file}: the budget did not suffice for {len(row.undecided):,} keys, of which {row.undecided[0]} is one"


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
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=file) from None
