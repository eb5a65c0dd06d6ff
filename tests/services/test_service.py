"""Services: what an author may write, how calls travel, and that every way to fail is the same on all replicas."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stretto.apps.kv import KeyValueStore
from stretto.core.errors import ApplicationError, OperationFailed
from stretto.services.containers import Cell, List, Map, SortedMap, SortedSet
from stretto.services.service import Service, ServiceCodec, ServiceMachine, operation, query


class Person(msgspec.Struct, frozen=True):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0)] = 0


class Unwilling(ApplicationError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")


class VeryUnwilling(Unwilling):
    pass


class Undeclared(ApplicationError):
    pass


class Textless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


FAILURES: dict[str, Callable[[], BaseException]] = {
    "declared": lambda: Unwilling("it", "not now"),
    "subclass": lambda: VeryUnwilling("it", "never"),
    "undeclared": lambda: Undeclared("as text"),
    "bug": lambda: KeyError(b"x"),
    "address": lambda: ValueError(f"{object()} is odd"),
    "surrogate": lambda: ValueError("\ud800"),
    "textless": Textless,
    "memory": MemoryError,
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "closed": GeneratorExit,
}


class Registry(Service):
    """A bit of everything."""

    errors = (Unwilling,)

    def __init__(self) -> None:
        self.greeting = "hello"
        self.people = SortedMap[str, Person]()
        self.ages = Map[str, int]()
        self.visits = List[str]()
        self.tags = SortedSet[bytes]()
        self.last = Cell[Person | None](None)
        self.ages["nobody"] = 0

    @operation
    def enter(self, person: Person, tags: tuple[bytes, ...] = (b"new",)) -> int:
        self.people[person.name] = person
        self.ages[person.name] = person.age
        self.visits.append(person.name)
        for tag in tags:
            self.tags.add(tag)
        self.last.value = person
        return len(self.visits)

    @query
    def person(self, name: str) -> Person | None:
        return self.people.get(name)

    @query
    def moment(self) -> tuple[int, float, float]:
        return self.now_ns, self.random.random(), self.random.random()

    @operation
    def enter_and_fail(self, person: Person, how: str) -> None:
        self.enter(person)
        del self.people[person.name]
        self.visits.clear()
        raise FAILURES[how]()

    @query
    def sly_query(self) -> None:
        self.ages["sly"] = 1

    @operation
    def churn(self, name: str) -> None:
        self.ages[name] = 1
        self.ages[name] = 2
        del self.ages[name]
        self.visits.insert(0, name)
        self.visits.append(self.visits.pop(0))

    @operation
    def assign(self) -> None:
        self.count = 1

    @operation
    def remove(self) -> None:
        del self.people

    @operation
    def misreport(self) -> int:
        return "many"  # type: ignore[return-value]

    @operation
    def too_large(self) -> int:
        return 1 << 70

    @operation
    def store_too_large(self, name: str) -> None:
        self.ages[name] = 1 << 70


CODEC = ServiceCodec(Registry)
ADA = Person("Ada", 36)


def call(machine: ServiceMachine, method: str, *args: Any, **kwargs: Any) -> Any:
    result, _ = machine.execute(CODEC.encode(method, args, kwargs), 5, 6)
    return CODEC.decode(method, result)


def test_calls_travel_by_their_annotations() -> None:
    machine = ServiceMachine(Registry)
    assert call(machine, "enter", ADA, (b"x", b"a")) == 1
    assert call(machine, "enter", person=Person("Bob")) == 2
    assert call(machine, "person", "Ada") == ADA
    assert call(machine, "person", "Eve") is None
    assert list(machine.service.tags) == [b"a", b"new", b"x"]  # type: ignore[attr-defined]
    assert msgspec.msgpack.decode(CODEC.encode("person", ("Ada",))) == ["person", "Ada"]


def test_undo_and_snapshots_cover_every_container() -> None:
    machine = ServiceMachine(Registry)
    before = machine.snapshot()
    _, undo = machine.execute(CODEC.encode("enter", (ADA,)), 5, 6)
    after = machine.snapshot()
    assert sorted(msgspec.msgpack.decode(after)[1]) == ["ages", "last", "people", "tags", "visits"]
    machine.undo(undo)
    assert machine.snapshot() == before != after
    for name in ("nobody", "Ada"):
        _, undo = machine.execute(CODEC.encode("churn", (name,)), 5, 6)
        assert machine.snapshot() != before
        machine.undo(undo)
        assert machine.snapshot() == before
    machine.restore(after)
    assert machine.snapshot() == after
    assert call(machine, "person", "Ada") == ADA
    assert machine.execute(CODEC.encode("person", ("Ada",)), 5, 6)[1] is None


def test_a_snapshot_of_something_else_is_refused_whole() -> None:
    machine = ServiceMachine(Registry)
    call(machine, "enter", ADA)
    version, state = msgspec.msgpack.decode(machine.snapshot())
    before = machine.snapshot()
    others = [(version, {**state, "visits": 3}), (version, {**state, "more": 3}), (0, state), (version + 1, state)]
    for wrong in (b"", b"\xc1", msgspec.msgpack.encode(state), *map(msgspec.msgpack.encode, others)):
        with pytest.raises(msgspec.DecodeError):
            machine.restore(wrong)
        assert machine.snapshot() == before


@contextlib.contextmanager
def signal_ignored() -> Iterator[None]:
    """As in a replica's process: a SIGINT raises no KeyboardInterrupt in what runs."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def test_a_person_can_interrupt_a_program_that_runs_a_service() -> None:
    machine = ServiceMachine(Registry)
    before = machine.snapshot()
    with pytest.raises(KeyboardInterrupt):
        call(machine, "enter_and_fail", ADA, "interrupt")
    assert machine.snapshot() == before


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("declared", Unwilling, "it: not now"),
        ("subclass", Unwilling, "it: never"),
        ("undeclared", ApplicationError, "as text"),
        ("bug", OperationFailed, "KeyError: b'x'"),
        ("address", OperationFailed, "ValueError: <object object at 0x...> is odd"),
        ("surrogate", OperationFailed, "ValueError: \\ud800"),
        ("textless", OperationFailed, "Textless: "),
        ("memory", OperationFailed, "MemoryError: "),
        ("exit", OperationFailed, "SystemExit: 3"),
        ("interrupt", OperationFailed, "KeyboardInterrupt: "),
        ("cancelled", OperationFailed, "CancelledError: "),
        ("closed", OperationFailed, "GeneratorExit: "),
    ],
)
def test_a_failed_operation_takes_itself_back(how: str, error: type[Exception], text: str) -> None:
    machine = ServiceMachine(Registry)
    call(machine, "enter", Person("Bob"))
    before = machine.snapshot()
    with signal_ignored():
        result, undo = machine.execute(CODEC.encode("enter_and_fail", (ADA, how)), 5, 6)
    assert undo is None
    assert machine.snapshot() == before
    with pytest.raises(ApplicationError) as caught:
        CODEC.decode("enter_and_fail", result)
    assert type(caught.value) is error
    assert str(caught.value) == text
    assert call(machine, "enter", ADA) == 2


