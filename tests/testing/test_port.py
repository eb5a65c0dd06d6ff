"""A node without a world: what it asks of its port is recorded."""

from __future__ import annotations

import pytest

from stretto.core.config import ClusterConfig, Member
from stretto.core.protocol import BOOTSTRAP, Start
from stretto.core.state_machine import NullMachine
from stretto.protocols.unreplicated.replica import Server
from stretto.replication.client import LeaderClient
from stretto.replication.messages import OPEN_SESSION, Bootstrap, Reply, Request, StartView
from stretto.replication.records import Committed, Known
from stretto.testing import RecordingPort

CLIENT = 1 << 20
CONFIG = ClusterConfig((Member("127.0.0.1", 7000),), protocol="unreplicated")


def test_what_a_server_sends_and_persists_is_recorded() -> None:
    port = RecordingPort(replicas=1, durable=True)
    server = Server(port, CONFIG, 0, NullMachine(), BOOTSTRAP)
    started = list(port.records)
    assert [type(record) for record in started] == [Known, Bootstrap, StartView]
    opening = Request(CLIENT, OPEN_SESSION, 7, 0, 0, b"")
    server.on_message(CLIENT, opening)
    [(destination, reply)] = port.take_sent()
    assert (destination, type(reply)) == (CLIENT, Reply)
    assert port.records == [*started, opening, Committed(1, 1)]
    assert port.take_sent() == []
    port.compact([opening])
    assert port.records == [opening]


def test_a_server_that_lost_its_state_stops() -> None:
    port = RecordingPort(replicas=1)
    Server(port, CONFIG, 0, NullMachine(), Start())
    assert port.stopped is not None


def test_what_a_client_sends_and_its_timer_are_recorded() -> None:
    port = RecordingPort(CLIENT, replicas=1)
    port.advance(5)
    client = LeaderClient(port, CONFIG)
    client.call(b"x", 0, lambda outcome: None)
    [(destination, message)] = port.take_sent()
    assert (destination, type(message)) == (0, Request)
    assert port.timers == {"tick": 5 + 5_000_000}
    port.cancel_timer("tick")
    assert port.timers == {}


def test_a_multicast_is_a_copy_for_each_replica() -> None:
    port = RecordingPort(1, replicas=3)
    port.multicast(Committed(1))
    assert [destination for destination, _ in port.sent] == [0, 1, 2]
    port.report("view entered", view=1)
    assert port.reports == [("view entered", {"view": 1})]


def test_time_moves_only_forward() -> None:
    with pytest.raises(ValueError, match="moves only forward, not by -1 ns"):
        RecordingPort().advance(-1)
