"""Plots of measurements: latency by percentile, protocols side by side, protocols over multicast designs. The suffix of the file determines
the format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stretto.bench.histogram import Histogram
from stretto.core.errors import ConfigurationError

FORMATS = (".png", ".svg", ".pdf")
_POINTS_A_DECADE = 50


def check_plot_file(file: Path) -> None:
    """Raise ConfigurationError if the file cannot hold a plot. Meant to be called before the measurement that it will show."""
    if file.suffix.lower() not in FORMATS:
        raise ConfigurationError(f"{file} ends in none of {', '.join(FORMATS)}", key="--plot")
    if not file.absolute().parent.is_dir():
        raise ConfigurationError(f"there is no directory {file.absolute().parent}", key="--plot")


def plot_percentiles(file: Path, latencies: Sequence[tuple[str, Histogram, list[Histogram]]]) -> None:
    """Latency by percentile, on the axis that is usual for HDR histograms, which spreads the high percentiles.

    Each curve has a name, the histogram of all runs, and that of each run; the range of the runs is shaded. A curve ends at the percentile
    above which less than one operation lies. Raises ConfigurationError if the file cannot be written.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    decades = 1.0
    for name, whole, runs in latencies:
        end = max(1.0, np.log10(max(whole.total, 1)))
        decades = max(decades, end)
        x = np.logspace(0, end, round(end * _POINTS_A_DECADE) + 1)
        fractions = (1 - 1 / x).tolist()
        [line] = axes.plot(x, _curve(whole, fractions), label=name)
        if len(runs) > 1:
            curves = np.array([_curve(run, fractions) for run in runs])
            axes.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0)
    nines = range(1, int(np.ceil(decades)) + 1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1.0, 2.0, *(10.0**number for number in nines)], ["0%", "50%", *map(_percent, nines)])
    axes.set_xlabel("percentile of operations")
    axes.set_ylabel("latency, us")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    _save(figure, file)


def plot_protocols(file: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Throughput and latency of each protocol as bars. Raises ConfigurationError if the file cannot be written."""
    names = [row["protocol"] for row in rows]
    figure = Figure(figsize=(10, 1.6 + 0.5 * len(rows)), layout="constrained")
    figure.suptitle(title)
    throughput, latency = figure.subplots(1, 2, sharey=True)
    bars = throughput.barh(names, [row["throughput_ops_s"] for row in rows], color="#2471a3")
    throughput.bar_label(bars, fmt="{:,.0f}", padding=3)
    throughput.set_xlabel("operations/s")
    throughput.invert_yaxis()
    latency.barh(names, [row["p99_us"] or 0 for row in rows], color="#d6eaf8", label="p99")
    latency.barh(names, [row["p50_us"] or 0 for row in rows], color="#2471a3", label="p50")
    latency.set_xlabel("latency, us")
    latency.legend()
    for axes in (throughput, latency):
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, file)


def plot_designs(file: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Throughput, latency and the share of operations rolled back of each protocol over each design, as bars.

    Raises ConfigurationError if the file cannot be written.
    """
    designs = list(dict.fromkeys(row["design"] for row in rows))
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    figure = Figure(figsize=(13, 4.5), layout="constrained")
    figure.suptitle(title)
    panels: tuple[tuple[str, Callable[[dict[str, Any]], float]], ...] = (
        ("operations/s", lambda row: row["throughput_ops_s"]),
        ("median latency, us", lambda row: row["latency_us"]["p50"] or 0),
        ("operations rolled back, %", lambda row: 100 * row["rolled_back_operations"] / max(row["operations"], 1)),
    )
    width = 0.8 / max(len(protocols), 1)
    for axes, (label, value) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for number, protocol in enumerate(protocols):
            mine = [row for row in rows if row["protocol"] == protocol]
            places = [designs.index(row["design"]) + (number - (len(protocols) - 1) / 2) * width for row in mine]
            axes.bar(places, [value(row) for row in mine], width, label=protocol)
        axes.set_xticks(range(len(designs)), [design.replace("_", "-\n") for design in designs])
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=max(len(protocols), 1))
    _save(figure, file)


def _curve(histogram: Histogram, fractions: list[float]) -> list[float]:
    # A logarithmic axis has no zero; a latency of 0 is drawn as one nanosecond.
    return [np.nan if value is None else max(value, 1e-3) for value in histogram.percentiles_us(fractions)]


def _percent(nines: int) -> str:
    return f"{100 * (1 - 10.0**-nines):.{max(0, nines - 2)}f}%"


def _save(figure: Figure, file: Path) -> None:
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}", key="--plot") from None