@pytest.mark.parametrize(
    ("method", "arguments", "text"),
    [
        ("sly_query", (), "TypeError: sly_query is a query and changed the state; make it an @operation"),
        ("assign", (), "TypeError: Registry.count is assigned outside __init__, which cannot be undone; make it a Cell"),
        ("remove", (), "TypeError: Registry.people is deleted, which cannot be undone"),
        ("too_large", (), "OverflowError: can't serialize ints"),
        ("store_too_large", ("x",), "TypeError: Registry.ages: a value must be int, not int (can't serialize ints"),
        ("misreport", (), "Registry.misreport gave a result that is not of its annotated type"),
    ],
)
def test_mistakes_of_a_service_are_named_and_change_nothing(method: str, arguments: tuple[Any, ...], text: str) -> None:
    machine = ServiceMachine(Registry)
    before = machine.snapshot()
    with pytest.raises(OperationFailed) as caught:
        call(machine, method, *arguments)
    assert str(caught.value).startswith(text)
    assert machine.snapshot() == before


def test_time_and_randomness_are_those_of_the_operation() -> None:
    machine, other = ServiceMachine(Registry), ServiceMachine(Registry)
    operation_bytes = CODEC.encode("moment")
    first = machine.execute(operation_bytes, 5, 6)
    other.execute(operation_bytes, 4, 9)
    assert other.execute(operation_bytes, 5, 6) == machine.execute(operation_bytes, 5, 6) == first
    assert other.execute(operation_bytes, 5, 7) != first
    now_ns, one, two = CODEC.decode("moment", first[0])
    assert now_ns == 5
    assert one != two
    for name in ("now_ns", "random"):
        with pytest.raises(RuntimeError, match="none is running"):
            getattr(Registry(), name)


