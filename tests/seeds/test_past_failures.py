"""Runs that once found a violation are replayed.

A file is one run, as `stretto fuzz --corpus` writes it: `comment`, what it found, and `spec`, its specification. A seed may later draw
another run; a specification always gives the same one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stretto.cli.simulate import simulation_of
from stretto.fuzzing.corpus import Entry, load


@pytest.mark.parametrize("failure", load(Path(__file__).parent), ids=lambda failure: failure.comment)
def test_it_does_not_fail_again(failure: Entry) -> None:
    violation = simulation_of(failure.spec).run().violation
    assert violation is None, violation
