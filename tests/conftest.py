"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("stretto", deadline=None, print_blob=True)
settings.load_profile("stretto")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-transcripts", action="store_true", help="write the transcripts of tests/scenarios, do not compare them")