NEARLY_CALLS = st.lists(st.sampled_from(["enter", "person", "Ada", b"x", 3, None, ["Ada"], {"name": "Ada"}])).map(msgspec.msgpack.encode)


@given(st.binary() | NEARLY_CALLS)
def test_bytes_of_any_kind_get_an_answer(junk: bytes) -> None:
    machine = ServiceMachine(Registry)
    result, undo = machine.execute(junk, 5, 6)
    if undo is None and result.startswith(b"\xc1"):
        with pytest.raises(ApplicationError):
            CODEC.decode("enter", result)
    else:
        assert msgspec.msgpack.decode(junk)[0] in CODEC.methods


JUNK = [b"", b"\xc1", b"\x91" * 100_000, b"\x92\xa6person\xa1\xff", b"\x91\xa6nobody", b"\x93\xa6person\xa1a\xa1b"]


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_refused_by_name(junk: bytes) -> None:
    result, undo = ServiceMachine(Registry).execute(junk, 5, 6)
    assert undo is None
    with pytest.raises(ApplicationError, match="these bytes are no operation of Registry"):
        CODEC.decode("person", result)
    with pytest.raises(msgspec.DecodeError):
        CODEC.call(junk)


@given(st.binary())
def test_an_operation_gives_its_call_back(junk: bytes) -> None:
    kv = ServiceCodec(KeyValueStore)
    assert kv.call(kv.encode("increment", (junk,))) == ("increment", (junk, 1))
    with contextlib.suppress(msgspec.DecodeError):
        assert kv.call(kv.encode(*kv.call(junk))) == kv.call(junk)


@given(st.binary())
def test_results_of_any_kind_raise_nothing_but_application_errors(junk: bytes) -> None:
    for result in (junk, b"\xc1" + junk):
        try:
            CODEC.decode("person", result)
        except ApplicationError:
            continue


@pytest.mark.parametrize(
    ("arguments", "named", "text"),
    [
        (("Ada",), {}, "Registry.enter: person: Expected `object`, got `str`"),
        ((ADA, 3), {}, "Registry.enter: tags: Expected `array`, got `int`"),
        ((ADA, ("x",)), {}, r"Registry.enter: tags: Expected `bytes`, got `str` - at `\$\[0\]`"),
        ((Person("Ada", -1),), {}, r"Registry.enter: person: Expected `int` >= 0 - at `\$.age`"),
        ((Person("Ada", 1 << 70),), {}, "Registry.enter: person: can't serialize ints"),
        ((Person("\ud800"),), {}, "Registry.enter: person: 'utf-8' codec can't encode"),
        ((object(),), {}, "Registry.enter: person: Encoding objects of type object is unsupported"),
        ((), {}, "Registry.enter: Missing required argument 'person'"),
        ((ADA, (), 1), {}, "Registry.enter: Extra positional arguments provided"),
        ((ADA,), {"tag": 1}, "Registry.enter: Unexpected keyword argument 'tag'"),
    ],
)
def test_wrong_arguments_are_refused_by_the_codec(arguments: tuple[Any, ...], named: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}"):
        CODEC.encode("enter", arguments, named)


def test_methods_that_are_not_marked_cannot_be_called() -> None:
    with pytest.raises(AttributeError, match="Registry has no operation '__init__'; it has assign, "):
        CODEC.encode("__init__")


