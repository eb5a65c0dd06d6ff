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
numbers there, so that logs stay readable and methods can be added; the name of one that came with a later version N is followed by `@N`.
A result is its MessagePack value. A failure is the byte 0xc1, with which no MessagePack value begins, and then the array [error name,
text].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from functools import reduce
from operator import or_
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

import msgspec

from stretto.core.errors import ApplicationError, NotActive, OperationFailed
from stretto.core.state_machine import Undo, encode
from stretto.services.journal import Container, Journal, roll_back
from stretto.services.signatures import Mark, Method, methods_of
from stretto.services.threads import is_interrupt, on_own_stack, with_reserve
from stretto.services.versions import SINCE_MARK, check_versions, has, since_of, written

F = TypeVar("F", bound=Callable[..., Any])

_FAILURE = b"\xc1"
_decode_failure = msgspec.msgpack.Decoder(tuple[str, str]).decode
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@overload
def operation(method: F, /) -> F: ...
@overload
def operation(*, since: int = 1, until: int | None = None) -> Callable[[F], F]: ...
def operation(method: Any = None, /, *, since: int = 1, until: int | None = None) -> Any:
    """Mark a method of a Service as an operation. It is replicated and may change the state.

    `since`, `until`: the versions of the service that have it, from `since` on and before `until`; None: all later ones.
    """
    return _marker("operation", method, Mark(False, since, until))


@overload
def query(method: F, /) -> F: ...
@overload
def query(*, since: int = 1, until: int | None = None) -> Callable[[F], F]: ...
def query(method: Any = None, /, *, since: int = 1, until: int | None = None) -> Any:
    """Mark a method of a Service as a query. It is replicated, in one order with all operations, and must not change the state.

    `since`, `until`: as of `operation`.
    """
    return _marker("query", method, Mark(True, since, until))


