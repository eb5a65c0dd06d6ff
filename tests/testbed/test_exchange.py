"""Multicasts over a small testbed: their order, losses and times at the receivers."""

from __future__ import annotations

import numpy as np
import pytest

from stretto.network.designs import Design
from stretto.network.groups import Group
from stretto.network.measures import of_group
from stretto.network.model.queues import NEVER
from stretto.testbed import exchange as exchanges
from stretto.testbed import record
from stretto.testbed.commands import ControllerClient
from stretto.testbed.exchange import evenly, exchange
from stretto.testbed.fabric import Fabric
from stretto.testbed.sending import open_socket
from stretto.testbed.session import install

pytestmark = pytest.mark.xdist_group("testbed")

GROUP = Group("239.83.0.1", ("leaf0h0", "leaf1h0"), ("leaf0h1", "leaf1h1"))
MS = 1_000_000_000
"""In picoseconds."""


@pytest.fixture
def controller(testbed: Fabric) -> ControllerClient:
    return ControllerClient(testbed.plan.controller_socket)


def test_all_messages_arrive_in_one_order_and_other_datagrams_are_ignored(testbed: Fabric, controller: ControllerClient) -> None:
    install(controller, Design("serialised"), GROUP)
    messages = evenly(GROUP, 200, 1_000)
    progress: list[int] = []
    with exchange(testbed.plan, GROUP, messages) as exchanging, open_socket(testbed.plan, "leaf0h1") as foreign:
        foreign.sendto(b"hello", (GROUP.address, exchanges.PORT))
        exchanged = exchanging.finish(progress.append)
    assert progress[-1] == 400
    assert (exchanged.sent_ps >= messages.time_ps).all()
    assert set(exchanged.at) == set(GROUP.members)
    for came in exchanged.at.values():
        assert NEVER not in came
        assert (came > exchanged.sent_ps).all()
    assert of_group([exchanged.at[member] for member in GROUP.members]).overtaken == 0
    assert exchanged.ignored == {"not a message of a measurement": 2}


def test_missing_messages_count_as_lost_after_a_short_wait(testbed: Fabric, controller: ControllerClient) -> None:
    install(controller, Design("serialised"), GROUP)
    controller.set_groups((Group(GROUP.address, ("leaf1h0",), GROUP.senders),))
    with exchange(testbed.plan, GROUP, evenly(GROUP, 20, 1_000)) as exchanging:
        exchanged = exchanging.finish()
    assert (exchanged.at["leaf0h0"] == NEVER).all()
    assert NEVER not in exchanged.at["leaf1h0"]


def test_an_exchange_continues_while_the_caller_does_other_work(testbed: Fabric, controller: ControllerClient) -> None:
    install(controller, Design("serialised"), GROUP)
    with exchange(testbed.plan, GROUP, evenly(GROUP, 400, 500)) as exchanging:
        exchanging.run(exchanging.start_ns + 100_000_000)
        assert 0 < exchanging.received() < 800
        exchanged = exchanging.finish()
    assert np.diff(exchanged.sent_ps).min() > 0


def test_wrong_tables_of_switches_are_reported(testbed: Fabric, controller: ControllerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    install(controller, Design("serialised"), GROUP)
    found = controller.verify()
    assert found.good
    wrong = type(found)(4, 1, 1, 1, ("spine0",), (), ())
    monkeypatch.setattr(ControllerClient, "verify", lambda self: wrong)
    with pytest.raises(record.TestbedFailure, match="spine0 cannot be reached"):
        install(controller, Design("serialised"), GROUP)
