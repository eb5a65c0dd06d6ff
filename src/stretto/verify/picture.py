"""A picture of why a history is not linearizable: one self-contained HTML page.

Each row is a process, and each bar a call from its beginning to its return. Numbered lines show the longest order that the model allows.
Each line is where its operation takes effect, with the state after it below. The time axis is stretched so that all labels can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from stretto.core.model import Model
from stretto.verify.linearizability import Failure

MOST_BARS = 24

_ROW, _BAR, _LEFT, _TOP = 44, 26, 110, 14
_LETTER, _GAP = 7.2, 16

_LEGEND = (
    "The numbered lines show the longest order that the model allows. Each line is where its operation takes effect, and the state after "
    "it is below. Dashed bars are not in that order."
)
_LEGEND_WITHOUT_ORDER = "The budget was used up before the longest order that the model allows was found."
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not linearizable</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #1d2733; background: #fff; margin: 2rem; }}
.scroll {{ overflow-x: auto; border: 1px solid #d5dbe1; border-radius: 6px; margin: 1rem 0 2.5rem; }}
svg {{ display: block; }}
text {{ font: 12px ui-monospace, monospace; fill: #1d2733; }}
.row {{ stroke: #e7ebef; }}
.bar rect {{ fill: #dbe9f6; stroke: #5b8db8; rx: 4px; }}
.bar.unplaced rect {{ fill: #f2f2f2; stroke: #8a939c; stroke-dasharray: 4 3; }}
.bar.failing rect {{ fill: #f9d4d0; stroke: #c0271b; stroke-width: 2px; }}
.bar:hover rect {{ fill: #fff3c4; }}
.effect line {{ stroke: #22577f; stroke-width: 2px; }}
.effect circle {{ fill: #22577f; }}
.effect .number {{ fill: #fff; text-anchor: middle; font-size: 10.5px; }}
.guide {{ stroke: #22577f; stroke-width: 1px; stroke-dasharray: 2 4; opacity: .45; }}
.label {{ paint-order: stroke; stroke: #fff; stroke-opacity: .75; stroke-width: 4px; pointer-events: none; }}
.label.failing {{ font-weight: 600; }}
.bad {{ color: #c0271b; }}
</style></head><body>
{body}
</body></html>
"""


def page(failures: Iterable[tuple[str, Failure]], model: Model) -> str:
    """The page. `failures` has the title of each history with its failure."""
    sections = [_section(title, failure, model) for title, failure in failures]
    return _PAGE.format(body="\n".join(sections) or "<p>No history failed: there is nothing to draw.</p>")


def _section(title: str, failure: Failure, model: Model) -> str:
    drawing = _Drawing(failure, model)
    last = failure.steps[failure.last]
    left_out = len(failure.steps) - len(drawing.shown)
    lines = [
        f"<h2>{escape(title)}: <span class='bad'>not linearizable</span></h2>",
        f"<p>No order explains the result of process {escape(str(last.process))}: "
        f"<b class='bad'>{escape(model.describe(last.operation, last.result))}</b>.<br>",
        f"The first {failure.prefix:,} operations of the history show it"
        + ("" if failure.is_shortest else " (a shorter prefix may suffice; the budget was used up before that was known)")
        + f"; the {len(failure.steps):,} of them on {escape(', '.join(map(model.describe_state, failure.keys)))} suffice.",
        f" {left_out:,} of these are not drawn; they came earlier, or were never answered.</p>" if left_out else "</p>",
        f"<p>{_LEGEND if failure.order else _LEGEND_WITHOUT_ORDER} A bar that is open to the right had not been answered.</p>",
        f"<div class='scroll'>{drawing.svg()}</div>",
    ]
    return "\n".join(lines)


