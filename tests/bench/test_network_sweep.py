"""A sweep of the network model gives the same rows in one process, in several, and on Dask."""

from __future__ import annotations

import pytest

from stretto.bench.network import sweep
from stretto.core.errors import StrettoError
from stretto.network.experiment import Setting

SETTINGS = [Setting("testbed", design, load=0.2, senders=2, receivers=3, messages=200) for design in ("plain", "serialised")]


def test_local_workers_and_dask_agree() -> None:
    distributed = pytest.importorskip("distributed")
    alone = [outcome for outcome, _ in sweep(SETTINGS, 1)]
    two = [outcome for outcome, _ in sweep(SETTINGS, 2)]
    where = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=1, processes=False, **where) as cluster:
        on_dask = [outcome for outcome, _ in sweep(SETTINGS, 1, cluster.scheduler_address)]
    assert repr(alone) == repr(two) == repr(on_dask)


def test_a_scheduler_that_is_not_there_is_said_so() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(StrettoError, match="no Dask scheduler answers"):
        list(sweep(SETTINGS, 1, "not-an-address"))
