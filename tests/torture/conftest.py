"""A name for what a test makes on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from stretto.runtime.namespaces import NoNetwork
from stretto.torture.namespaces import Network


@pytest.fixture
def network() -> Iterator[Network]:
    """Three hosts and their clients; the test is skipped where the machine does not allow them. (Where CI is root it has to.)"""
    made = Network(f"stretto-test-{os.getpid()}", 3)
    try:
        made.up()
    except NoNetwork as reason:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            raise
        pytest.skip(str(reason))
    yield made
    made.down()
