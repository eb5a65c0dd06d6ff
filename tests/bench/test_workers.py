"""Work that is spread over processes or a cluster gives what it gives in one process, and errors come back."""

from __future__ import annotations

import pytest

from stretto.bench.workers import work_off, work_off_in_any_order
from stretto.core.errors import StrettoError


def squared(number: int) -> int:
    if number < 0:
        raise StrettoError(f"{number} is negative")
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_or_with_their_positions(workers: int) -> None:
    assert list(work_off(squared, range(20), workers)) == [number * number for number in range(20)]
    assert sorted(work_off_in_any_order(squared, range(20), workers)) == [(number, number * number) for number in range(20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_raised(workers: int) -> None:
    with pytest.raises(StrettoError, match="-1 is negative"):
        list(work_off(squared, [1, -1], workers))


def test_a_cluster_gives_the_same() -> None:
    distributed = pytest.importorskip("distributed")
    where = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=1, processes=False, **where) as cluster:
        address = cluster.scheduler_address
        assert sorted(work_off_in_any_order(abs, [3, -2, 1], 1, address)) == [(0, 3), (1, 2), (2, 1)]
