"""A sweep: each generated mutant is tried against the fast tests that cover its place.

All tests run once, and coverage says which of them run which line. Then, for each mutant, a fork of this process gives the function its
changed code and runs the tests that cover the place, the shortest first, until one fails. So a mutant costs no start of an interpreter.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, process_time
from types import CodeType, FunctionType
from typing import Any

import coverage
import msgspec
import pytest

from stretto.core.errors import ConfigurationError, StrettoError
from stretto.mutants.generated import PACKAGE, Change

TESTS = ("scenarios", "replication", "protocols")
"""The directories of the fast tests."""

_MOST_BYTES = 4 << 30
_CPU_SECONDS = 10
"""How much longer than without the mutant the tests may take, in processor time: a mutant may have made one of them endless."""
_WALL_SECONDS = 300


class Trial(msgspec.Struct, frozen=True):
    """How a mutant ended. `killed`: whether a test failed, or came to no end; `tests`: how many tests cover the place."""

    killed: bool
    tests: int


class Sweep:
    """A plugin of pytest which runs the tests on the mutants, instead of once.

    Parameters: `wanted`, the mutants in the order in which they are to be tried; `deadline`, in monotonic seconds, after which none is
    begun; `on_trial(change, trial)` is called after each.
    """

    def __init__(self, wanted: Sequence[Change], deadline: float, on_trial: Callable[[Change, Trial], None]) -> None:
        self.failed: list[str] = []
        self._wanted = wanted
        self._deadline = deadline
        self._on_trial = on_trial
        self._costs: dict[str, float] = {}
        self._covering: dict[str, dict[int, list[str]]] = {}

    def run(self, tests: Path) -> None:
        """Try the mutants until the deadline. Raises ConfigurationError without tests, StrettoError if one of them fails by itself."""
        if not all((tests / name).is_dir() for name in TESTS):
            raise ConfigurationError(f"has no {', '.join(TESTS)}: a sweep needs the tests of a source tree", file=tests)
        directories = [str(tests / name) for name in TESTS]
        with tempfile.TemporaryDirectory(prefix="stretto-sweep-") as kept:
            os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = kept  # examples that fail with a mutant say nothing without it
            options = [
                "-o",
                "addopts=",
                "-p",
                "no:terminal",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "--capture=no",
                f"--rootdir={tests.parent}",
            ]
            status = pytest.main([*options, *directories], plugins=[self])
        if self.failed:
            raise StrettoError(f"{self.failed[0]} fails without any mutant, as do {len(self.failed) - 1} others")
        if status == pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if status != pytest.ExitCode.OK:
            raise StrettoError(f"the tests in {tests} cannot be run: pytest ended with {status}; run it there to see why")

    # What pytest calls

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a test that has failed."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file whose tests cannot be read."""
        if report.failed:
            self.failed.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        """Run all tests once, then those that matter for each mutant."""
        items = {item.nodeid: item for item in session.items}
        if not self.failed:
            self._run_all(list(items.values()))
        functions = {_place(function.__code__): function for function in gc.get_objects() if type(function) is FunctionType}
        for change in self._wanted:
            if self.failed or monotonic() >= self._deadline:
                break
            covering = self._covering.get(str(change.file), {})
            names = {name for line in range(change.line, change.last_line + 1) for name in covering.get(line, ())}
            chosen = sorted(names, key=lambda name: (self._costs[name], name))
            killed = bool(chosen) and self._is_killed(functions[_place(change.original_code())], change, [items[name] for name in chosen])
            self._on_trial(change, Trial(killed, len(chosen)))
        return True

    # Tests

    def _run_all(self, items: list[Any]) -> None:
        """Run all tests once; note how long each takes, and which lines it runs."""
        measured = coverage.Coverage(data_file=None, config_file=False, include=[f"{PACKAGE}/*"], messages=False)
        measured.start()
        for item, following in zip(items, [*items[1:], None], strict=True):
            measured.switch_context(item.nodeid)
            began = process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self._costs[item.nodeid] = process_time() - began
        measured.stop()
        data = measured.get_data()
        self._covering = {
            file: {line: [name for name in names if name in self._costs] for line, names in data.contexts_by_lineno(file).items()}
            for file in data.measured_files()
        }

    def _is_killed(self, function: FunctionType, change: Change, items: list[Any]) -> bool:
        """Whether one of the tests fails on the mutant, in a process of its own, or comes to no end."""
        limit = 3 * sum(self._costs[item.nodeid] for item in items) + _CPU_SECONDS
        child = os.fork()
        if not child:
            status = 1
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.alarm(_WALL_SECONDS)
                resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
                resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
                silence = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silence, 1)
                os.dup2(silence, 2)
                function.__code__ = change.code()
                status = 0 if self._passes(items) else 1
            finally:
                os._exit(status)
        try:
            return os.waitpid(child, 0)[1] != 0
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise

    def _passes(self, items: list[Any]) -> bool:
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return False
        return True


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno
