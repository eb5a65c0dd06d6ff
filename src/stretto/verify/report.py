"""What `stretto verify` reports: verdicts, and why a history is not linearizable."""

from __future__ import annotations

from typing import Any

import msgspec

from stretto.core.model import Model
from stretto.verify.linearizability import Failure, Verdict

_INVOLVED = 24
"""How many operations around the failing one are reported."""


class Call(msgspec.Struct, frozen=True):
    """One operation of a failure. Times are nanoseconds, or lines of a text."""

    process: Any
    operation: str
    called: int
    returned: int | None
    place: int | None
    """Its position in the longest order that the model allows; None if it is not in it."""


class Explanation(msgspec.Struct, frozen=True):
    """Why a history is not linearizable; see `stretto.verify.linearizability.Failure`."""

    keys: list[str]
    failing: Call
    prefix: int
    is_shortest: bool
    involved: list[Call]


class Report(msgspec.Struct, frozen=True):
    """What was found about one history. `undecided`: the keys for which the budget was used up."""

    file: str
    verdict: str
    operations: int
    seconds: float
    configurations: int
    failure: Explanation | None
    undecided: list[str]


def report_of(file: str, verdict: Verdict, seconds: float, model: Model) -> Report:
    """The report on a history: `file` is where it is from, `seconds` how long the search took."""
    undecided = [model.describe_state(key) for key in verdict.undecided]
    explanation = None if verdict.failure is None else _explanation(verdict.failure, model)
    return Report(file, verdict.verdict, verdict.operations, seconds, verdict.configurations, explanation, undecided)


def _explanation(failure: Failure, model: Model) -> Explanation:
    places = {index: place for place, (index, _) in enumerate(failure.order, 1)}

    def call(index: int) -> Call:
        step = failure.steps[index]
        return Call(step.process, model.describe(step.operation, step.result), step.called, step.returned, places.get(index))

    keys = [model.describe_state(key) for key in failure.keys]
    return Explanation(keys, call(failure.last), failure.prefix, failure.is_shortest, [call(index) for index in failure.near(_INVOLVED)])
