"""Histories in text: the meaning of each kind of line, errors in lines, and the verdicts on files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from stretto.apps.kv_model import model_of_texts
from stretto.core.model import UNKNOWN
from stretto.verify.edn import Keyword, parsed
from stretto.verify.events import steps_of
from stretto.verify.jepsen import events_of_edn, events_of_log
from stretto.verify.linearizability import NOT_LINEARIZABLE, OK, check_steps
from stretto.verify.register import CasRegister
from stretto.verify.search import Step

HERE = Path(__file__).parent / "histories"
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "histories"
"""Recorded histories from elsewhere with known verdicts. They may be missing."""


def from_log(*lines: str) -> list[Step]:
    """The steps of a log, from the parts of the lines after the logger's name."""
    return steps_of(events_of_log(f"INFO  jepsen.util - {line}" for line in lines), CasRegister())


def from_edn(*lines: str) -> list[Step]:
    """The steps of an EDN history of the key-value store, from the contents of the maps."""
    return steps_of(events_of_edn("{" + line + "}" for line in lines), model_of_texts())


def verdict(file: Path) -> str:
    """The verdict on a file."""
    lines = file.read_text().splitlines()
    if file.suffix == ".log":
        return check_steps(steps_of(events_of_log(lines), CasRegister()), CasRegister()).verdict
    return check_steps(steps_of(events_of_edn(lines), model_of_texts()), model_of_texts()).verdict


@pytest.mark.parametrize("name", ["register-ok.log", "kv-ok.txt"])
def test_files_that_are_linearizable(name: str) -> None:
    assert verdict(HERE / name) == OK


@pytest.mark.parametrize("name", ["register-bad.log", "kv-bad.txt"])
def test_files_that_are_not(name: str) -> None:
    assert verdict(HERE / name) == NOT_LINEARIZABLE


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded histories are missing")
def test_recorded_histories() -> None:
    with (RECORDED / "cas_register" / "verdicts.csv").open() as file:
        expected = {RECORDED / "cas_register" / row["file"]: row["linearizable"] == "true" for row in csv.DictReader(file)}
    expected |= {file: file.stem.endswith("-ok") for file in (RECORDED / "kv").glob("*.txt")}
    assert len(expected) >= 24
    assert {file: verdict(file) == OK for file in expected} == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["0 :invoke :read nil", "0 :ok :read nil"], Step(0, ("read",), 1, 2, None)),
        (["0 :invoke :read nil", "0 :ok :read -3"], Step(0, ("read",), 1, 2, -3)),
        (["0 :invoke :write 3", "0 :ok :write 3"], Step(0, ("write", 3), 1, 2, UNKNOWN)),
        (["0 :invoke :cas [1 2]", "0 :ok :cas [1 2]"], Step(0, ("cas", 1, 2), 1, 2, True)),
        (["0 :invoke :cas [1 2]", "0 :fail :cas [1 2]"], Step(0, ("cas", 1, 2), 1, 2, False)),
        (["0 :invoke :cas [1 2]", "0 :info :cas :timed-out"], Step(0, ("cas", 1, 2), 1, None, UNKNOWN)),
        (["0 :invoke :cas [1 2]", "0 :fail :cas :timed-out"], Step(0, ("cas", 1, 2), 1, None, UNKNOWN)),
        (["0 :invoke :write 3", "0 :info :write :timed-out"], Step(0, ("write", 3), 1, None, UNKNOWN)),
        (["0 :invoke :write 3", "0 :fail :write :timed-out"], Step(0, ("write", 3), 1, None, UNKNOWN)),
        (["0 :invoke :write 3"], Step(0, ("write", 3), 1, None, UNKNOWN)),
        (["0 :invoke :read nil", "0 :fail :read :timed-out"], Step(0, ("read",), 1, None, UNKNOWN)),
    ],
)
def test_meaning_of_log_lines(lines: list[str], expected: Step) -> None:
    assert from_log(*lines) == [expected]


