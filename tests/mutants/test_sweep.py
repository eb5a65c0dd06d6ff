"""Generated mutants: which are made, that each fits, and that a sweep tells those that a test finds from those that none finds."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from stretto.cli.main import run
from stretto.mutants.generated import changes, changes_in
from stretto.mutants.settled import SETTLED

SOURCE = '''
class Counter:
    def __init__(self):
        self.count = 0

    def metrics(self):
        return self.count + 1

    def add(self, one, two=0):
        """Nothing here is changed: a < b."""
        assert one >= 0
        if one < two and self.count:
            return self.group.ignore("too small")
        self.port.report("added", count=one + 1)
        self.count = max(one, two + 1)
        self.tell()
        return two if one == two else self.tell()
'''


def test_the_changes_of_a_module() -> None:
    assert {(change.line, change.old, change.new) for change in changes_in("m", SOURCE)} == {
        (12, "one < two and self.count", "not (one < two and self.count)"),
        (12, "one < two and self.count", "one < two or self.count"),
        (12, "one < two and self.count", "one < two"),
        (12, "one < two and self.count", "self.count"),
        (12, "one < two", "one <= two"),
        (13, 'return self.group.ignore("too small")', "self.group.ignore('too small')"),
        (15, "self.count = max(one, two + 1)", "pass"),
        (15, "max(one, two + 1)", "min(one, two + 1)"),
        (15, "two + 1", "two"),
        (16, "self.tell()", "pass"),
        (17, "two if one == two else self.tell()", "two if not one == two else self.tell()"),
        (17, "one == two", "one != two"),
    }


def test_every_change_has_a_name_of_its_own_and_fits() -> None:
    made = changes()
    assert len(made) > 2_000
    assert len({change.key for change in made}) == len(made)
    sources = {change.file: change.file.read_bytes() for change in made}
    assert all(sources[change.file][change.start : change.end].decode() == change.old for change in made)
    for change in Random(0).sample(made, 100):
        former, changed = change.original_code(), change.code()
        assert former.co_qualname == changed.co_qualname == change.function
        assert former != changed


def test_what_is_settled_still_fits() -> None:
    made = {change.key for change in changes()}
    assert [one for one in SETTLED if one.key not in made] == []
    assert len({one.key for one in SETTLED}) == len(SETTLED)
    assert all(one.why.endswith(".") for one in SETTLED)


ENTIRE_TEST = """
from stretto.replication.quorums import reached_by

def test_the_second_highest():
    assert reached_by(2, [5, 3, 9]) == 5
"""


def directory_with(directory: Path, content: str) -> Path:
    for name in ("scenarios", "replication", "protocols"):
        (directory / "tests" / name).mkdir(parents=True)
    (directory / "tests" / "replication" / "test_it.py").write_text(content)
    return directory / "tests"


def test_a_sweep(tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    tests, record = directory_with(tmp_path, ENTIRE_TEST), tmp_path / "record.jsonl"
    words = ["-m", "stretto", "mutants", "--sweep", "--package", "replication", "--tests", str(tests), "--record", str(record), "--json"]
    process = start_python(*words, "--seconds", "600")
    out, errors = process.communicate()
    assert process.returncode == 1, errors
    report = json.loads(out)
    assert report["made"] == report["settled"] + report["tried"] + report["left"]
    assert (report["left"], report["tried"] - report["killed"]) == (0, len(report["survivors"]))
    killed = {
        (verdict["function"], verdict["killed"]) for line in record.read_text().splitlines() if (verdict := json.loads(line))["tests"]
    }
    assert killed == {("reached_by", True), ("reached_by", False)}
    # What is in the record is not tried again.
    before = record.read_bytes()
    out, _ = start_python(*words).communicate()
    again = json.loads(out)
    assert (again["tried"], again["killed"]) == (report["tried"], report["killed"])
    assert record.read_bytes() == before


@pytest.mark.parametrize("content", ["def test_it():\n    assert False\n", "("])
def test_tests_that_fail_by_themselves(content: str, tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    process = start_python("-m", "stretto", "mutants", "--sweep", "--tests", str(directory_with(tmp_path, content)))
    out, errors = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert "test_it.py" in errors
    assert "fails without any mutant" in errors
    assert "Traceback" not in errors


def test_a_sweep_without_tests_or_with_another_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mutants", "--sweep", "--tests", str(tmp_path)]) == 2
    assert "needs the tests of a source tree" in capsys.readouterr().err
    (tmp_path / "record").write_text("{}\n")
    assert run(["mutants", "--sweep", "--record", str(tmp_path / "record")]) == 2
    assert "is not the record of a sweep" in capsys.readouterr().err


def test_ctrl_c_ends_a_sweep_with_what_there_is(tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]) -> None:
    slow = ENTIRE_TEST + "    import time; time.sleep(2)\n"
    tests, record = directory_with(tmp_path, slow), tmp_path / "record.jsonl"
    process = start_python("-m", "stretto", "mutants", "--sweep", "--tests", str(tests), "--record", str(record), "--json")
    deadline = monotonic() + 60
    while not record.exists() and monotonic() < deadline:
        sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert process.returncode in (1, 130)
    report = json.loads(out)
    assert report["left"] > 0
    assert "interrupted" in errors
    assert "Traceback" not in errors
