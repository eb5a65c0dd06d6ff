"""Help for those who test services of their own: `check_service`, a property test, and `local`, a service without a cluster.

    def test_counter() -> None:
        check_service(Counter)

Needs hypothesis.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from random import Random
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID

import hypothesis
import msgspec
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from msgspec import inspect as types

from stretto.core.errors import ApplicationError, OperationFailed
from stretto.core.state_machine import Undo
from stretto.services.service import Service, ServiceCodec, ServiceMachine
from stretto.services.signatures import Method

S = TypeVar("S", bound=Service)

Arguments = Mapping[str, Mapping[str, "st.SearchStrategy[Any]"]]
"""By method and parameter: what to draw an argument from, where its annotation is too wide."""

_encode = msgspec.msgpack.encode
_INT64 = 2**63
_PART = 8


def check_service(
    service_class: type[Service],
    *,
    arguments: Arguments | None = None,
    max_examples: int = 100,
    max_operations: int = 32,
    seed: int = 0,
) -> None:
    """Run random operations on a service and raise AssertionError, with the shortest ones found, if it cannot be replicated.

    What must hold: every operation returns what its annotation says, or raises an ApplicationError and no other exception; undoing gives
    the state before, at every depth; equal operations give equal results and states: again after undo, on an instance that took detours
    through operations that were undone, on one restored from a snapshot, and in a process with another hash seed; queries change nothing.

    Arguments are drawn from the annotations, or from `arguments["method"]["parameter"]`. The class must stand at the top level of its
    module, so that the other process can import it. The same `seed` gives the same operations.
    """
    codec = ServiceCodec(service_class)
    # Several lists, since hypothesis rarely draws a long one.
    parts = st.lists(_calls(codec, arguments or {}), max_size=_PART)
    calls = st.tuples(*[parts] * max(1, max_operations // _PART)).map(lambda drawn: [*chain(*drawn)])
    with _OtherProcess(service_class) as other:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=max_examples,
            deadline=None,
            database=None,
            print_blob=False,
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(calls=calls)
        def trial(calls: list[_Call]) -> None:
            _Trial(service_class, codec, calls).run(other)

        try:
            trial()
        except Flaky as error:
            raise AssertionError(f"{service_class.__name__}: the same operations give now this and now that: {error}") from error
        except AssertionError as error:
            error.add_note(f"seed {seed}: check_service({service_class.__name__}, seed={seed}) finds it again")
            raise


def local(service_class: type[S], *, seed: int = 0) -> S:
    """The service without a cluster: calls go through encoding, execution and roll-back as on a replica, in this process.

    Time begins at one second and moves on by a millisecond a call; `seed` is where the service's randomness comes from.
    """
    return cast(S, _Local(service_class, seed))


class _Local:
    def __init__(self, service_class: type[Service], seed: int) -> None:
        self._codec = ServiceCodec(service_class)
        self._machine = ServiceMachine(service_class)
        self._random = Random(seed)
        self._time_ns = 1_000_000_000

    def __getattr__(self, name: str) -> Any:
        if name not in self._codec.methods:
            raise AttributeError(f"{self._codec.name} has no operation {name!r}")

        def call(*args: Any, **kwargs: Any) -> Any:
            operation = self._codec.encode(name, args, kwargs)
            self._time_ns += 1_000_000
            result, _ = self._machine.execute(operation, self._time_ns, self._random.getrandbits(32))
            return self._codec.decode(name, result)

        return call


class _Call(NamedTuple):
    method: str
    arguments: tuple[Any, ...]
    time_ns: int
    entropy: int


class _Trial:
    """One sequence of operations, and everything that must hold of it."""

    def __init__(self, service_class: type[Service], codec: ServiceCodec, calls: Sequence[_Call]) -> None:
        self._class = service_class
        self._codec = codec
        self._calls = calls
        self._operations = [(codec.encode(call.method, call.arguments), call.time_ns, call.entropy) for call in calls]
        self._results: list[bytes] = []
        self._snapshots: list[bytes] = []

    def run(self, other: _OtherProcess) -> None:
        machine = ServiceMachine(self._class)
        undos = self._execute_first(machine)
        self._check_undo(machine, undos)
        self._check_same(machine, 0, "again, after all were undone")
        self._check_detours(ServiceMachine(self._class))
        self._check_restored(ServiceMachine(self._class))
        results, last = other.execute(self._operations)
        for position, result in enumerate(results):
            self._check_result(position, result, "in a process with another hash seed")
        self._require(last == self._snapshots[-1], len(results), "leaves another state in a process with another hash seed")

    def _execute_first(self, machine: ServiceMachine) -> list[Undo]:
        undos = []
        self._snapshots.append(machine.snapshot())
        for position, (call, operation) in enumerate(zip(self._calls, self._operations, strict=True)):
            result, undo = machine.execute(*operation)
            undos.append(undo)
            self._results.append(result)
            self._snapshots.append(machine.snapshot())
            try:
                self._codec.decode(call.method, result)
            except OperationFailed as error:
                self._require(False, position, f"failed by a mistake in the service, not by an ApplicationError: {error}")
            except ApplicationError:
                pass
            unchanged = undo is None and self._snapshots[-1] == self._snapshots[-2]
            self._require(unchanged or not self._codec.methods[call.method].is_query, position, "is a query and changed the state")
        return undos

    def _check_undo(self, machine: ServiceMachine, undos: list[Undo]) -> None:
        for position in reversed(range(len(undos))):
            machine.undo(undos[position])
            self._require(machine.snapshot() == self._snapshots[position], position, "was undone, and the state is not what it was before")

    def _check_same(self, machine: ServiceMachine, start: int, when: str) -> None:
        for position in range(start, len(self._operations)):
            result, _ = machine.execute(*self._operations[position])
            self._check_result(position, result, when)
            self._check_state(machine, position + 1, when)

    def _check_detours(self, machine: ServiceMachine) -> None:
        """Before each operation run the whole sequence, the last first, and undo it."""
        when = "on an instance that had undone other operations"
        for position, operation in enumerate(self._operations):
            undos = [machine.execute(*detour)[1] for detour in reversed(self._operations)]
            for undo in reversed(undos):
                machine.undo(undo)
            self._check_state(machine, position, when)
            result, _ = machine.execute(*operation)
            self._check_result(position, result, when)

    def _check_restored(self, machine: ServiceMachine) -> None:
        when = "on an instance restored from a snapshot"
        for position, operation in enumerate(self._operations):
            machine.restore(self._snapshots[position])
            self._check_state(machine, position, when)
            self._check_result(position, machine.execute(*operation)[0], when)
        middle = len(self._operations) // 2
        machine.restore(self._snapshots[middle])
        self._check_same(machine, middle, when)

    def _check_result(self, position: int, result: bytes, when: str) -> None:
        if result != self._results[position]:
            first, now = self._show(position, self._results[position]), self._show(position, result)
            self._require(False, position, f"gave {first} at first, and {now} {when}")

    def _check_state(self, machine: ServiceMachine, position: int, when: str) -> None:
        self._require(machine.snapshot() == self._snapshots[position], position - 1, f"does not leave the same state {when}")

    def _show(self, position: int, result: bytes) -> str:
        try:
            return repr(self._codec.decode(self._calls[position].method, result))
        except ApplicationError as error:
            return f"{type(error).__name__}: {error}"

    def _require(self, holds: bool, position: int, what: str) -> None:
        if not holds:
            lines = [f"  {place + 1}. {self._signature(call)}" for place, call in enumerate(self._calls)]
            where = f"operation {position + 1}" if position >= 0 else "no operation yet:"
            raise AssertionError("\n".join([f"{self._class.__name__}: {where} {what}", *lines]))

    def _signature(self, call: _Call) -> str:
        parameters = self._codec.methods[call.method].parameters
        arguments = ", ".join(f"{name}={value!r}" for name, value in zip(parameters, call.arguments, strict=True))
        return f"{call.method}({arguments})  at {call.time_ns} ns, entropy {call.entropy}"


# Another process, in which sets and hashes have another order


class _OtherProcess:
    """A process with another hash seed that executes operations on a fresh instance of the service each time."""

    def __init__(self, service_class: type[Service]) -> None:
        if "<locals>" in service_class.__qualname__:
            raise TypeError(f"{service_class.__qualname__} stands inside a function, where no other process can import it; move it out")
        self._class = service_class

    def __enter__(self) -> _OtherProcess:
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        code = "import stretto.testing; stretto.testing._serve()"
        names = [self._class.__module__, inspect.getfile(self._class), self._class.__qualname__]
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *names], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def execute(self, operations: Sequence[tuple[bytes, int, int]]) -> tuple[list[bytes], bytes]:
        """The results, and the snapshot after the last operation."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            _write(self._process.stdin, _encode(operations))
            return msgspec.msgpack.decode(_read(self._process.stdout), type=tuple[list[bytes], bytes])
        except (BrokenPipeError, EOFError):
            errors = self._process.communicate()[1].decode(errors="replace")
            raise RuntimeError(f"another process could not import and run {self._class.__qualname__}:\n{errors}") from None


