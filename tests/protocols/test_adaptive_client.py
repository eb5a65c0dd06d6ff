"""When a call of Adaptive Speculative Paxos is done, whatever order the answers come in."""

from __future__ import annotations

from itertools import permutations
from typing import cast

import pytest

from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive import ADAPTIVE
from stretto.protocols.adaptive.messages import COMMITTED, CONFIRMED, SPECULATIVE, AdaptiveReply
from stretto.replication.messages import Request
from stretto.testing.stage import Stage

LEADERS, OTHER = (7, b"leader's"), (8, b"another")


def is_done(n: int, answers: list[tuple[int, int, tuple[int, bytes], int]]) -> bool:
    """Whether a call is done by answers, each of a replica: source, view, place, level."""
    stage = Stage(ADAPTIVE, n, NullMachine)
    client = stage.client()
    handle = stage.call(client, b"begin")
    stage.settle()
    del stage.results[handle]
    handle = stage.call(client, b"x")
    request = cast(Request, stage.waiting(Request)[0].message)
    for source, view, (position, summary), level in answers:
        client.on_message(source, AdaptiveReply(view, position, summary, request.session, request.number, b"", level, False))
    return handle in stage.results


ENDS = {
    "superquorum": (5, [(0, 0, LEADERS, SPECULATIVE), *((i, 0, LEADERS, SPECULATIVE) for i in (1, 2, 3))], True),
    "one fewer": (5, [(0, 0, LEADERS, SPECULATIVE), *((i, 0, LEADERS, SPECULATIVE) for i in (1, 2))], False),
    "without the leader": (5, [(i, 0, LEADERS, SPECULATIVE) for i in (1, 2, 3, 4)], False),
    "confirmed by f, and the leader": (5, [(0, 0, LEADERS, SPECULATIVE), (1, 0, LEADERS, CONFIRMED), (2, 0, LEADERS, CONFIRMED)], True),
    "confirmed by one fewer": (5, [(0, 0, LEADERS, SPECULATIVE), (1, 0, LEADERS, CONFIRMED), (2, 0, LEADERS, SPECULATIVE)], False),
    "confirmed by f+1 without the leader": (5, [(i, 0, LEADERS, CONFIRMED) for i in (1, 2, 3)], True),
    "confirmed by f without the leader": (5, [*((i, 0, LEADERS, CONFIRMED) for i in (1, 2)), (3, 0, LEADERS, SPECULATIVE)], False),
    "confirmed before the leader moved on": (3, [(1, 0, LEADERS, CONFIRMED), (2, 0, OTHER, SPECULATIVE)], False),
    "a speculative answer before its confirmed one": (
        3,
        [(0, 0, LEADERS, SPECULATIVE), (1, 0, OTHER, SPECULATIVE), (1, 0, LEADERS, CONFIRMED), (2, 0, OTHER, SPECULATIVE)],
        True,
    ),
    "another view's confirmed": (3, [(0, 0, LEADERS, SPECULATIVE), (2, 3, LEADERS, CONFIRMED)], False),
    "committed": (5, [(4, 0, OTHER, COMMITTED)], True),
}


@pytest.mark.parametrize("name", list(ENDS))
def test_the_end_is_the_same_in_every_order(name: str) -> None:
    n, answers, done = ENDS[name]
    assert {is_done(n, list(order)) for order in permutations(answers)} == {done}


def test_a_higher_view_begins_anew() -> None:
    """The leader of view 1 and one confirmed answer of view 0 are no quorum."""
    assert not is_done(3, [(2, 0, LEADERS, CONFIRMED), (0, 0, OTHER, SPECULATIVE), (1, 1, LEADERS, SPECULATIVE)])
    assert is_done(3, [(2, 0, LEADERS, CONFIRMED), (1, 1, LEADERS, SPECULATIVE), (2, 1, LEADERS, CONFIRMED)])