def plain(self: Any, key: bytes) -> None: ...
def untyped(self: Any, key) -> None: ...  # type: ignore[no-untyped-def]
def resultless(self: Any, key: bytes): ...  # type: ignore[no-untyped-def]
def starred(self: Any, *keys: bytes) -> None: ...
def doubly_starred(self: Any, **keys: bytes) -> None: ...
def named_only(self: Any, *, key: bytes) -> None: ...
def placed_only(self: Any, key: bytes, /) -> None: ...
def unknown(self: Any, key: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821
def anything(self: Any, key: Any) -> None: ...
def unordered(self: Any, keys: list[set[bytes]]) -> None: ...
def unordered_result(self: Any) -> frozenset[bytes]: ...  # type: ignore[empty-body]
def ambiguous(self: Any, key: Person | dict[str, int]) -> None: ...
async def awaited(self: Any) -> None: ...
def generated(self: Any) -> list[int]:  # type: ignore[misc]
    yield 1


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (untyped, "parameter key has no annotation"),
        (resultless, "the result has no annotation; write -> None"),
        (starred, r"\*keys: 'bytes' is not supported; an operation has plain parameters"),
        (doubly_starred, r"\*\*keys: 'bytes' is not supported"),
        (named_only, "key: 'bytes' is not supported"),
        (placed_only, "key: 'bytes' is not supported"),
        (unknown, "name 'Nowhere' is not defined"),
        (anything, "parameter key: .*Any does not define how it is encoded"),
        (unordered, "parameter keys: .* has no order"),
        (unordered_result, "the result: .* has no order"),
        (ambiguous, "parameter key: Type unions may not contain more than one"),
        (awaited, "an operation is an ordinary method, not async"),
        (generated, "an operation is an ordinary method"),
    ],
)
@pytest.mark.parametrize("mark", [operation, query])
def test_signatures_that_cannot_be_replicated_are_refused(mark: Callable[[Any], Any], method: Any, text: str) -> None:
    with pytest.raises(TypeError, match=rf"^Odd\.act: {text}"):
        type("Odd", (Service,), {"act": mark(method)})


def test_a_method_is_marked_in_every_class_that_replaces_it() -> None:
    base = type("Base", (Service,), {"act": operation(plain)})

    def act(self: Any, key: bytes) -> None: ...

    with pytest.raises(TypeError, match=r"Derived\.act replaces a Base\.act; mark it"):
        type("Derived", (base,), {"act": act})
    assert "act" in ServiceCodec(type("Derived", (base,), {})).methods


def test_only_methods_are_marked() -> None:
    with pytest.raises(TypeError, match="@operation marks a method"):
        operation(staticmethod(plain))


def test_classes_that_are_no_services_are_refused() -> None:
    with pytest.raises(TypeError, match=r"is not a subclass of stretto\.Service"):
        ServiceMachine(dict)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Idle has no method that is marked"):
        ServiceCodec(type("Idle", (Service,), {}))
    with pytest.raises(TypeError, match=r"Odd\.errors: each must be a subclass of ApplicationError"):
        type("Odd", (Service,), {"errors": (KeyError,)})


@pytest.mark.parametrize("value", [{}, [], set(), bytearray()])
def test_state_outside_containers_is_refused(value: Any) -> None:
    def initialise(self: Any) -> None:
        self.state = value

    odd = type("Odd", (Service,), {"__init__": initialise, "act": operation(plain)})
    with pytest.raises(TypeError, match=rf"Odd\.state is a {type(value).__name__}, which cannot be undone"):
        ServiceMachine(odd)


class Before(Service):
    def __init__(self) -> None:
        self.total = Cell[int](0)

    @operation
    def add(self, amount: int) -> int:
        self.total.value += amount
        return self.total.value


class After(Before):
    def __init__(self) -> None:
        super().__init__()
        self.names = Map[str, int]()
        self.names["first"] = 1


def test_a_container_that_a_snapshot_lacks_is_as_init_makes_it() -> None:
    older = ServiceMachine(Before)
    older.execute(ServiceCodec(Before).encode("add", (7,)), 1, 2)
    machine = ServiceMachine(After)
    fresh = machine.snapshot()
    machine.service.names["second"] = 2  # type: ignore[attr-defined]
    machine.restore(older.snapshot())
    assert msgspec.msgpack.decode(machine.snapshot()) == [1, {"total": 7, "names": [["first", 1]]}]
    machine.restore(fresh)
    assert machine.snapshot() == fresh
    with pytest.raises(msgspec.DecodeError, match="names"):
        older.restore(machine.snapshot())