def test_a_write_that_failed_did_not_happen() -> None:
    steps = from_log("0 :invoke :write 3", "0 :fail :write 3", "0 :invoke :read nil", "0 :ok :read nil")
    assert steps == [Step(0, ("read",), 3, 4, None)]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["0 :invoke :read"], "line 1: not of the form"),
        (["0 :invoke :read nil", "gibberish"], "line 2: not of the form"),
        (["0 :invoke :write [1"], "line 1: the value does not end"),
        (["0 :invoke :write 1]"], "line 1: unexpected '\\]' after the value"),
        (["0 :invoke :write 1x"], "line 1: cannot read '1x'"),
        (["0 :invoke :erase nil"], "line 1: :erase is none of :append, :cas"),
        (["0 :invoke :append 1"], "line 1: a register has no operation 'append'"),
        (["0 :invoke :cas 3"], r"line 1: :cas has a value \[from to\]"),
        (["0 :invoke :write [{1 2}]"], "line 1: :write contains a map"),
        (["0 :invoke :read nil", "0 :ok :read {1 2}"], "line 2: :read returned a map"),
        (["0 :invoke :cas [1 2 3]"], "line 1: cas takes 2 values, not 3"),
        (["0 :invoke :read nil", "0 :okay :read 1"], "line 2: :okay is none of :invoke, :ok, :fail, :info"),
        (["0 :ok :read 1"], "line 1: process 0 ends a call that it did not begin"),
        (["0 :invoke :read nil", "0 :invoke :read nil"], "line 2: process 0 calls while its call of line 1 has not returned"),
        (["0 :invoke :read nil", "0 :ok :write 1"], "line 2: process 0 ends another operation than it began in line 1"),
        (["0 :invoke :write 2", "0 :ok :write 1"], "line 2: process 0 ends another operation"),
        ([":nemesis :info :start nil"], "no operation was found"),
    ],
)
def test_errors_in_logs_are_named(lines: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_log(*lines)


def test_meaning_of_edn_lines() -> None:
    steps = from_edn(
        ':process 0, :type :invoke, :f :put, :key "k", :value "v"',
        ':process 0, :type :ok, :f :put, :key "k", :value "v"',
        ':type :invoke, :process 1, :f :get, :key "k", :value nil, :index 7',
        ':type :ok, :process 1, :f :get, :key "k", :value "\\u00fc"',
        ':process 1, :type :invoke, :f :compare_and_set, :key "k", :value ["v" "w"]',
        ':process 1, :type :fail, :f :compare_and_set, :key "k", :value ["v" "w"], :error :no-leader',
    )
    assert steps == [Step(0, ("put", b"k", b"v"), 1, 2, UNKNOWN), Step(1, ("get", b"k"), 3, 4, "ü".encode())]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (":process 0, :type :invoke, :f :get, :key", "line 1: a map has a key without a value"),
        (':process 0, :type "invoke", :f :get, :key "k", :value nil', "line 1: an operation needs a number as :process"),
        (":process 0, :type :invoke, :f :get, :key 7, :value nil", "line 1: KeyValueStore.get: key"),
        (":process 0, :type :invoke, :f :get, :value nil", "line 1: KeyValueStore.get"),
        (':process 0, :type :invoke, :f :put, :key "k", :value nil', "line 1: KeyValueStore.put: value"),
        (':process 0, :type :invoke, :f :read, :key "k", :value nil', "line 1: KeyValueStore has no operation 'read'"),
        (':process 0, :type :invoke, :f :get, :key "k, :value nil', "line 1: cannot read"),
        (':process 0 :value "\\q"', "line 1: "),
    ],
)
def test_errors_in_edn_lines_are_named(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_edn(line)


def test_edn_lines_that_are_not_maps() -> None:
    with pytest.raises(ValueError, match="line 2: expected a map"):
        steps_of(events_of_edn(["", "[1 2]"]), model_of_texts())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("true", True),
        ("-7", -7),
        ("7N", 7),
        ("1.5M", 1.5),
        (":a/b", Keyword("a/b")),
        ('"a\\n\\"b"', 'a\n"b'),
        ("[1, (2 3)]", (1, (2, 3))),
        ("#{1}", frozenset({1})),
        ("{:a {1 2}}", {Keyword("a"): {1: 2}}),
    ],
)
def test_edn_values(text: str, value: Any) -> None:
    assert parsed(text) == value


@pytest.mark.parametrize("text", ["", "[" * 100_000, ")", "{1}", '"', "#", "#inst 5", "[1 2", "#{{1 2}}", "{{1 2} 3}"])
def test_invalid_edn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parsed(text)
