"""Every run that once found a violation, replayed for ever.

`failures.json` is a list of objects: `comment`, what it found; and `spec`, what ran, as `stretto simulate --json` prints it. Drawing
from a seed may change over time; a specification does not.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stretto.cli.simulate import simulation_of
from stretto.simulation.spec import SimulationSpec


class PastFailure(msgspec.Struct, forbid_unknown_fields=True):
    comment: str
    spec: SimulationSpec


FAILURES = msgspec.json.decode((Path(__file__).parent / "failures.json").read_bytes(), type=list[PastFailure])


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.comment)
def test_it_does_not_fail_again(failure: PastFailure) -> None:
    violation = simulation_of(failure.spec).run().violation
    assert violation is None, violation
