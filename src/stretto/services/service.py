"""Replicated services as users write them: a class with ordinary typed methods, and its state in containers that undo their changes.

    class Counter(Service):
        def __init__(self) -> None:
            self.total = Cell[int](0)

        @operation
        def add(self, amount: int) -> int:
            self.total.value += amount
            return self.total.value

        @query
        def read(self) -> int:
            return self.total.value

The annotations define how calls are encoded. A call is the MessagePack array [method name, argument, ...]. Methods have names and not
numbers there, so that logs stay readable and methods can be added. A result is its MessagePack value. A failure is the byte 0xc1, with
which no MessagePack value begins, and then the array [error name, text].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from functools import reduce
from operator import or_
from random import Random
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from stretto.core.errors import ApplicationError, OperationFailed
from stretto.core.state_machine import Undo, encode
from stretto.services.journal import Container, Journal, roll_back
from stretto.services.signatures import Method, methods_of
from stretto.services.threads import is_interrupt, on_own_stack, with_reserve

F = TypeVar("F", bound=Callable[..., Any])

_FAILURE = b"\xc1"
_decode_failure = msgspec.msgpack.Decoder(tuple[str, str]).decode
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def operation(method: F) -> F:
    """Mark a method of a Service as an operation. It is replicated and may change the state."""
    return _mark(method, "operation")


def query(method: F) -> F:
    """Mark a method of a Service as a query. It is replicated, in one order with all operations, and must not change the state."""
    return _mark(method, "query")


def _mark(method: F, kind: str) -> F:
    if not hasattr(method, "__code__"):
        raise TypeError(f"@{kind} marks a method of a Service, not {method!r}; write it directly above the def")
    method.__stretto_kind__ = kind  # type: ignore[attr-defined]
    return method


class _Context:
    """The journal of a service, and the time and randomness of the running operation."""

    __slots__ = ("containers", "entropy", "journal", "random", "sealed", "time_ns")

    def __init__(self) -> None:
        self.journal: Journal = []
        self.containers: dict[str, Container] = {}
        self.sealed = False
        self.time_ns: int | None = None
        self.entropy = 0
        self.random: Random | None = None


class Service:
    """The base of replicated services.

    The `__init__` of a subclass takes no arguments and assigns the containers. Its methods are marked with `@operation` or `@query`.
    `errors` lists the subclasses of ApplicationError that clients get as themselves; of their attributes, only the text reaches the
    client.
    """

    errors: ClassVar[tuple[type[ApplicationError], ...]] = ()

    __stretto_methods__: ClassVar[dict[str, Method]] = {}
    __stretto_context__: _Context

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__stretto_methods__ = methods_of(cls)
        names = [error.__name__ for error in cls.errors if issubclass(error, ApplicationError)]
        if len(set(names)) < len(cls.errors):
            raise TypeError(f"{cls.__name__}.errors: each must be a subclass of ApplicationError, and no two may have the same name")

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        service = super().__new__(cls)
        object.__setattr__(service, "__stretto_context__", _Context())
        return service

    def __setattr__(self, name: str, value: Any) -> None:
        context = self.__stretto_context__
        where = f"{type(self).__name__}.{name}"
        if context.sealed:
            raise TypeError(f"{where} is assigned outside __init__, which cannot be undone; make it a Cell")
        context.containers.pop(name, None)
        if isinstance(value, Container):
            value.attach(where, context.journal)
            context.containers[name] = value
        elif isinstance(value, (MutableMapping, MutableSequence, MutableSet, bytearray)):
            raise TypeError(f"{where} is a {type(value).__name__}, which cannot be undone; use Map, SortedMap, SortedSet, List or Cell")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise TypeError(f"{type(self).__name__}.{name} is deleted, which cannot be undone")

    @property
    def now_ns(self) -> int:
        """The time of the running operation, in nanoseconds since 1970. A service must use no other time.

        It is the same on every replica: the time at which the client sent the operation, or the time of the operation before, if that is
        later. So it never goes back. Raises RuntimeError outside an operation.
        """
        time_ns = self.__stretto_context__.time_ns
        if time_ns is None:
            raise RuntimeError("now_ns is the time of the running operation, and none is running")
        return time_ns

    @property
    def random(self) -> Random:
        """Randomness for the running operation, the same on every replica. A service must use no other. Raises RuntimeError outside one."""
        context = self.__stretto_context__
        if context.time_ns is None:
            raise RuntimeError("random belongs to the running operation, and none is running")
        if context.random is None:
            context.random = Random(context.entropy)
        return context.random


class ServiceMachine:
    """A service as a StateMachine.

    Every operation ends the same way on every replica: with its result; with its ApplicationError, after its changes are undone; or, if it
    raises anything else, with OperationFailed, after its changes are undone. That includes MemoryError, SystemExit and every other
    BaseException: whatever one call raises must not end a replica, since it would end all of them. What recurses too deep is taken back
    and run once more on a stack of its own; see `stretto.services.threads`.
    """

    def __init__(self, service_class: type[Service]) -> None:
        methods = _methods(service_class)
        self.service = service_class()
        self._context = context = self.service.__stretto_context__
        self._journal = context.journal
        self._is_deep = False
        context.sealed = True
        context.journal.clear()
        self._decode = _call_decoder(methods)
        self._run = {method.call_type: _guarded(method) if method.is_query else method.run for method in methods.values()}
        self._refusal = _failure(ApplicationError(f"these bytes are no operation of {service_class.__name__}"), ())
        self._containers = dict(sorted(context.containers.items()))
        fields = [(name, container.state_type() | msgspec.UnsetType, msgspec.UNSET) for name, container in self._containers.items()]
        state_type = msgspec.defstruct(service_class.__name__, fields, forbid_unknown_fields=True)
        self._decode_state = msgspec.msgpack.Decoder(state_type).decode
        self._initial = self._decode_state(self.snapshot())

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """See StateMachine."""
        try:
            call = self._decode(operation)
        except RecursionError:
            return self._execute_deep(operation, time_ns, entropy)
        except Exception:
            return self._refusal, None
        context = self._context
        context.time_ns = time_ns
        context.entropy = entropy
        context.random = None
        journal = self._journal
        try:
            result = self._run[type(call)](self.service, call)
        except BaseException as error:
            roll_back(journal[::-1])
            journal.clear()
            if is_interrupt(error):
                raise
            try:
                if not isinstance(error, RecursionError):
                    return _failure(error, self.service.errors), None
            except RecursionError:
                pass  # the text of the error needs a deeper stack
            return self._execute_deep(operation, time_ns, entropy)
        if not journal:
            return result, None
        steps = journal[::-1]
        journal.clear()
        return result, steps

    def _execute_deep(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """Execute on a stack of its own what recurses too deep here. If it is too deep for that too, it has failed, at every replica."""
        if self._is_deep:
            return _TOO_DEEP, None
        self._is_deep = True
        try:
            return on_own_stack(with_reserve, self.execute, operation, time_ns, entropy)
        finally:
            self._is_deep = False

    def undo(self, undo: Undo) -> None:
        """See StateMachine."""
        if undo is not None:
            roll_back(undo)

    def snapshot(self) -> bytes:
        """See StateMachine. It holds the contents of all containers, by name."""
        state = {name: container.state() for name, container in self._containers.items()}
        try:
            return encode(state)
        except RecursionError:
            return on_own_stack(encode, state)

    def restore(self, snapshot: bytes) -> None:
        """See StateMachine. Raises msgspec.DecodeError and changes nothing if the bytes are no snapshot of this service.

        A container that the snapshot lacks, since it was taken by older code, is as `__init__` makes it.
        """
        try:
            state = self._decode_state(snapshot)
        except RecursionError:
            state = on_own_stack(self._decode_state, snapshot)
        for name, container in self._containers.items():
            contents = getattr(state, name)
            container.restore(getattr(self._initial, name) if contents is msgspec.UNSET else contents)


class ServiceCodec:
    """Encodes the calls of a service and decodes their results, for its clients."""

    def __init__(self, service_class: type[Service]) -> None:
        self.name = service_class.__name__
        self.methods = _methods(service_class)
        self._decode_call = _call_decoder(self.methods)
        errors: tuple[type[ApplicationError], ...] = (ApplicationError, OperationFailed, *service_class.errors)
        self._errors = {error.__name__: error for error in errors}

    def encode(self, method: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> bytes:
        """Encode a call of `method` with these arguments as an operation.

        Raises TypeError that names method and parameter if an argument does not fit, AttributeError if there is no such method.
        """
        return self._method(method).encode(args, kwargs or {})

    def call(self, operation: bytes) -> tuple[str, tuple[Any, ...]]:
        """Return the method and the arguments of an encoded call. Raises msgspec.DecodeError if it is no operation of this service."""
        try:
            call = self._decode_call(operation)
        except (UnicodeDecodeError, RecursionError) as error:
            raise msgspec.DecodeError(str(error)) from None
        return str(call.__struct_config__.tag), msgspec.structs.astuple(call)

    def decode(self, method: str, result: bytes) -> Any:
        """Decode the result of a call of `method`: return what it returned, or raise the ApplicationError with which it failed."""
        if result.startswith(_FAILURE):
            raise self._error(result)
        decode = self._method(method).decode_result
        try:
            try:
                return decode(result)
            except RecursionError:
                return on_own_stack(decode, result)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise OperationFailed(f"{self.name}.{method} gave a result that is not of its annotated type: {error}") from None

    def _method(self, name: str) -> Method:
        try:
            return self.methods[name]
        except KeyError:
            raise AttributeError(f"{self.name} has no operation {name!r}; it has {', '.join(sorted(self.methods))}") from None

    def _error(self, result: bytes) -> ApplicationError:
        try:
            name, text = _decode_failure(memoryview(result)[1:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return OperationFailed(f"{self.name} gave a result that cannot be decoded")
        error_class = self._errors.get(name, ApplicationError)
        return error_class.__new__(error_class, text)


def _methods(service_class: type[Service]) -> dict[str, Method]:
    if not (isinstance(service_class, type) and issubclass(service_class, Service)):
        raise TypeError(f"{service_class!r} is not a subclass of stretto.Service")
    if not service_class.__stretto_methods__:
        raise TypeError(f"{service_class.__name__} has no method that is marked @operation or @query")
    return service_class.__stretto_methods__


def _call_decoder(methods: Mapping[str, Method]) -> Callable[[bytes], Any]:
    return msgspec.msgpack.Decoder(reduce(or_, (method.call_type for method in methods.values()))).decode


def _guarded(method: Method) -> Callable[[Service, Any], bytes]:
    run = method.run

    def run_query(service: Service, call: Any) -> bytes:
        result = run(service, call)
        if service.__stretto_context__.journal:
            raise TypeError(f"{method.name} is a query and changed the state; make it an @operation")
        return result

    return run_query


def _failure(error: BaseException, declared: Sequence[type[ApplicationError]]) -> bytes:
    """The result of an operation that raised `error`. It must be equal on every replica, so addresses of objects are left out.

    Raises RecursionError if the text needs a deeper stack.
    """
    try:
        text = str(error)
    except RecursionError:
        raise
    except BaseException as unprintable:
        if is_interrupt(unprintable):
            raise
        text = ""
    if isinstance(error, ApplicationError):
        name = next((kind.__name__ for kind in type(error).__mro__ if kind in declared), "ApplicationError")
    else:
        name = "OperationFailed"
        text = f"{type(error).__name__}: {_ADDRESS.sub('0x...', text)}"
    return _FAILURE + encode((name, text.encode("utf-8", "backslashreplace").decode()))


_TOO_DEEP = _failure(RecursionError("the operation recurses deeper than a stack of its own allows"), ())