def _marker(name: str, method: Any, mark: Mark) -> Any:
    def marked(method: Any) -> Any:
        if not hasattr(method, "__code__"):
            raise TypeError(f"@{name} marks a method of a Service, not {method!r}; write it directly above the def")
        method.__stretto_mark__ = mark
        return method

    return marked if method is None else marked(method)


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

    `version` is the version of this code, counted from 1. Inside an operation, `self.version` is the active version, which is lower until
    all replicas have the new code. Every change of what an operation does needs a new version, and `if self.version >= N` around it.
    """

    errors: ClassVar[tuple[type[ApplicationError], ...]] = ()
    version: ClassVar[int] = 1

    __stretto_methods__: ClassVar[dict[str, Method]] = {}
    __stretto_context__: _Context

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__stretto_methods__ = methods_of(cls)
        names = [error.__name__ for error in cls.errors if issubclass(error, ApplicationError)]
        if len(set(names)) < len(cls.errors):
            raise TypeError(f"{cls.__name__}.errors: each must be a subclass of ApplicationError, and no two may have the same name")
        if type(cls.version) is not int or cls.version < 1:
            raise TypeError(f"{cls.__name__}.version: {cls.version!r} is not a version; it is a number from 1 on")
        for name in ("upgrade", "version"):
            if name in cls.__stretto_methods__:
                raise TypeError(f"{cls.__name__}.{name}: this name belongs to the versions of a service; give the method another one")
        for method in cls.__stretto_methods__.values():
            check_versions(method.where, cls.version, method.since, method.until)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        service = super().__new__(cls)
        object.__setattr__(service, "__stretto_context__", _Context())
        return service

    def __setattr__(self, name: str, value: Any) -> None:
        context = self.__stretto_context__
        where = f"{type(self).__name__}.{name}"
        if context.sealed:
            raise TypeError(f"{where} is assigned outside __init__, which cannot be undone; make it a Cell")
        if name == "version":
            raise TypeError(f"{where} is assigned; it is the version of the code, written in the class")
        context.containers.pop(name, None)
        if isinstance(value, Container):
            value.attach(where, context.journal)
            check_versions(where, type(self).version, value.since, value.until)
            context.containers[name] = value
        elif isinstance(value, (MutableMapping, MutableSequence, MutableSet, bytearray)):
            raise TypeError(f"{where} is a {type(value).__name__}, which cannot be undone; use Map, SortedMap, SortedSet, List or Cell")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise TypeError(f"{type(self).__name__}.{name} is deleted, which cannot be undone")

    def upgrade(self, old: int) -> None:
        """Change the state from version `old` to `self.version`. It is called once, on all replicas alike, when that becomes active.

        The containers of both versions are there. Those that the new version does not have any more are emptied afterwards. If this raises
        anything, its changes are undone, and version `old` stays active. A new cluster is upgraded from 1, with empty containers.
        """

    if not TYPE_CHECKING:  # or every misspelt name of a service would pass the type checker

        def __getattr__(self, name: str) -> Any:
            container = self.__stretto_context__.containers.get(name)
            if container is None:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            versions = (
                f"from {container.since} on" if container.until is None else f"from {container.since} on and before {container.until}"
            )
            raise AttributeError(f"{type(self).__name__}.{name} exists in versions {versions}; version {self.version} is active")

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

    It is a VersionedMachine: it begins with version 1 active. It has the methods and containers of the active version only: a call of a
    later one is `NotActive`, whether this code knows it or not.
    """

    def __init__(self, service_class: type[Service]) -> None:
        methods = _methods(service_class)
        self.service = service_class()
        self._context = context = self.service.__stretto_context__
        self._journal = context.journal
        self._is_deep = False
        context.sealed = True
        context.journal.clear()
        self.code_version = service_class.version
        self.version = 1
        self._methods = methods
        self._decode = _call_decoder(methods)
        self._refusal = _failure(ApplicationError(f"these bytes are no operation of {service_class.__name__}"), ())
        self._containers = dict(sorted(context.containers.items()))
        fields = [(name, container.state_type() | msgspec.UnsetType, msgspec.UNSET) for name, container in self._containers.items()]
        state_type = msgspec.defstruct(service_class.__name__, fields, forbid_unknown_fields=True)
        self._decode_state = msgspec.msgpack.Decoder(state_type).decode
        self._initial = self._decode_state(encode({name: container.state() for name, container in self._containers.items()}))
        self._show(1)

    def _show(self, version: int, *others: int) -> None:
        """Let the service have the methods of `version`, and its containers; and the containers of the other versions."""
        self.version = version
        attributes = vars(self.service)
        attributes["version"] = version
        for name, container in self._containers.items():
            if any(has(shown, container) for shown in (version, *others)):
                attributes[name] = container
            else:
                attributes.pop(name, None)
        self._run = {method.call_type: self._runner(method) for method in self._methods.values()}

    def _runner(self, method: Method) -> Callable[[Service, Any], bytes]:
        if not has(self.version, method):
            result = self._unknown(str(method.call_type.__struct_config__.tag))
            return lambda service, call: result
        return _guarded(method) if method.is_query else method.run

    def _unknown(self, tag: str) -> bytes:
        """The result of a call of something that the active version does not have. It must not depend on what this code knows."""
        since = since_of(tag)
        if since <= self.version:
            return self._refusal
        return _failure(NotActive(f"{tag.rpartition(SINCE_MARK)[0]} exists from version {since} on; version {self.version} is active"), ())

    def execute(self, operation: bytes, time_ns: int, entropy: int) -> tuple[bytes, Undo]:
        """See StateMachine."""
        try:
            call = self._decode(operation)
        except RecursionError:
            return self._execute_deep(operation, time_ns, entropy)
        except Exception:
            return self._unknown(_tag_in(operation)), None
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
        """See StateMachine. It holds the active version, and the contents of its containers by name."""
        containers = {name: container.state() for name, container in self._containers.items() if has(self.version, container)}
        try:
            return encode((self.version, containers))
        except RecursionError:
            return on_own_stack(encode, (self.version, containers))

    def restore(self, snapshot: bytes) -> None:
        """See StateMachine. Raises msgspec.DecodeError and changes nothing if the bytes are no snapshot of this service.

        A container that the snapshot lacks is as `__init__` makes it.
        """
        try:
            version, state = self._decoded(snapshot)
        except RecursionError:
            version, state = on_own_stack(self._decoded, snapshot)
        for name, container in self._containers.items():
            contents = getattr(state, name)
            container.restore(getattr(self._initial, name) if contents is msgspec.UNSET else contents)
        self._show(version)

    def _decoded(self, snapshot: bytes) -> tuple[int, Any]:
        version, contents = _decode_versioned(snapshot)
        if not 1 <= version <= self.code_version:
            reason = f"it is of version {version}, and this code of {type(self.service).__name__} is of version {self.code_version}"
            raise msgspec.DecodeError(reason)
        return version, self._decode_state(contents)

    # Versions; see VersionedMachine

    def change_version(self, version: int, time_ns: int, entropy: int) -> bytes:
        """See VersionedMachine."""
        assert self.version <= version <= self.code_version
        return on_own_stack(with_reserve, self._upgrade, version, time_ns, entropy)

    def _upgrade(self, version: int, time_ns: int, entropy: int) -> bytes:
        old, context, journal = self.version, self._context, self._journal
        if version == old:
            return encode(version)
        context.time_ns, context.entropy, context.random = time_ns, entropy, None
        self._show(version, old)
        try:
            self.service.upgrade(old)
        except BaseException as error:
            roll_back(journal[::-1])
            self._show(old)
            try:
                return _failure(error, self.service.errors)
            except RecursionError:
                return _TOO_DEEP
        finally:
            journal.clear()
        for name, container in self._containers.items():
            if not has(version, container):
                container.restore(getattr(self._initial, name))
        self._show(version)
        return encode(version)

    def signature(self, version: int) -> tuple[str, ...]:
        """See VersionedMachine."""
        methods = [method.signature() for method in self._methods.values() if has(version, method)]
        containers = [
            f"{type(container).__name__} {name}: {written(container.state_type())}"
            for name, container in self._containers.items()
            if has(version, container)
        ]
        return tuple(sorted([f"service {type(self.service).__name__}", *methods, *containers]))


