"""Bounds as text."""

from __future__ import annotations

import pytest

from stretto.core.errors import ConfigurationError
from stretto.exploration.bounds import Bounds, parse_bounds


def test_bounds_that_are_not_named_have_their_defaults() -> None:
    assert parse_bounds("") == Bounds()
    assert parse_bounds(" views=2 , timers=0,") == Bounds(views=2, timers=0)
    assert parse_bounds(str(Bounds(operations=3, crashes=1))) == Bounds(operations=3, crashes=1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("view=2", "bounds: 'view' is not a bound; did you mean views? There are replicas, clients, "),
        ("losses=1", "bounds: 'losses' is not a bound; there are replicas, clients, "),
        ("views", "bounds: 'views' is not of the form views=NUMBER"),
        ("views=-1", "bounds: 'views=-1' is not of the form views=NUMBER"),
        ("views=1,views=2", "bounds: views is given twice"),
        ("replicas=4", "bounds.replicas: 4 is even; an odd number of replicas is needed"),
        ("clients=0", "bounds.clients: 0 is too small; 1 or more"),
        ("operations=27", "bounds.operations: 27 is too large; at most 26"),
    ],
)
def test_wrong_bounds_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_bounds(text)
    assert str(refused.value).startswith(reason)
