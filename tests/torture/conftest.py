"""A network of namespaces for a test, with a name of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from stretto.runtime.namespaces import NoNetwork
from stretto.torture.namespaces import Network


@pytest.fixture
def network() -> Iterator[Network]:
    """Three replica hosts and a client host. The test is skipped if the machine does not allow them, except on CI with root."""
    made = Network(f"stretto-test-{os.getpid()}", 3)
    try:
        made.up()
    except NoNetwork as reason:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            raise
        pytest.skip(str(reason))
    yield made
    made.down()
