"""A machine with a disk: messages leave only after the records that they depend on are on the disk."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from stretto.core.node import Address, Message, Port
from stretto.simulation.disk import DiskTimes
from stretto.simulation.durable import DurableMachine
from stretto.simulation.network import Delay, DirectNetwork, Links
from stretto.simulation.world import Costs, Machine, World
from stretto.storage.format import FRAME_BYTES, HEADER_BYTES, Identity
from stretto.storage.store import Store

SYNC_NS = 5_000
LINK_NS = 1_000
TIMES = DiskTimes(Delay("constant", SYNC_NS), Delay("constant", 20_000))


class Item(Message, frozen=True, array_like=True, tag=1, gc=False):
    number: int


class Keeper:
    """Persists each number that it gets and sends it back; it compacts when the number is a multiple of ten, and only reads odd ones."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def metrics(self) -> dict[str, Any]:
        return {}

    def on_message(self, source: Address, message: Item) -> None:
        if message.number % 2 == 0:
            self.port.persist(message)
        self.port.send(source, message)
        if message.number % 10 == 0:
            self.port.compact([message])

    def on_timer(self, name: str) -> None:
        pass


class Asker:
    """Records the answers and their times."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.seen: list[tuple[int, int]] = []

    def on_message(self, source: Address, message: Item) -> None:
        self.seen.append((self.port.now_ns, message.number))

    def on_timer(self, name: str) -> None:
        pass


class Pair:
    """A keeper with a disk at address 0, an asker at 1, and 1 us between them."""

    def __init__(self, seed: int = 0) -> None:
        self.world = World(DirectNetwork(Links(Delay("constant", LINK_NS), Delay("constant", 0)), range(2), Random(0)), range(2))
        open_store = partial(Store, identity=Identity(bytes(8), 0, "keeper"), record_types=(Item,))
        self.keeper = DurableMachine(self.world, 0, Costs(), Random(seed), TIMES, open_store)
        self.asker = Machine(self.world, 1, Costs(), Random(1))
        for machine, node in ((self.keeper, Keeper), (self.asker, Asker)):
            self.world.add(machine).start(node)  # type: ignore[arg-type]
        self.reports: list[tuple[str, str]] = []
        self.looks: list[int] = []
        self.world.on_report = lambda _, event, details: self.reports.append((event, details["reason"]))
        self.world.watch_disk = lambda _: self.looks.append(self.world.now_ns)

    def ask(self, *numbers: int) -> None:
        for number in numbers:
            self.asker.submit(lambda n, _: self.asker.send(0, Item(n)), number)

    def wait(self, duration_ns: int) -> None:
        self.world.run(self.world.now_ns + duration_ns, 1_000)

    def recalled(self) -> list[int]:
        return [record.number for record in self.keeper.recall()]  # type: ignore[attr-defined]


def test_messages_leave_when_the_records_are_on_the_disk() -> None:
    pair = Pair()
    pair.ask(1)
    pair.wait(1_500)
    pair.ask(2)
    pair.wait(1_500)
    pair.ask(3)
    pair.wait(50_000)
    synced = 2_500 + SYNC_NS
    assert pair.asker.node.seen == [(2_000, 1), (synced + LINK_NS, 2), (synced + LINK_NS, 3)]
    assert pair.looks == [1_000, synced, synced]
    assert pair.keeper.served


def test_a_crash_before_the_sync_loses_the_bursts_messages() -> None:
    found = set()
    for seed in range(30):
        pair = Pair(seed)
        pair.ask(2)
        pair.wait(20_000)
        pair.ask(4)
        pair.wait(LINK_NS + SYNC_NS // 2)
        pair.keeper.crash()
        pair.wait(20_000)
        assert [number for _, number in pair.asker.node.seen] == [2]
        found.add(tuple(pair.recalled()))
    assert found == {(2,), (2, 4)}


def test_a_compaction_replaces_the_earlier_records_later() -> None:
    pair = Pair()
    for number in (2, 4, 10):
        pair.ask(number)
        pair.wait(2 * LINK_NS + 2 * SYNC_NS)
    assert pair.keeper.disk.names() == ["log-0000000001.seg", "log-0000000002.seg"]
    pair.wait(100_000)
    assert sorted(pair.keeper.disk.names()) == ["checkpoint-0000000002", "log-0000000002.seg"]
    pair.ask(12)
    pair.wait(20_000)
    pair.keeper.crash()
    assert pair.recalled() == [10, 12]


def test_a_crash_ends_a_compaction_in_progress() -> None:
    pair = Pair()
    pair.ask(2, 10)
    pair.wait(30_000)
    pair.keeper.crash()
    assert pair.recalled() == [2, 10]
    pair.keeper.start(Keeper)  # type: ignore[arg-type]
    names = pair.keeper.disk.names()
    pair.wait(100_000)
    assert pair.keeper.disk.names() == names


def test_a_disk_failure_crashes_the_machine() -> None:
    for name, reason in (("full", "no space left on device"), ("failing", "input/output error")):
        pair = Pair()
        setattr(pair.keeper.disk, name, True)
        pair.ask(1)
        pair.wait(20_000)
        assert not pair.keeper.crashed
        pair.ask(2)
        pair.wait(20_000)
        assert (pair.keeper.crashed, [number for _, number in pair.asker.node.seen]) == (True, [1])
        ((event, reported),) = pair.reports
        assert (event, reported.rpartition(": ")[2]) == ("disk failed", reason)


def test_a_damaged_disk_is_reported_and_set_aside() -> None:
    pair = Pair()
    pair.ask(2, 4, 6)
    pair.wait(50_000)
    pair.keeper.crash()
    content = bytearray(pair.keeper.disk.read("log-0000000001.seg"))
    content[HEADER_BYTES + FRAME_BYTES] ^= 1
    pair.keeper.disk.replace("log-0000000001.seg", [content])
    assert pair.recalled() == []
    assert not pair.keeper.served
    assert [event for event, _ in pair.reports] == ["corrupt"]
    assert pair.keeper.disk.names() == ["log-0000000001.seg"]
