"""The report: one self-contained HTML page, and its content as CSV and JSON."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any

import msgspec

from stretto.reproduction.charts import Chart, Table
from stretto.reproduction.claims import Outcome, Paper, Verdict
from stretto.reproduction.drawing import Drawing, draw, variable
from stretto.reproduction.experiment import Experiment
from stretto.reproduction.rows import Row, Rows, to_csv
from stretto.reproduction.styles import label_of, shades

_MOST_COMMANDS = 400

_LEAD = (
    "State machine replication on networks that deliver messages mostly in one order: every experiment run again with Stretto, and each "
    "claim beside its result."
)
_BUSY = (
    '<p class="warning">This machine was busy with something else when the run began. Measurements on it, of real processes and in a '
    "calibration, are not reliable. Simulations with costs from a quiet machine are not affected.</p>"
)
_NO_HAND = "Verdicts are computed from the rows of the experiments, by the rule that is printed with each claim; none is written by hand."
_METHOD = """
<p>All protocols run on the same core, transports, codecs and load. Simulations run the replicas and clients of production in virtual time.
Each is a machine with one processor, which takes the time given by the costs below to receive, handle and send messages; what arrives in
the meantime waits, and messages to one destination share datagrams. The seed determines everything, so with the same costs the same
command gives the same figures on every machine. Real processes are measured with the clock of this machine, while nothing else of this
report runs.</p>
<p>Figures of several seeds or runs are medians, and bands reach from the least to the greatest.</p>
"""
_VERDICTS = """
<p>For each claim, one number of ours is compared with its figure by a rule: at least, at most, or near. “Reproduced” means that the
figure is met; “partly”, that the direction is right and the figure is not met; “not reproduced”, that the direction is wrong too;
“not examined”, that a protocol is missing or its points gave no result.</p>
"""


@dataclass(frozen=True)
class Run:
    """The run that a report describes.

    `facts`: time, machine and settings. `costs`: of the simulated machines; `costs_from`: their source; `costs_miss`: their error in the
    calibration. `busy`: the machine had other work.
    """

    command: str
    facts: dict[str, str]
    costs: dict[str, dict[str, Any]]
    costs_from: str
    costs_miss: str
    protocols: tuple[str, ...]
    busy: bool = False


@dataclass(frozen=True)
class Chapter:
    """An experiment with its results."""

    experiment: Experiment
    rows: Rows
    shown: Sequence[Chart | Table]
    verdicts: Sequence[Verdict]


def page(run: Run, chapters: Sequence[Chapter]) -> str:
    """The report as HTML."""
    verdicts = [verdict for chapter in chapters for verdict in chapter.verdicts]
    body = "\n".join(
        [
            '<a class="skip" href="#main">To the text</a><div class="page">',
            _contents(chapters),
            '<main id="main">',
            *_opening(run, verdicts),
            *(part for chapter in chapters for part in _chapter(chapter)),
            *_method(run, chapters, verdicts),
            "</main></div>",
        ]
    )
    style = files("stretto.reproduction").joinpath("report.css").read_text(encoding="utf-8")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>Stretto: the papers' results, reproduced</title><style>{style}{_colours()}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _colours() -> str:
    """The colours of protocols as CSS variables, for light and dark backgrounds."""
    light = "".join(f"{variable(on_white)}:{on_white};" for on_white in shades())
    dark = "".join(f"{variable(on_white)}:{on_black};" for on_white, on_black in shades().items())
    return f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def _contents(chapters: Sequence[Chapter]) -> str:
    links = [("claims", "What was reproduced")]
    links += [(chapter.experiment.name, chapter.experiment.title) for chapter in chapters]
    links += [("method", "Method"), ("machine", "Machine and costs"), ("rules", "Verdicts"), ("papers", "Papers")]
    items = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in links)
    return f'<nav aria-label="Contents"><strong>Contents</strong><ol>{items}</ol></nav>'


# The first section: all claims in one table


def _opening(run: Run, verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield "<header><h1>The papers' results, reproduced</h1>"
    yield f'<p class="lead">{_LEAD} {escape(", ".join(map(label_of, run.protocols)))}.</p>'
    yield f'<p class="soft">{escape(" · ".join(run.facts.values()))}</p>'
    yield f"{_BUSY if run.busy else ''}</header>"
    yield '<section aria-labelledby="claims"><h2 id="claims">What was reproduced</h2>'
    counted = Counter(verdict.outcome for verdict in verdicts)
    yield '<ul class="tally">'
    yield from (f"<li>{_badge(outcome, f'{counted[outcome]} {outcome.value}')}</li>" for outcome in Outcome if counted[outcome])
    head = "".join(f"<th scope=col>{name}</th>" for name in ("claim", "paper", "here", "verdict"))
    yield f'</ul><div class="scroll"><table class="summary"><thead><tr>{head}</tr></thead><tbody>'
    for verdict in verdicts:
        claim = verdict.claim
        name = f'<a href="#claim-{claim.name}">{escape(claim.subject)}</a>'
        where = f'<span class="soft">{escape(claim.paper.short)}, {escape(claim.section)}</span>'
        yield f'<tr><td>{name}<br>{where}</td><td data-name="paper">{escape(claim.number)}</td>'
        yield f'<td data-name="here">{escape(verdict.ours)}</td><td>{_badge(verdict.outcome)}</td></tr>'
    yield f'</tbody></table></div><p class="note">{_NO_HAND}</p></section>'


def _badge(outcome: Outcome, text: str | None = None) -> str:
    return f'<span class="verdict {outcome.value.replace(" ", "-")}">{escape(text or outcome.value)}</span>'


# A chapter for each experiment


def _chapter(chapter: Chapter) -> Iterator[str]:
    experiment = chapter.experiment
    yield f'<section aria-labelledby="{experiment.name}"><h2 id="{experiment.name}">{escape(experiment.title)}</h2>'
    yield f'<p class="question">{escape(experiment.question)}</p><p>{escape(experiment.method)}</p>'
    if not chapter.shown:
        yield "<p>No point gave a result.</p>"
    for shown in chapter.shown:
        yield _figure(shown) if isinstance(shown, Chart) else _table(shown)
    for words, verdicts in groupby(chapter.verdicts, key=lambda verdict: verdict.claim.words):
        yield _claims(words, list(verdicts))
    yield _failures(chapter.rows)
    yield _commands(experiment, chapter.rows)
    yield "</section>"


def _claims(words: str, verdicts: Sequence[Verdict]) -> str:
    """A statement of a paper, and all claims in it."""
    quoted = verdicts[0].claim.quoted
    said = f"“{escape(words)}”" if quoted else f'{escape(words)} <span class="soft">(in our words)</span>'
    return f'<div class="claim"><blockquote>{said}</blockquote>{"".join(map(_claim, verdicts))}</div>'


def _claim(verdict: Verdict) -> str:
    claim = verdict.claim
    rows = [
        ("claimed", f"{escape(claim.number)} <span class='soft'>({escape(claim.paper.short)}, {escape(claim.section)})</span>"),
        ("here", f"<strong>{escape(verdict.ours)}</strong> {_badge(verdict.outcome)}"),
        ("because", escape(verdict.reason)),
        ("rule", f"<span class='soft'>{escape(claim.rule.words)}</span>"),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows)
    return f'<dl id="claim-{claim.name}">{items}</dl>'


def _figure(chart: Chart) -> str:
    drawing = draw(chart)
    title = f'<h3 id="{chart.name}-title">{escape(chart.title)}</h3>'
    caption = f'<figcaption id="{chart.name}-note">{escape(chart.note)}</figcaption>'
    return f'<figure>{title}<div class="scroll">{drawing.inline}</div>{caption}{_downloads(chart, drawing)}</figure>'


def _downloads(chart: Chart, drawing: Drawing) -> str:
    rows = chart.rows()
    kinds = {
        "svg": ("image/svg+xml", drawing.svg),
        "png": ("image/png", drawing.png),
        "csv": ("text/csv", to_csv(rows).encode()),
        "json": ("application/json", msgspec.json.encode(rows)),
    }
    links = (_download(f"{chart.name}.{kind}", kind.upper(), media, content) for kind, (media, content) in kinds.items())
    return f'<p class="downloads">{" ".join(links)}</p>'


def _download(file: str, text: str, media: str, content: bytes) -> str:
    data = b64encode(content).decode()
    return f'<a download="{file}" href="data:{media};base64,{data}" aria-label="{text} of {file}">{text}</a>'


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.columns))]

    def cells(row: Sequence[Any], kind: str) -> str:
        tags = (f"{kind} class=number" if number else kind for number in numeric)
        scope = " scope=col" if kind == "th" else ""
        return "".join(f"<{tag}{scope}>{escape(str(cell))}</{kind}>" for cell, tag in zip(row, tags, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    records = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    links = f"{_download(f'{table.name}.csv', 'CSV', 'text/csv', to_csv(records).encode())} "
    links += _download(f"{table.name}.json", "JSON", "application/json", msgspec.json.encode(records))
    head = f"<thead><tr>{cells(table.columns, 'th')}</tr></thead>" if any(map(str.strip, table.columns)) else ""
    grid = f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
    return f'<h3>{escape(table.title)}</h3>{grid}{note}<p class="downloads">{links}</p>'


def _is_number(cell: Any) -> bool:
    return not isinstance(cell, str) or not cell or cell == "-" or cell[0].isdigit()


def _failures(rows: Rows) -> str:
    failed = [row for row in rows if "error" in row]
    if not failed:
        return ""
    lines = "\n".join(f"{row['command']}\n    {row['error']}" for row in failed[:20])
    more = f"\nand {len(failed) - 20} more" if len(failed) > 20 else ""
    return f"<p><strong>{len(failed)} of {len(rows.all)} points failed:</strong></p><pre>{escape(lines + more)}</pre>"


def _commands(experiment: Experiment, rows: Rows) -> str:
    commands = list(dict.fromkeys(row["command"] for row in rows))
    shown = "\n".join(commands[:_MOST_COMMANDS])
    rest = f"\n# and {len(commands) - _MOST_COMMANDS} more, in {experiment.name}.csv" if len(commands) > _MOST_COMMANDS else ""
    summary = f"Commands that repeat single points ({len(commands)})"
    note = "These commands give figures of the whole simulation. The figures in this report leave out the warm-up."
    return f'<details><summary>{summary}</summary><p class="note">{note}</p><pre>{escape(shown + rest)}</pre></details>'


# The last sections: method, machine, rules, papers


def _method(run: Run, chapters: Sequence[Chapter], verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield '<section aria-labelledby="method"><h2 id="method">Method</h2>'
    yield _METHOD
    yield f"<pre>{escape(run.command)}</pre>"
    counts = [(c.experiment.title, len(c.rows.all), f"{sum(row['seconds'] for row in c.rows):,.0f}") for c in chapters]
    yield _table(Table("points", "What was run", ("experiment", "points", "seconds of work"), tuple(counts)))
    yield '</section><section aria-labelledby="machine"><h2 id="machine">Machine and costs</h2>'
    yield _table(Table("machine-facts", "Where and when", ("", " "), tuple(run.facts.items())))
    yield f"<p>The costs of simulated machines come from {escape(run.costs_from)}. They miss the processor times of the calibration by "
    yield f"{escape(run.costs_miss)} (root mean square).</p>"
    names = list(next(iter(run.costs.values()), {}))
    costs = tuple((name, *(one.get(name, "-") for one in run.costs.values())) for name in names)
    note = "Names that end in _ns are nanoseconds of processor time."
    yield _table(Table("costs", "Costs of simulated machines", ("", *run.costs), costs, note))
    yield f'</section><section aria-labelledby="rules"><h2 id="rules">Verdicts</h2>{_VERDICTS}'
    rules = tuple((v.claim.name, v.claim.rule.words, "-" if v.value is None else f"{v.value:.4g}", v.outcome.value) for v in verdicts)
    yield _table(Table("verdicts", "Rules and numbers", ("claim", "rule", "our number", "verdict"), rules))
    yield '</section><section aria-labelledby="papers"><h2 id="papers">Papers</h2><ul>'
    papers: list[Paper] = list(dict.fromkeys(verdict.claim.paper for verdict in verdicts))
    yield from (f"<li><strong>{escape(paper.short)}</strong> {escape(paper.reference)}</li>" for paper in papers)
    yield "</ul></section>"


def results(run: Run, chapters: Sequence[Chapter]) -> dict[str, Any]:
    """The content of the report as plain data."""
    verdicts = [summary(verdict, chapter.experiment) for chapter in chapters for verdict in chapter.verdicts]
    rows: list[Row] = [row for chapter in chapters for row in chapter.rows]
    about = {"command": run.command, "facts": run.facts, "costs": run.costs, "costs_from": run.costs_from, "busy": run.busy}
    return {"run": about, "claims": verdicts, "rows": rows}


def summary(verdict: Verdict, experiment: Experiment) -> dict[str, Any]:
    """A verdict as plain data."""
    claim = verdict.claim
    value = verdict.value if verdict.value is not None and abs(verdict.value) != float("inf") else None
    return {
        "claim": claim.name,
        "experiment": experiment.name,
        "subject": claim.subject,
        "paper": claim.paper.short,
        "section": claim.section,
        "words": claim.words,
        "quoted": claim.quoted,
        "claimed": claim.number,
        "here": verdict.ours,
        "value": value,
        "verdict": verdict.outcome.value,
        "reason": verdict.reason,
        "rule": claim.rule.words,
    }
