"""Generated histories are deterministic, sequential per caller, and partly unanswered."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from stretto.apps.kv import KeyValueStore
from stretto.apps.kv_workload import workload
from stretto.services.service import ServiceMachine
from stretto.verify.generate import concurrent_history
from stretto.verify.history import Operation


def history(seed: int, unanswered: float = 0.0) -> list[Operation]:
    """500 operations by 10 callers."""
    return concurrent_history(ServiceMachine(KeyValueStore), workload, Random(seed), 500, 10, unanswered)


def test_the_same_seed_gives_the_same_history() -> None:
    assert history(1, 0.1) == history(1, 0.1)
    assert history(1, 0.1) != history(2, 0.1)


def test_each_caller_makes_one_call_after_the_other() -> None:
    operations = history(3)
    assert len(operations) == 500
    assert {operation.process for operation in operations} == set(range(10))
    for process in range(10):
        own = [operation for operation in operations if operation.process == process]
        for before, after in pairwise(own):
            assert before.returned_ns is not None
            assert before.called_ns < before.returned_ns <= after.called_ns


def test_some_calls_get_no_answer() -> None:
    unanswered = [operation for operation in history(4, 0.1) if operation.returned_ns is None]
    assert 20 < len(unanswered) < 90
    assert all(operation.result is None and operation.error == "RequestTimeout" for operation in unanswered)