class _Drawing:
    """The layout and its SVG. The columns are the calls, effects and returns in order; each is as wide as its texts need."""

    def __init__(self, failure: Failure, model: Model) -> None:
        self._failure = failure
        self._model = model
        self.shown = failure.near(MOST_BARS)
        shown = set(self.shown)
        self._effects = [(number, index) for number, (index, _) in enumerate(failure.order, 1) if index in shown]
        self._states = {number: states for number, (_, states) in enumerate(failure.order, 1)}
        self._columns = self._ordered_columns()
        self._places = self._spread()
        processes = sorted({failure.steps[index].process for index in self.shown}, key=lambda process: (str(type(process)), process))
        self._rows = self._assign_rows(processes)

    def _ordered_columns(self) -> list[tuple[str, int]]:
        """Calls and returns by time. Each effect comes as early as its call and the previous effect allow."""
        steps = self._failure.steps
        events = [(steps[index].called, 1, "call", index) for index in self.shown]
        for index in self.shown:
            returned = steps[index].returned
            if returned is not None:  # before the next call of its process, which may be at the same time
                events.append((returned, 0 if returned > steps[index].called else 2, "return", index))
        columns = [(kind, index) for _, _, kind, index in sorted(events)]
        place = 0
        for _, index in self._effects:
            place = max(place, columns.index(("call", index)) + 1)
            columns.insert(place, ("effect", index))
            place += 1
        return columns

    def _spread(self) -> dict[tuple[str, int], float]:
        """The x coordinate of every column, with enough room for the texts of bars and states."""
        widths = [float(_GAP)] * len(self._columns)
        places = {column: place for place, column in enumerate(self._columns)}
        effects = [places["effect", index] for _, index in self._effects]
        for (number, _), begin, end in zip(self._effects, effects, [*effects[1:], len(widths)], strict=True):
            needed = max(len(self._state(number, key)) for key in self._failure.keys) * _LETTER + _GAP
            widths[end - 1] += max(0.0, needed - sum(widths[begin:end]))
        for index in sorted(self.shown, key=lambda index: places.get(("return", index), len(widths))):
            begin, end = places["call", index], places.get(("return", index), len(widths))
            widths[end - 1] += max(0.0, len(self._label(index)) * _LETTER + 2 * _GAP - sum(widths[begin:end]))
        self._width = _LEFT + sum(widths) + _GAP
        return {column: _LEFT + sum(widths[:place]) for place, column in enumerate(self._columns)}

    def _assign_rows(self, processes: Sequence[Any]) -> dict[int, int]:
        """The row of every bar: one row per process, or more if it made further calls while one was unanswered."""
        self._names: list[str] = []
        rows: dict[int, int] = {}
        for process in processes:
            ends: list[float] = []
            for index in self.shown:
                if self._failure.steps[index].process != process:
                    continue
                begin = self._places["call", index]
                row = next((row for row, end in enumerate(ends) if end <= begin), len(ends))
                ends[row : row + 1] = [self._places.get(("return", index), self._width)]
                rows[index] = len(self._names) + row
            self._names += [f"process {process}"] + [""] * (len(ends) - 1)
        return rows

    def _label(self, index: int) -> str:
        step = self._failure.steps[index]
        return self._model.describe(step.operation, step.result)

    def _state(self, number: int, key: Any) -> str:
        return self._model.describe_state(self._states[number][key])

    def svg(self) -> str:
        """The drawing as an SVG element."""
        keys = self._failure.keys
        bottom = _TOP + len(self._names) * _ROW
        height = bottom + len(keys) * 22 + 22
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{self._width:.0f}" height="{height}" role="img">']
        for row, name in enumerate(self._names):
            middle = _TOP + row * _ROW + _ROW / 2
            parts.append(f'<line class="row" x1="{_LEFT - 8}" x2="{self._width:.0f}" y1="{middle}" y2="{middle}"/>')
            parts.append(f'<text x="10" y="{middle + 4}">{escape(name)}</text>')
        for row, key in enumerate(keys):
            name = "state" if len(keys) == 1 else self._model.describe_state(key)
            parts.append(f'<text x="10" y="{bottom + 22 + row * 22}">{escape(name[:14])}</text>')
        parts += [self._bar(index) for index in self.shown]
        parts += [self._effect(number, index, bottom) for number, index in self._effects]
        parts += [self._name(index) for index in self.shown]  # last, so that no line covers them
        return "\n".join([*parts, "</svg>"])

    def _bar(self, index: int) -> str:
        step = self._failure.steps[index]
        numbers = [number for number, placed in self._effects if placed == index]
        kind = "failing" if index == self._failure.last else "placed" if numbers else "unplaced"
        begin, end = self._places["call", index], self._places.get(("return", index), self._width + 9)
        top = _TOP + self._rows[index] * _ROW + (_ROW - _BAR) / 2
        returned = "not answered" if step.returned is None else f"returned at {step.returned:,}"
        effect = f"number {numbers[0]} of the order" if numbers else "not in the order"
        hover = f"process {step.process}: {self._label(index)}\ncalled at {step.called:,}, {returned}\n{effect}"
        return (
            f'<g class="bar {kind}"><title>{escape(hover)}</title>'
            f'<rect x="{begin:.1f}" y="{top}" width="{end - begin:.1f}" height="{_BAR}"/></g>'
        )

    def _name(self, index: int) -> str:
        kind = "label failing" if index == self._failure.last else "label"
        x = self._places["call", index] + 8
        y = _TOP + self._rows[index] * _ROW + (_ROW - _BAR) / 2 + 17
        return f'<text class="{kind}" x="{x:.1f}" y="{y}">{escape(self._label(index))}</text>'

    def _effect(self, number: int, index: int, bottom: int) -> str:
        x = self._places["effect", index]
        top = _TOP + self._rows[index] * _ROW + (_ROW - _BAR) / 2
        states = "".join(
            f'<text x="{x - 4:.1f}" y="{bottom + 22 + row * 22}">{escape(self._state(number, key))}</text>'
            for row, key in enumerate(self._failure.keys)
        )
        return (
            f'<g class="effect"><line class="guide" x1="{x:.1f}" x2="{x:.1f}" y1="{top + _BAR}" y2="{bottom + 8}"/>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 2}" y2="{top + _BAR + 2}"/>'
            f'<circle cx="{x:.1f}" cy="{top - 4}" r="9"/><text class="number" x="{x:.1f}" y="{top}">{number}</text>{states}</g>'
        )
