"""Which answers complete a call of Adaptive Speculative Paxos, in any order of arrival."""

from __future__ import annotations

from itertools import permutations
from typing import cast

import pytest

from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive import ADAPTIVE
from stretto.protocols.adaptive.messages import COMMITTED, MATCHED, SPECULATIVE, AdaptiveReply
from stretto.replication.messages import Request
from stretto.testing.stage import Stage

LEADERS, OTHER = (7, b"leader's"), (8, b"another")


def is_done(n: int, answers: list[tuple[int, int, tuple[int, bytes], int]]) -> bool:
    """Whether these answers complete a call. Each has a source, a view, a position with a hash, and a level."""
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
    "matched by f, and the leader": (5, [(0, 0, LEADERS, SPECULATIVE), (1, 0, LEADERS, MATCHED), (2, 0, LEADERS, MATCHED)], True),
    "matched by one fewer": (5, [(0, 0, LEADERS, SPECULATIVE), (1, 0, LEADERS, MATCHED), (2, 0, LEADERS, SPECULATIVE)], False),
    "matched by f+1 without the leader": (5, [(i, 0, LEADERS, MATCHED) for i in (1, 2, 3)], True),
    "matched by f without the leader": (5, [*((i, 0, LEADERS, MATCHED) for i in (1, 2)), (3, 0, LEADERS, SPECULATIVE)], False),
    "matched before the leader moved on": (3, [(1, 0, LEADERS, MATCHED), (2, 0, OTHER, SPECULATIVE)], False),
    "a speculative answer before its matched one": (
        3,
        [(0, 0, LEADERS, SPECULATIVE), (1, 0, OTHER, SPECULATIVE), (1, 0, LEADERS, MATCHED), (2, 0, OTHER, SPECULATIVE)],
        True,
    ),
    "another view's matched": (3, [(0, 0, LEADERS, SPECULATIVE), (2, 3, LEADERS, MATCHED)], False),
    "committed": (5, [(4, 0, OTHER, COMMITTED)], True),
}


@pytest.mark.parametrize("name", list(ENDS))
def test_the_end_is_the_same_in_every_order(name: str) -> None:
    n, answers, done = ENDS[name]
    assert {is_done(n, list(order)) for order in permutations(answers)} == {done}


def test_a_higher_view_starts_a_new_tally() -> None:
    """The answer of view 1's leader and a matched answer of view 0 are no quorum."""
    assert not is_done(3, [(2, 0, LEADERS, MATCHED), (0, 0, OTHER, SPECULATIVE), (1, 1, LEADERS, SPECULATIVE)])
    assert is_done(3, [(2, 0, LEADERS, MATCHED), (1, 1, LEADERS, SPECULATIVE), (2, 1, LEADERS, MATCHED)])