def _serve() -> None:
    """The other process: answer until the input ends."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    service_class = _load(*sys.argv[1:])
    while True:
        try:
            operations = msgspec.msgpack.decode(_read(sys.stdin.buffer), type=list[tuple[bytes, int, int]])
        except EOFError:
            return
        machine = ServiceMachine(service_class)
        results = [machine.execute(*operation)[0] for operation in operations]
        _write(answers, _encode((results, machine.snapshot())))


def _load(module_name: str, file: str, qualified_name: str) -> Any:
    try:
        found: Any = importlib.import_module(module_name) if module_name != "__main__" else None
    except ImportError:
        found = None
    if found is None:
        spec = importlib.util.spec_from_file_location("stretto_service_under_test", file)
        assert spec is not None
        assert spec.loader is not None
        found = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    for name in qualified_name.split("."):
        found = getattr(found, name)
    return found


def _write(stream: Any, body: bytes) -> None:
    stream.write(len(body).to_bytes(8, "big") + body)
    stream.flush()


def _read(stream: Any) -> bytes:
    body = stream.read(int.from_bytes(stream.read(8) or _end(), "big"))
    return cast(bytes, body)


def _end() -> bytes:
    raise EOFError


# Arguments from annotations


def _calls(codec: ServiceCodec, arguments: Arguments) -> st.SearchStrategy[_Call]:
    for method, own in arguments.items():
        if method not in codec.methods:
            raise ValueError(f"arguments: {codec.name} has no operation {method!r}")
        if unknown := own.keys() - codec.methods[method].parameters.keys():
            raise ValueError(f"arguments: {codec.name}.{method} has no parameter {min(unknown)!r}")
    return st.one_of([_calls_of(method, arguments.get(name, {})) for name, method in sorted(codec.methods.items())])


def _calls_of(method: Method, own: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[_Call]:
    drawn = [own[name] if name in own else strategy_for(declared) for name, declared in method.parameters.items()]
    return st.builds(_Call, st.just(method.name), st.tuples(*drawn), st.integers(0, 2**62), st.integers(0, 2**32 - 1))


def strategy_for(declared: Any) -> st.SearchStrategy[Any]:
    """A hypothesis strategy for a type that operations may have; it prefers few different values, so that operations meet."""
    return _strategy(types.type_info(declared), {})


_PLAIN: dict[type[types.Type], Any] = {
    types.NoneType: type(None),
    types.BoolType: bool,
    types.UUIDType: UUID,
    types.DecimalType: Decimal,
    types.DateTimeType: datetime,
    types.DateType: date,
    types.TimeType: time,
    types.TimeDeltaType: timedelta,
}


def _strategy(info: Any, structs: dict[type, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    def of(part: Any) -> st.SearchStrategy[Any]:
        return _strategy(part, structs)

    match info:
        case types.Metadata():
            return of(info.type)
        case types.IntType():
            return _integers(info)
        case types.FloatType():
            low, high = (info.gt if info.ge is None else info.ge), (info.lt if info.le is None else info.le)
            return st.floats(low, high, exclude_min=info.gt is not None, exclude_max=info.lt is not None)
        case types.BytesType():
            return _sized(st.binary, [b"", b"a", b"b", b"ab", b"7"], info)
        case types.StrType(pattern=str() as pattern):
            return st.from_regex(pattern).filter(lambda text: _fits(text, info))
        case types.StrType():
            return _sized(st.text, ["", "a", "b", "ab", "7"], info)
        case types.EnumType():
            return st.sampled_from(list(info.cls))
        case types.LiteralType():
            return st.sampled_from(list(info.values))
        case types.ListType():
            return _sized(lambda **sizes: st.lists(of(info.item_type), **sizes), [], info)
        case types.VarTupleType():
            return _sized(lambda **sizes: st.lists(of(info.item_type), **sizes), [], info).map(tuple)
        case types.TupleType():
            return st.tuples(*map(of, info.item_types))
        case types.DictType():
            return _sized(lambda **sizes: st.dictionaries(of(info.key_type), of(info.value_type), **sizes), [], info)
        case types.UnionType():
            return st.one_of(*map(of, info.types))
        case types.StructType() | types.NamedTupleType() | types.DataclassType():
            if info.cls not in structs:
                structs[info.cls] = st.deferred(lambda: st.builds(info.cls, **{field.name: of(field.type) for field in info.fields}))
            return structs[info.cls]
    if type(info) in _PLAIN:
        return st.from_type(_PLAIN[type(info)])
    raise TypeError(f"no arguments can be drawn from {info}; give a strategy of your own in `arguments`")


def _integers(info: types.IntType) -> st.SearchStrategy[int]:
    low = info.ge if info.ge is not None else info.gt + 1 if info.gt is not None else -_INT64
    high = info.le if info.le is not None else info.lt - 1 if info.lt is not None else _INT64 - 1
    numbers = st.integers(low, high)
    if info.multiple_of:
        step = info.multiple_of
        return numbers.map(lambda number: number // step * step).filter(lambda number: low <= number <= high)
    few = [number for number in range(-2, 11) if low <= number <= high]
    return st.one_of(st.sampled_from(few), numbers) if few else numbers


def _sized(make: Any, few: list[Any], info: Any) -> st.SearchStrategy[Any]:
    """Of the lengths that are allowed, and often one of `few`."""
    fitting = [value for value in few if _fits(value, info)]
    least = info.min_length or 0
    general = make(min_size=least, max_size=info.max_length if info.max_length is not None else least + 20)
    return st.one_of(st.sampled_from(fitting), general) if fitting else general


def _fits(value: Any, info: Any) -> bool:
    return (info.min_length or 0) <= len(value) and (info.max_length is None or len(value) <= info.max_length)
