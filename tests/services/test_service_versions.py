"""Versions of a service: what each has, how the state changes from one to the next, and that newer code behaves as the active one."""

from __future__ import annotations

import msgspec
import pytest

from stretto import ApplicationError, Cell, Map, NotActive, OperationFailed, Service, operation, query
from stretto.services.service import ServiceCodec, ServiceMachine, newest
from stretto.testing import local


class First(Service):
    def __init__(self) -> None:
        self.total = Cell[int](0)

    @operation
    def add(self, amount: int) -> int:
        self.total.value += amount
        return self.total.value

    @query
    def read(self) -> int:
        return self.total.value


class Third(Service):
    """The code two versions later: a method and a container are new, one of each is gone, and `add` does something else."""

    version = 3

    def __init__(self) -> None:
        self.total = Cell[int](0, until=3)
        self.parts = Map[str, int](since=2)
        self.parts["all"] = 0

    def upgrade(self, old: int) -> None:
        if self.total.value == 13:
            raise ApplicationError("an unlucky total")
        self.parts["all"] = self.total.value
        self.parts["upgrades from"] = old

    @operation
    def add(self, amount: int) -> int:
        if self.version >= 2:
            self.parts["all"] += amount
            return self.parts["all"]
        self.total.value += amount
        return self.total.value

    @query(until=3)
    def read(self) -> int:
        return self.total.value

    @query(since=2)
    def part(self, name: str) -> int:
        return self.parts[name]


First.__name__ = Third.__name__ = "Counter"  # two releases of one service
FIRST, THIRD = ServiceCodec(First), ServiceCodec(Third)


def call(machine: ServiceMachine, codec: ServiceCodec, method: str, *args: object) -> object:
    return codec.decode(method, machine.execute(codec.encode(method, args), 1, 2)[0])


def test_newer_code_behaves_as_the_active_version() -> None:
    old, new = ServiceMachine(First), ServiceMachine(Third)
    operations = [FIRST.encode("add", (4,)), FIRST.encode("read"), THIRD.encode("part", ("all",)), THIRD.encode("add", (5,)), b"\x91\xa1x"]
    assert [old.execute(operation, 1, 2)[0] for operation in operations] == [new.execute(operation, 1, 2)[0] for operation in operations]
    assert old.snapshot() == new.snapshot()
    new.restore(old.snapshot())
    assert call(new, THIRD, "add", 1) == 10
    assert old.signature(1) == new.signature(1)


def test_a_call_of_a_later_version_is_not_active_whether_the_code_knows_it_or_not() -> None:
    for machine in (ServiceMachine(First), ServiceMachine(Third)):
        with pytest.raises(NotActive, match="part exists from version 2 on; version 1 is active"):
            call(machine, THIRD, "part", "all")
        too_many = msgspec.msgpack.encode(["part@2", 1, 2, 3])
        assert machine.execute(too_many, 1, 2)[0] == machine.execute(THIRD.encode("part", ("x",)), 1, 2)[0]


def test_an_upgrade_changes_methods_containers_and_state_at_once() -> None:
    machine = ServiceMachine(Third)
    call(machine, THIRD, "add", 7)
    assert machine.change_version(3, 5, 6) == msgspec.msgpack.encode(3)
    assert (machine.version, machine.service.version) == (3, 3)
    assert call(machine, THIRD, "add", 1) == 8
    assert call(machine, THIRD, "part", "upgrades from") == 1
    withdrawn, unknown = machine.execute(THIRD.encode("read"), 1, 2)[0], machine.execute(b"\x91\xa1x", 1, 2)[0]
    assert withdrawn == unknown
    assert msgspec.msgpack.decode(machine.snapshot()) == [3, {"parts": [["all", 8], ["upgrades from", 1]]}]
    restored = ServiceMachine(Third)
    restored.restore(machine.snapshot())
    assert restored.snapshot() == machine.snapshot()
    assert call(restored, THIRD, "part", "all") == 8


