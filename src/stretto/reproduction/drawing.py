"""Charts drawn as SVG that takes its colours from the page around it, and as SVG and PNG files."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from stretto.reproduction.charts import Axis, Chart, Line
from stretto.reproduction.styles import shades, style_of

_INK = "#010203"
_FAINT = "#010204"
"""Placeholders for the page's colours of text and of grid lines, replaced when the drawing is put into the page."""

_FEW_DECADES = 1_000
"""Logarithmic axes that span less have ticks between the powers of ten as well."""

_SIZE = (7.6, 4.6)
_FONT = ("DejaVu Sans",)


@dataclass(frozen=True)
class Drawing:
    """A drawn chart: the SVG element for the page, and the content of two files."""

    inline: str
    svg: bytes
    png: bytes


def draw(chart: Chart) -> Drawing:
    """Draw a chart in all three forms."""
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": chart.name, "font.family": _FONT, "font.size": 10}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=_SIZE, layout="constrained")
        _Drawer(figure.add_subplot(), chart).draw()
        figure.patch.set_alpha(0)
        svg = _saved(figure, "svg")
        figure.patch.set_alpha(1)
        png = _saved(figure, "png")
    return Drawing(_for_page(svg.decode(), chart), _with_colours(svg), png)


def _saved(figure: Any, kind: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()


def _with_colours(svg: bytes) -> bytes:
    """The SVG file has a white background and fixed colours."""
    text = svg.decode().replace(_INK, "#1f2933").replace(_FAINT, "#d5d9de")
    return re.sub(r"(<svg [^>]*)>", r'\1 style="background:#ffffff">', text, count=1).encode()


def _for_page(svg: str, chart: Chart) -> str:
    """The SVG element, with identifiers that are unique in the page, and the colours of the page."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{chart.name}-', text)
    text = re.sub(r"url\(#", f"url(#{chart.name}-", text).replace('href="#', f'href="#{chart.name}-')
    text = text.replace(_INK, "currentColor").replace(_FAINT, "var(--rule)")
    for light in shades():
        text = text.replace(light, f"var({variable(light)})")
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-labelledby="{chart.name}-title" aria-describedby="{chart.name}-note" ', 1)


def variable(light: str) -> str:
    """The name of the CSS variable of a colour."""
    return f"--c-{light[1:]}"


@dataclass
class _Drawer:
    axes: Any
    chart: Chart

    def draw(self) -> None:
        axes, chart = self.axes, self.chart
        for scale, axis in ((axes.set_xscale, chart.x), (axes.set_yscale, chart.y)):
            if axis.log:
                scale("log")
        for each in chart.lines:
            self._draw_line(each)
        for place, word in chart.upright:
            axes.axvline(place, color=_INK, linewidth=0.9, linestyle=(0, (2, 3)))
            above = {"xycoords": ("data", "axes fraction"), "xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            axes.annotate(word, (place, 1), color=_INK, fontsize=9, **above)
        axes.set_xlabel(chart.x.label, color=_INK)
        axes.set_ylabel(chart.y.label, color=_INK)
        if not chart.y.log:
            axes.set_ylim(bottom=0)
        if not chart.x.log and chart.x.least is not None:
            axes.set_xlim(left=chart.x.least)
        axes.grid(color=_FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.patch.set_alpha(0)
        axes.tick_params(colors=_INK, which="both", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_INK)
        for axis, matplotlib_axis in ((chart.x, axes.xaxis), (chart.y, axes.yaxis)):
            self._label_ticks(axis, matplotlib_axis)
        if len(chart.lines) > 1 or (chart.lines and chart.lines[0].suffix):
            columns = 4 if len(chart.lines) == 4 else 3
            axes.figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=_INK)

    def _draw_line(self, each: Line) -> None:
        style = style_of(each.style)
        xs = [self._place(x) for x, _ in each.points]
        ys = [y for _, y in each.points]
        self.axes.plot(
            xs,
            ys,
            color=style.light,
            marker=style.marker,
            markersize=6,
            markerfacecolor="none" if each.hollow else style.light,
            linestyle=(0, (4, 3)) if each.dashed else style.line,
            linewidth=1.8,
            label=each.label,
        )
        if each.spread:
            low, high = zip(*each.spread, strict=True)
            self.axes.fill_between(xs, low, high, color=style.light, alpha=0.16, linewidth=0)

    def _place(self, x: float) -> float:
        zero = self.chart.x.zero
        return zero if x == 0 and zero is not None else x

    def _label_ticks(self, axis: Axis, matplotlib_axis: Any) -> None:
        def text(value: float, _position: Any = None) -> str:
            if axis.zero is not None and value == axis.zero:
                return "0"
            return f"{value * 100:.4g}%" if axis.percent else short(value)

        matplotlib_axis.set_major_formatter(FuncFormatter(text))
        matplotlib_axis.set_minor_formatter(NullFormatter())
        if axis.marks:
            matplotlib_axis.set_ticks(axis.marks)
        low, high = matplotlib_axis.get_view_interval()
        if axis.log and axis.zero is None and high / low < _FEW_DECADES:
            exponents = range(floor(log10(low)), ceil(log10(high)))
            digits = (1, 2, 5) if high / low > 10 else (1, 2, 3, 4, 5, 6, 8)
            matplotlib_axis.set_ticks([tick for e in exponents for digit in digits if low <= (tick := digit * 10.0**e) <= high])
        if axis.zero is not None:
            values = sorted({self._place(x) for each in self.chart.lines for x, _ in each.points})
            decades = [value for value in values if value == axis.zero or is_decade(value)]
            matplotlib_axis.set_ticks(decades)
            matplotlib_axis.set_minor_locator(NullLocator())


def is_decade(value: float) -> bool:
    """Whether a number is a power of ten, up to rounding."""
    digits = f"{value:.6e}".partition("e")[0]
    return float(digits) == 1.0


def short(value: float) -> str:
    """A number for an axis, as 1.2M for 1200000."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
