"""Turns the invocations and completions that Jepsen records into steps. The line number serves as the time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from stretto.core.model import UNKNOWN, Model
from stretto.verify.edn import Keyword
from stretto.verify.search import Step

NO_KEY = object()
"""The key of an operation without a key."""

_READS = {"read", "get"}
_WRITES = {"write", "put", "append"}
_CONDITIONS = {"cas", "compare_and_set"}
_TIMED_OUT = {Keyword("timed-out"), Keyword("timeout")}


class Event(msgspec.Struct, gc=False, frozen=True):
    """One line. `kind` is invoke, ok, fail or info; `function` is the operation's name; `error` is the reason for a failure, if given."""

    line: int
    process: int
    kind: str
    function: str
    value: Any
    key: Any
    error: Any


def steps_of(events: Iterable[Event], model: Model) -> list[Step]:
    """The operations of a history: each invocation with its completion.

    - `ok`: the operation took effect. For a read, `value` is the result. The result of a write is unknown;
    - `fail`: a compare-and-set without an `error` found another value than it expected. Any other failed operation had no effect;
    - `info`, a time-out, or no completion: the outcome is unknown.

    Raises ValueError naming the line that is wrong.
    """
    steps: list[Step] = []
    open_calls: dict[int, tuple[Event, Any]] = {}
    for event in events:
        try:
            if event.kind == "invoke":
                if event.process in open_calls:
                    raise ValueError(
                        f"process {event.process} calls while its call of line {open_calls[event.process][0].line} has not returned"
                    )
                open_calls[event.process] = (event, _operation(event, model))
                continue
            if event.kind not in ("ok", "fail", "info"):
                raise ValueError(f":{event.kind} is none of :invoke, :ok, :fail, :info")
            call, operation = open_calls.pop(event.process, (None, None))
            if call is None:
                raise ValueError(f"process {event.process} ends a call that it did not begin")
            steps += _step(call, event, operation)
        except ValueError as error:
            raise ValueError(f"line {event.line}: {error}") from None
    steps += [_endless(call, operation) for call, operation in open_calls.values()]
    if not steps:
        raise ValueError("no operation was found")
    return steps


def _operation(call: Event, model: Model) -> Any:
    if call.function in _READS:
        arguments: tuple[Any, ...] = ()
    elif call.function in _WRITES:
        arguments = (call.value,)
    elif call.function not in _CONDITIONS:
        raise ValueError(f":{call.function} is none of {', '.join(f':{name}' for name in sorted(_READS | _WRITES | _CONDITIONS))}")
    elif not isinstance(call.value, tuple):
        raise ValueError(f":{call.function} has a value [from to]")
    else:
        arguments = call.value
    if call.key is not NO_KEY:
        arguments = (call.key, *arguments)
    try:
        hash(arguments)
    except TypeError:
        raise ValueError(f":{call.function} contains a map, which no model supports") from None
    return model.operation(call.function, arguments)


def _step(call: Event, event: Event, operation: Any) -> list[Step]:
    """The step of a call that ended with this event; empty if the call had no effect and gives no information."""
    argument = None if isinstance(event.value, Keyword) or event.function in _READS else event.value
    if (call.function, call.key) != (event.function, event.key) or argument not in (None, call.value):
        raise ValueError(f"process {event.process} ends another operation than it began in line {call.line}")
    if event.kind == "info" or _is_time_out(event.value) or _is_time_out(event.error):
        return [_endless(call, operation)]
    if event.kind == "ok":
        result = _result(event)
    elif event.function in _CONDITIONS and event.error is None:
        result = False
    else:
        return []
    return [Step(call.process, operation, call.line, event.line, result)]


def _is_time_out(value: Any) -> bool:
    return isinstance(value, Keyword) and value in _TIMED_OUT


def _result(event: Event) -> Any:
    """The result of a call that succeeded."""
    if event.function in _CONDITIONS:
        return True
    if event.function in _WRITES:
        return UNKNOWN
    if isinstance(event.value, dict):
        raise ValueError(f":{event.function} returned a map, which no model supports")
    return event.value.encode() if isinstance(event.value, str) and event.key is not NO_KEY else event.value


def _endless(call: Event, operation: Any) -> Step:
    return Step(call.process, operation, call.line, None, UNKNOWN)
