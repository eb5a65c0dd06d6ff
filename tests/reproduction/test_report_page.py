"""The page needs nothing else, and has what it should."""

from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest

from stretto.reproduction.charts import Axis, Chart, Line, Table
from stretto.reproduction.claims import NSDI15, AtLeast, Claim, Finding, Near, judge
from stretto.reproduction.drawing import draw
from stretto.reproduction.experiment import Experiment
from stretto.reproduction.report import Chapter, Run, page, results
from stretto.reproduction.rows import Rows
from stretto.reproduction.styles import in_order, style_of

LINES = (
    Line("speculative", ((0.0, 5.0), (0.001, 4.0), (0.1, 1.0)), ((4.0, 6.0), (3.0, 5.0), (1.0, 1.0))),
    Line("multipaxos", ((0.0, 2.0), (0.001, 2.0), (0.1, 2.0))),
)
CHART = Chart("rates", "Rates & <throughput>", Axis("rate", log=True, percent=True, zero=1e-5), Axis("ops/s", log=True), LINES, "A note.")
ROWS = Rows(
    [
        {"key": "1", "x": 3.0, "command": "stretto simulate --seed 1", "seconds": 1.5},
        {"key": "2", "command": "stretto simulate --seed 2", "seconds": 0.5, "error": "Stalled: <nothing>"},
    ]
)


def chapters() -> list[Chapter]:
    claims = (
        Claim("one", "First", NSDI15, "abstract", "It is fast.", "2.6 times", (), AtLeast(2.6), lambda rows: _found(rows), quoted=True),
        Claim("two", "Second", NSDI15, "section 2", "It is small.", "about 1", (), Near(1, 2, 4), lambda rows: _found(rows)),
        Claim("three", "Third", NSDI15, "section 3", "It is there.", "yes", ("raft",), Near(1, 2, 4), lambda rows: _found(rows)),
    )
    experiment = Experiment("one-experiment", "An experiment", "Is it so?", "By trying.", lambda scope: [], lambda rows: [], claims)
    shown = (CHART, Table("numbers", "Numbers", ("name", "ops/s"), (("a", "1,000"), ("b", "-"))))
    return [Chapter(experiment, ROWS, shown, [judge(claim, ROWS) for claim in claims])]


def _found(rows: Rows) -> Finding:
    return Finding(rows.median("x"), f"{rows.median('x'):g} times", "because of the rows")


FACTS = {"date": "today", "processor": "a & b"}
RUN = Run("stretto reproduce", FACTS, {"replica": {"burst": 64}}, "a file", "17%", ("speculative",), busy=True)


@pytest.fixture(scope="module")
def html() -> str:
    return page(RUN, chapters())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    return reader


def test_it_needs_nothing_else(html: str) -> None:
    reader = read(html)
    assert not reader.tags & {"script", "link", "img", "iframe", "object"}
    assert {link.partition(":")[0] for link in reader.links if not link.startswith("#")} == {"data"}
    assert "@import" not in html
    assert "url(h" not in html


def test_every_link_leads_somewhere_and_no_name_is_given_twice(html: str) -> None:
    reader = read(html)
    assert len(set(reader.ids)) == len(reader.ids)
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(reader.ids)
    for names in re.findall(r'aria-(?:labelledby|describedby)="([^"]*)"', html):
        assert names in reader.ids


def test_it_has_claims_with_verdicts_reasons_and_rules(html: str) -> None:
    assert "“It is fast.”" in html
    assert 'It is small. <span class="soft">(in our words)</span>' in html
    assert "1 reproduced" in html
    assert "1 partly" in html
    assert "1 not examined" in html
    assert "because of the rows" in html
    assert AtLeast(2.6).words in html
    assert "There is no protocol raft" in html
    assert html.index("reproduced</h2>") < html.index("An experiment</h2>") < html.index("Method</h2>")


def test_it_has_failures_commands_machine_and_costs(html: str) -> None:
    assert "1 of 2 points failed" in html
    assert "Stalled: &lt;nothing&gt;" in html
    assert "stretto simulate --seed 2" in html
    assert "a &amp; b" in html
    assert "<td>burst</td>" in html
    assert "17% (root mean square)" in html
    assert "busy with something else" in html


def test_charts_can_be_downloaded_in_every_form(html: str) -> None:
    found = dict(re.findall(r'download="(rates\.\w+)" href="data:[^;]+;base64,([^"]+)"', html))
    assert set(found) == {"rates.svg", "rates.png", "rates.csv", "rates.json"}
    assert ElementTree.fromstring(b64decode(found["rates.svg"])).tag.endswith("svg")
    assert b64decode(found["rates.png"]).startswith(b"\x89PNG")
    assert b64decode(found["rates.csv"]).decode().splitlines()[1] == "Speculative Paxos,0.0,5.0,4.0,6.0"
    assert msgspec.json.decode(b64decode(found["rates.json"]))[3] == {"line": "Multi-Paxos", "rate": 0.0, "ops/s": 2.0}


def test_a_chart_in_the_page_has_the_colours_of_the_page() -> None:
    drawing = draw(CHART)
    assert style_of("speculative").light not in drawing.inline
    assert f"var(--c-{style_of('speculative').light[1:]})" in drawing.inline
    assert "currentColor" in drawing.inline
    assert style_of("speculative").light in drawing.svg.decode()
    assert "currentColor" not in drawing.svg.decode()
    assert "#01020" not in drawing.inline + drawing.svg.decode()
    assert draw(CHART) == drawing


def test_protocols_differ_by_colour_and_by_marker() -> None:
    names = ["speculative", "multipaxos", "multipaxos-batched", "fastpaxos", "nopaxos", "unreplicated", "adaptive"]
    assert in_order(sorted(names)) == names
    assert len({style_of(name).light for name in names}) == len({style_of(name).marker for name in names}) == len(names)
    assert style_of("newcomer").label == "newcomer"


def test_results_are_plain_data() -> None:
    found = msgspec.json.decode(msgspec.json.encode(results(RUN, chapters())))
    assert [claim["verdict"] for claim in found["claims"]] == ["reproduced", "partly", "not examined"]
    assert found["claims"][0]["value"] == 3.0
    assert len(found["rows"]) == 2
