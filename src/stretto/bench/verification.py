"""The speed of the linearizability checker on generated histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from time import perf_counter

import msgspec

from stretto.apps import kv_workload
from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_model import model
from stretto.services.service import ServiceMachine
from stretto.verify.generate import concurrent_history
from stretto.verify.linearizability import check


class Case(msgspec.Struct, frozen=True):
    """A history to check. Each has 50 callers, `keys` keys and as many counters.

    `scans`: whether there are scans among the operations. `unanswered`: the share of calls without a return. `lose_at`: after so many
    operations the service loses its latest changes, so that the history is not linearizable.
    """

    name: str
    operations: int
    keys: int
    scans: bool = False
    unanswered: float = 0.0
    lose_at: int | None = None


class Timing(msgspec.Struct, frozen=True):
    """The verdict on a case, and the time from the recorded bytes to the verdict."""

    case: str
    operations: int
    keys: int
    verdict: str
    seconds: float


CASES = (
    Case("500 operations", 500, 1_000),
    Case("100,000 operations", 100_000, 1_000),
    Case("the same, 2% of them scans", 100_000, 1_000, scans=True),
    Case("the same, and 1% unanswered", 100_000, 1_000, scans=True, unanswered=0.01),
    Case("the same, and writes lost", 100_000, 1_000, scans=True, unanswered=0.01, lose_at=50_000),
)
_CLIENTS = 50


def timings(seed: int) -> Iterator[Timing]:
    """Check every case and measure how long that takes."""
    for case in CASES:
        machine = ServiceMachine(KeyValueStore)
        history = concurrent_history(machine, _workload(case), Random(seed), case.operations, _CLIENTS, case.unanswered, case.lose_at)
        began = perf_counter()
        verdict = check(history, model()).verdict
        yield Timing(case.name, case.operations, case.keys, verdict, round(perf_counter() - began, 3))


def _workload(case: Case) -> Callable[[Random], bytes]:
    def draw(random: Random) -> bytes:
        while True:
            operation = kv_workload.workload(random, case.keys)
            if case.scans or b"scan" not in operation[:6]:
                return operation

    return draw