def newest(service_class: type[Service]) -> ServiceMachine:
    """A machine outside a cluster, with the newest version active. Raises ApplicationError with which its upgrade failed."""
    machine = ServiceMachine(service_class)
    result = machine.change_version(machine.code_version, 0, 0)
    if result.startswith(_FAILURE):
        raise ServiceCodec(service_class).failure(result)
    return machine


class ServiceCodec:
    """Encodes the calls of a service and decodes their results, for its clients."""

    def __init__(self, service_class: type[Service]) -> None:
        self.name = service_class.__name__
        self.methods = _methods(service_class)
        self._decode_call = _call_decoder(self.methods)
        self._names = {method.call_type: method.name for method in self.methods.values()}
        errors: tuple[type[ApplicationError], ...] = (ApplicationError, OperationFailed, NotActive, *service_class.errors)
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
        return self._names[type(call)], msgspec.structs.astuple(call)

    def decode(self, method: str, result: bytes) -> Any:
        """Decode the result of a call of `method`: return what it returned, or raise the ApplicationError with which it failed."""
        if result.startswith(_FAILURE):
            raise self.failure(result)
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

    def failure(self, result: bytes) -> ApplicationError:
        """The error that a failure stands for."""
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


_decode_versioned = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw]).decode
_decode_call_head = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_tag = msgspec.msgpack.Decoder(str).decode


def _tag_in(operation: bytes) -> str:
    """The name of the method that these bytes call, with its mark; empty if they are no call at all."""
    try:
        return _decode_tag(_decode_call_head(operation)[0])
    except Exception:
        return ""


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
        name = next((kind.__name__ for kind in type(error).__mro__ if kind in declared or kind is NotActive), "ApplicationError")
    else:
        name = "OperationFailed"
        text = f"{type(error).__name__}: {_ADDRESS.sub('0x...', text)}"
    return _FAILURE + encode((name, text.encode("utf-8", "backslashreplace").decode()))


_TOO_DEEP = _failure(RecursionError("the operation recurses deeper than a stack of its own allows"), ())