def test_older_code_refuses_a_snapshot_of_a_later_version() -> None:
    machine = newest(Third)
    with pytest.raises(msgspec.DecodeError, match="it is of version 3, and this code of Counter is of version 1"):
        ServiceMachine(First).restore(machine.snapshot())


def test_an_upgrade_that_fails_changes_nothing() -> None:
    machine = ServiceMachine(Third)
    call(machine, THIRD, "add", 13)
    before = machine.snapshot()
    with pytest.raises(ApplicationError, match="an unlucky total"):
        raise THIRD.failure(machine.change_version(3, 5, 6))
    assert (machine.version, machine.service.version, machine.snapshot()) == (1, 1, before)
    assert call(machine, THIRD, "add", 1) == 14
    assert machine.change_version(3, 5, 6) == msgspec.msgpack.encode(3)


class Deep(Service):
    version = 2

    def __init__(self) -> None:
        self.depth = Cell[int](0)

    def upgrade(self, old: int) -> None:
        def down(levels: int) -> int:
            return 0 if levels == 0 else 1 + down(levels - 1)

        self.depth.value = down(5_000)

    @query
    def read(self) -> int:
        return self.depth.value


def test_an_upgrade_has_a_stack_of_its_own() -> None:
    machine = ServiceMachine(Deep)
    assert machine.change_version(2, 5, 6) == msgspec.msgpack.encode(2)
    assert machine.service.depth.value == 5_000  # type: ignore[attr-defined]


def test_a_container_of_another_version_is_not_there() -> None:
    class Early(Service):
        version = 2

        def __init__(self) -> None:
            self.later = Cell[int](0, since=2)

        @operation
        def use(self) -> int:
            self.later.value += 1
            return self.later.value

    machine = ServiceMachine(Early)
    with pytest.raises(OperationFailed, match=r"Early.later exists in versions from 2 on; version 1 is active"):
        call(machine, ServiceCodec(Early), "use")
    assert local(Early).use() == 1


def test_a_signature_shows_what_replicas_must_agree_about() -> None:
    class Point(msgspec.Struct, frozen=True):
        x: int

    class Wider(msgspec.Struct, frozen=True):
        x: int
        y: int = 0

    def signature(point: type, default: int) -> tuple[str, ...]:
        class Points(Service):
            def __init__(self) -> None:
                self.points = Map[str, point]()  # type: ignore[valid-type]

            @operation
            def put(self, name: str, where: tuple[int, ...], times: int = default) -> None: ...

        return ServiceMachine(Points).signature(1)

    assert signature(Point, 1) == (
        "Map points: list[tuple[str, Point(x: int)]]",
        "operation put(name: str, where: vartuple[int], times: int = 1) -> none",
        "service Points",
    )
    assert signature(Wider, 1) != signature(Point, 1) != signature(Point, 2)


def test_versions_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong.late: since=3 is no version of this class; its versions are 1 to 2 \(`version = 2`\)"):

        class Wrong(Service):
            version = 2

            @operation(since=3)
            def late(self) -> None: ...

    with pytest.raises(TypeError, match=r"Ends.early: until=2 is not a version after since=2"):

        class Ends(Service):
            version = 2

            @operation(since=2, until=2)
            def early(self) -> None: ...

    with pytest.raises(TypeError, match=r"Zero.version: 0 is not a version"):

        class Zero(Service):
            version = 0

    with pytest.raises(TypeError, match=r"Named.upgrade: this name belongs to the versions"):

        class Named(Service):
            @operation
            def upgrade(self) -> None: ...  # type: ignore[override]

    class Late(Service):
        def __init__(self) -> None:
            self.late = Cell[int](0, since=2)

        @operation
        def nothing(self) -> None: ...

    with pytest.raises(TypeError, match=r"Late.late: since=2 is no version of this class"):
        ServiceMachine(Late)
