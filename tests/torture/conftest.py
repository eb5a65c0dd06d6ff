"""A name for what a test makes on the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stretto.torture.namespaces import Network, NoNetwork


@pytest.fixture
def network() -> Iterator[Network]:
    """Three hosts and their clients; the test is skipped where the machine does not allow them."""
    made = Network("stretto-test-torture", 3)
    made.down()  # of a test that was killed
    try:
        made.up()
    except NoNetwork as reason:
        pytest.skip(str(reason))
    yield made
    made.down()
