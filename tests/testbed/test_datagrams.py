from __future__ import annotations

import numpy as np

from stretto.network.measures import sequence
from stretto.network.model.queues import NEVER
from stretto.testbed.datagrams import Arrivals, numbered, prefix

RUN, GROUP = b"12345678", "239.83.0.1"


def arrivals() -> Arrivals:
    return Arrivals(RUN, GROUP, np.array([0, 1, 0, 1]))


def message(number: int, *, run: bytes = RUN, group: str = GROUP, sender: int | None = None) -> bytes:
    return numbered(prefix(run, group, number % 2 if sender is None else sender), number, 60)


def test_arrival_times_keep_the_order_of_the_socket_even_with_equal_timestamps() -> None:
    mine = arrivals()
    assert len(message(0)) == 60
    for number, stamp_ns in ((2, 1_000), (0, 1_000), (3, 900)):  # a clock may also step back
        mine.take(message(number), stamp_ns)
    assert len(mine) == 3
    times = mine.times_ps(500)
    assert times.tolist() == [500_001, NEVER, 500_000, 500_002]
    assert sequence(np.array([0, 1, 2, 3]), times).tolist() == [1, 0, 2]


def test_nothing_arrived() -> None:
    assert arrivals().times_ps(0).tolist() == [NEVER] * 4


def test_everything_else_is_ignored_with_its_reason() -> None:
    mine = arrivals()
    mine.take(message(1), 5)
    for datagram in (
        b"",
        b"hello",
        b"x" * 60,
        message(1)[:20],
        message(2, run=b"87654321"),
        message(2, group="239.83.0.2"),
        message(2, sender=1),
        message(4),
        message(1),
    ):
        mine.take(datagram, 9)
    assert mine.ignored == {
        "not a message of a measurement": 4,
        "of another run": 1,
        "of another group": 1,
        "a message that was not sent": 2,
        "a second copy": 1,
    }
    assert mine.times_ps(0).tolist() == [NEVER, 5_000, NEVER, NEVER]
