"""The picture of a failure: its content, and that it is well-formed."""

from __future__ import annotations

import re
from random import Random
from xml.etree import ElementTree

import pytest

from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_model import model
from stretto.apps.kv_workload import workload
from stretto.services.service import ServiceMachine
from stretto.verify.generate import concurrent_history
from stretto.verify.linearizability import check, check_steps
from stretto.verify.picture import MOST_BARS, page
from stretto.verify.search import Step

SVG = "{http://www.w3.org/2000/svg}"


def drawing(html: str) -> ElementTree.Element:
    """The one drawing of a page."""
    [svg] = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    return ElementTree.fromstring(svg)


def bars(svg: ElementTree.Element, kind: str) -> list[tuple[str, float, float]]:
    """The bars of a kind: first line of the hover text, begin and end."""
    found = []
    for group in svg.iter(f"{SVG}g"):
        if group.get("class") == f"bar {kind}":
            title, rect = group.findtext(f"{SVG}title"), group.find(f"{SVG}rect")
            assert title is not None
            assert rect is not None
            found.append((title.splitlines()[0], float(rect.get("x", "")), float(rect.get("x", "")) + float(rect.get("width", ""))))
    return found


def test_a_stale_read() -> None:
    steps = [
        Step(0, ("put", b"<k>", b"1"), 0, 10, None),
        Step(0, ("put", b"<k>", b"2"), 20, 30, None),
        Step(1, ("delete", b"<k>"), 35, 90, True),
        Step(2, ("get", b"<k>"), 40, 50, b"1"),
    ]
    failure = check_steps(steps, model()).failure
    assert failure is not None
    html = page([("a & b", failure)], model())
    assert "a &amp; b" in html
    assert "<k>" not in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", ""), "it needs nothing else"
    svg = drawing(html)
    [failing] = bars(svg, "failing")
    assert failing[0] == "process 2: get('<k>'): '1'"
    placed = bars(svg, "placed")
    assert [title for title, _, _ in placed] == ["process 0: put('<k>', '1')", "process 0: put('<k>', '2')"]
    assert placed[0][2] <= placed[1][1] < placed[1][2] <= failing[1], "time goes to the right"
    assert [title for title, _, _ in bars(svg, "unplaced")] == ["process 1: delete('<k>')"]
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert [text for text in texts if text in ("1", "2", "3")] == ["1", "2"]
    assert "'2'" in texts, "the state after the second"


@pytest.mark.parametrize("seed", range(6))
def test_every_failure_can_be_drawn(seed: int) -> None:
    machine = ServiceMachine(KeyValueStore)
    history = concurrent_history(machine, lambda random: workload(random, 2), Random(seed), 300, 8, 0.05, 150)
    failure = check(history, model()).failure
    assert failure is not None
    svg = drawing(page([("generated", failure)], model()))
    kinds = [bars(svg, kind) for kind in ("failing", "placed", "unplaced")]
    assert len(kinds[0]) == 1
    assert 1 < sum(map(len, kinds)) <= MOST_BARS
    assert all(begin < end for kind in kinds for _, begin, end in kind)


def test_a_page_without_failures() -> None:
    assert "nothing to draw" in page([], model())
