"""`stretto compare`: results of `stretto bench --json` side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import json_option, plot_option
from stretto.cli.output import print_json
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stretto.bench.comparison import Result


@click.command(name="compare")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="FIRST OTHER...")
@plot_option("latency by percentile")
@json_option
def command(files: tuple[Path, ...], plot: Path | None, as_json: bool) -> int:
    """Compare results of `stretto bench --json` with the first of them.

    Figures are medians of the runs, with the least and the greatest. With at least three runs on both sides, the table says whether these
    ranges are apart or overlap. Differences between the settings of the measurements are listed.
    """
    from stretto.bench.comparison import compare, read

    if len(files) < 2:
        raise ConfigurationError("compares at least two files; name another one")
    results = read(list(files))
    comparison = compare(results)
    if plot is not None:
        _plot(plot, results, files)
    if as_json:
        print_json(comparison)
    else:
        _print(comparison)
    return 0


def _plot(plot: Path, results: list[Result], files: tuple[Path, ...]) -> None:
    from stretto.bench.plots import plot_percentiles

    curves = []
    for result, file in zip(results, files, strict=True):
        if result.latency is None:
            raise ConfigurationError("is missing, so there is no curve to draw", key="latency_histogram", file=file)
        runs = [run.latency_histogram.histogram() for run in result.runs if run.latency_histogram is not None]
        curves.append((result.name, result.latency, runs))
    plot_percentiles(plot, curves)


def _print(comparison: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from stretto.bench.comparison import FIGURES

    table = Table()
    table.add_column("")
    for number, result in enumerate(comparison["results"]):
        runs = f"{result['runs']} run{'' if result['runs'] == 1 else 's'}"
        table.add_column(f"{result['name']}\n{result['protocol']}, {runs}", justify="right", overflow="fold")
        if number:
            table.add_column("against\nthe first", overflow="fold")
    for figure in FIGURES:
        if figure.name in comparison["figures"]:
            cells = comparison["figures"][figure.name]
            texts = [text for number, cell in enumerate(cells) for text in _texts(cell, figure.digits, is_first=number == 0)]
            table.add_row(figure.title, *texts)
    console = Console()
    console.print(table)
    for line in _notes(comparison):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _texts(cell: dict[str, Any] | None, digits: int, is_first: bool) -> list[str]:
    if cell is None:
        return ["-"] if is_first else ["-", ""]
    value = f"{cell['median']:,.{digits}f}"
    if cell["least"] != cell["greatest"]:
        value += f"\n{cell['least']:,.{digits}f} to {cell['greatest']:,.{digits}f}"
    if is_first:
        return [value]
    ratio = cell.get("ratio")
    return [value, "\n".join(part for part in ("" if ratio is None else f"x {ratio:.2f}", cell.get("verdict") or "") if part)]


def _notes(comparison: dict[str, Any]) -> list[str]:
    """What a reader of the table must know."""
    first, *others = comparison["results"]
    notes = []
    for result, by_chance in zip(others, comparison["by_chance"][1:], strict=True):
        of_both = f"{result['runs']} runs of {result['name']} and {first['runs']} of {first['name']}"
        if by_chance is None:
            notes.append(f"{of_both}: too few to tell a difference from chance; measure both with --repeat 3 or more.")
        else:
            notes.append(f"{of_both}: where they do not differ, a figure's ranges are apart by chance in {100 * by_chance:.2g}% of cases.")
    for name, values in comparison["differences"].items():
        notes.append(f"Not the same: {name} {' | '.join('-' if value is None else str(value) for value in values)}")
    return notes
