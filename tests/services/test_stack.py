"""The outcome of an operation that recurses does not depend on how deep its caller is."""

from __future__ import annotations

import sys
import threading

import msgspec
import pytest

from stretto.core.errors import ApplicationError, OperationFailed
from stretto.services.containers import Cell, Map
from stretto.services.service import Service, ServiceCodec, ServiceMachine, operation
from stretto.services.threads import DEPTH, on_own_stack


class Node(msgspec.Struct, frozen=True, array_like=True):
    kids: tuple[Node, ...] = ()


class Deep(ApplicationError):
    """An error whose text needs a stack, too."""

    def __str__(self) -> str:
        return str(_count(int(self.args[0])))


def _count(depth: int) -> int:
    return 0 if depth == 0 else 1 + _count(depth - 1)


class Trees(Service):
    errors = (Deep,)

    def __init__(self) -> None:
        self.planted = Cell[int](0)
        self.trees = Map[int, Node]()

    @operation
    def recurse(self, depth: int) -> int:
        self.planted.value += 1
        return _count(depth)

    @operation
    def plant(self, tree: Node) -> int:
        self.planted.value += 1
        return self.planted.value

    @operation
    def keep(self, number: int, tree: Node) -> None:
        self.trees[number] = tree

    @operation
    def grow(self, number: int, depth: int) -> None:
        self.trees[number] = tree(depth)

    @operation
    def show(self, depth: int) -> Node:
        return tree(depth)

    @operation
    def refuse(self, depth: int) -> None:
        raise Deep(depth)


CODEC = ServiceCodec(Trees)


def tree(depth: int) -> Node:
    node = Node()
    for _ in range(depth):
        node = Node((node,))
    return node


def raw(method: str, *arguments: object) -> bytes:
    """An encoded call, whatever the stack of this test allows."""
    return on_own_stack(msgspec.msgpack.encode, [method, *arguments])


def below(levels: int, machine: ServiceMachine, call: bytes) -> bytes:
    """The result of a call whose caller is that many levels deep."""
    return below(levels - 1, machine, call) if levels else machine.execute(call, 1, 2)[0]


CALLS = {
    "recursion": lambda depth: raw("recurse", depth),
    "argument": lambda depth: raw("plant", tree(depth)),
    "argument kept": lambda depth: raw("keep", 1, tree(depth)),
    "value made": lambda depth: raw("grow", 1, depth),
    "result": lambda depth: raw("show", depth),
    "text of an error": lambda depth: raw("refuse", depth),
}


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    "depth", [100, sys.getrecursionlimit() - 350, sys.getrecursionlimit() - 150, 2 * sys.getrecursionlimit(), 3 * DEPTH]
)
def test_one_outcome_whatever_the_depth_of_the_caller(kind: str, depth: int) -> None:
    if kind != "recursion" and depth > DEPTH:
        depth = 3 * sys.getrecursionlimit()  # a deeper one cannot even be encoded
    call = CALLS[kind](depth)
    outcomes = set()
    for levels in (0, 100, 200, 300, 400):
        machine = ServiceMachine(Trees)
        outcomes.add((below(levels, machine, call), machine.snapshot()))
    assert len(outcomes) == 1


def test_what_recurses_without_end_has_failed_and_changed_nothing() -> None:
    machine = ServiceMachine(Trees)
    before = machine.snapshot()
    result, undo = machine.execute(raw("recurse", 100 * DEPTH), 1, 2)
    with pytest.raises(OperationFailed, match="RecursionError: the operation recurses deeper"):
        CODEC.decode("recurse", result)
    assert undo is None
    assert machine.snapshot() == before
    assert CODEC.decode("recurse", machine.execute(raw("recurse", 10), 1, 2)[0]) == 10


def test_what_was_stored_can_be_snapshot_and_restored() -> None:
    """At the deepest tree that an operation may store, whatever nests it: the search finds it by halving."""
    machine = ServiceMachine(Trees)
    low, high = 1, 2 * DEPTH
    while high - low > 1:
        middle = (low + high) // 2
        failed = machine.execute(raw("grow", middle, middle), 1, 2)[0].startswith(b"\xc1")
        low, high = (low, middle) if failed else (middle, high)
    assert low > sys.getrecursionlimit()
    other = ServiceMachine(Trees)
    other.restore(machine.snapshot())
    assert other.snapshot() == machine.snapshot()


def test_the_limits_of_the_process_stay() -> None:
    before = sys.getrecursionlimit(), threading.stack_size()
    with pytest.raises(ZeroDivisionError):
        on_own_stack(divmod, 1, 0)
    assert (sys.getrecursionlimit(), threading.stack_size()) == before
