"""Charts and tables as data, and charts made from rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stretto.reproduction.rows import Missing, Row, Rows
from stretto.reproduction.styles import style_of


@dataclass(frozen=True)
class Axis:
    """`zero`: the position of 0 on a logarithmic axis, if it is shown; `least`: the start of a linear axis; `marks`: its ticks."""

    label: str
    log: bool = False
    percent: bool = False
    zero: float | None = None
    least: float | None = None
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Line:
    """Points with their spread. `style` is the name of a protocol or a design; `suffix` distinguishes lines of one style."""

    style: str
    points: tuple[tuple[float, float], ...]
    spread: tuple[tuple[float, float], ...] = ()
    suffix: str = ""
    dashed: bool = False
    hollow: bool = False

    @property
    def label(self) -> str:
        """The text in the legend."""
        return style_of(self.style).label + (f", {self.suffix}" if self.suffix else "")


@dataclass(frozen=True)
class Chart:
    """A chart. `note` describes it. `upright`: vertical lines, each with its x and a label."""

    name: str
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    note: str = ""
    upright: tuple[tuple[float, str], ...] = ()

    def rows(self) -> list[Row]:
        """The drawn points as rows."""
        found = []
        for line in self.lines:
            for index, (x, y) in enumerate(line.points):
                row = {"line": line.label, self.x.label: x, self.y.label: y}
                if line.spread:
                    row |= {"least": line.spread[index][0], "greatest": line.spread[index][1]}
                found.append(row)
        return found


@dataclass(frozen=True)
class Table:
    """A table. `rows` contain text or numbers; `note` is shown below."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


def line(rows: Rows, style: str, x: str, y: str, suffix: str = "", by: str | None = None, **looks: Any) -> Line | None:
    """The medians of `y` over rows with the same value of `by` (by default `x`), with their spread. None if there are no rows.

    If `by` is another column, x is a median too, as in latency against throughput.
    """
    points, spread = [], []
    for value in rows.values(by or x):
        some = rows.where(**{by or x: value})
        try:
            points.append((some.median(x), some.median(y)))
            spread.append(some.spread(y))
        except Missing:
            continue
    if not points:
        return None
    if by is None:
        points, spread = (list(pair) for pair in zip(*sorted(zip(points, spread, strict=True)), strict=True))
    several = any(low != high for low, high in spread)
    return Line(style, tuple(points), tuple(spread) if several else (), suffix, **looks)


def chart_or_none(name: str, title: str, x: Axis, y: Axis, lines: Sequence[Line | None], note: str = "", **more: Any) -> Chart | None:
    """A chart of the lines that are not None; None if all are."""
    there = tuple(each for each in lines if each is not None)
    return Chart(name, title, x, y, there, note, **more) if there else None
