"""The example protocol: one node alone, three on a stage, and a mistake that the explorer finds."""

from __future__ import annotations

from dataclasses import replace

from chain import CHAIN
from chain.messages import Append, Stored
from chain.replica import ChainReplica
from stretto.core.config import ClusterConfig, Member
from stretto.core.node import Address
from stretto.core.protocol import BOOTSTRAP, Start
from stretto.core.state_machine import NullMachine
from stretto.exploration.bounds import Bounds
from stretto.exploration.search import Search
from stretto.exploration.world import World
from stretto.replication.messages import OPEN_SESSION, Reply, Request
from stretto.testing import RecordingPort, Stage

CONFIG = ClusterConfig(tuple(Member("127.0.0.1", 7_000 + index) for index in range(3)), protocol="chain")
CLIENT = 1 << 20
REQUEST = Request(CLIENT, OPEN_SESSION, 7, 0, 0, b"")


def test_the_middle_passes_requests_down_and_what_is_stored_up() -> None:
    port = RecordingPort(1, durable=True)
    replica = ChainReplica(port, CONFIG, 1, NullMachine(), BOOTSTRAP)
    replica.on_message(0, Append(2, REQUEST))
    replica.on_message(2, Append(1, REQUEST))
    assert port.take_sent() == [], "an entry that is too early, and one of the wrong neighbour"
    replica.on_message(0, Append(1, REQUEST))
    assert port.take_sent() == [(2, Append(1, REQUEST))]
    assert list(port.timers) == ["resend"]
    replica.on_timer("resend")
    assert port.take_sent() == [(2, Append(1, REQUEST))]
    replica.on_message(2, Stored(1))
    replica.on_message(0, Append(1, REQUEST))
    assert port.take_sent() == [(0, Stored(1)), (0, Stored(1))]
    again = ChainReplica(RecordingPort(1, durable=True), CONFIG, 1, NullMachine(), Start(records=port.records))
    assert again.snapshot() == replica.snapshot()


def test_a_replica_without_its_records_stops() -> None:
    port = RecordingPort(1)
    ChainReplica(port, CONFIG, 1, NullMachine(), Start())
    assert port.stopped == "a replica that has lost what was on its disk cannot take part again"


def test_the_tail_answers_and_lost_messages_are_sent_again() -> None:
    stage = Stage(CHAIN, 3, NullMachine, durable=True)
    handle = stage.call(stage.client(), b"x")
    stage.deliver(Request)
    stage.lose(Append)
    stage.fire(0, "resend")
    stage.deliver(Append)
    stage.deliver(Append)
    assert [flight.source for flight in stage.waiting(Reply)] == [2]
    stage.settle()
    assert stage.results[handle] == b""
    stage.crash(1)
    stage.restart(1)
    assert [replica.state.committed for replica in stage.replicas] == [2, 2, 2]


class TakesAnyEntry(ChainReplica):
    """Appends whatever comes, whether its predecessors are here or not."""

    def on_append(self, source: Address, message: Append) -> None:
        record = self.state.sessions.record_for(message.request)
        if record is None or message.request.number > record.number:
            self._append(message.request)


def test_the_explorer_finds_a_mistake() -> None:
    search = Search(World(replace(CHAIN, replica=TakesAnyEntry), Bounds(timers=0), durable=True))
    for _ in search.run():
        pass
    assert search.found is not None
