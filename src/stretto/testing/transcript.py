"""What happens on a stage as text, to be read by people and compared with a file.

    call 1 at c0: b'a'
      c0 -> r0 r1 r2: Request client=c0 session=1 number=1 operation=b'a'
    deliver c0 -> r1: Request client=c0 session=1 number=1 operation=b'a'
      r1 executes b'a' -> b''
      r1 -> c0: SpeculativeReply view=0 position=2 hash=#9c01 session=1 number=1 result=b'' committed=False

A line at the margin is a step that the test made; indented lines are its effects. The same steps give the same text.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stretto.core.trace import Called, Delivered, Dropped, FaultBegun, Reported, Returned, Sent, TimerFired, TraceRecord
from stretto.testing.stage import Stage
from stretto.testing.watching import Started, shown

HIDDEN = ("time_ns", "entropy", "incarnations")
"""The fields that a transcript leaves out by default."""

_LARGE = 1 << 32
_INCARNATION_BITS = 40


class Transcript:
    """Records what happens on a stage from now on, in the place of an earlier transcript. `str()` of it is the text.

    Parameters: `stage`; `hidden`, the names of the fields of messages that are left out.

    Hashes are shortened to `#` and four hexadecimal digits, large random numbers to `~` and as many, incarnations to their counter.
    """

    def __init__(self, stage: Stage, hidden: Collection[str] = HIDDEN) -> None:
        self._stage = stage
        self._hidden = frozenset(hidden)
        self._lines: list[str] = []
        self._sending: tuple[int, dict[str, Any], list[int]] | None = None
        stage.tracer = self._record

    def __str__(self) -> str:
        return "\n".join([*self._lines, *self._last_sending(), ""])

    def note(self, text: str) -> None:
        """Add a line of explanation, after an empty line."""
        self._flush()
        self._lines += ["", f"# {text}"] if self._lines else [f"# {text}"]

    def compare(self, file: Path, *, rewrite: bool = False) -> None:
        """Raise AssertionError, with a diff, unless the text is that of the file; `rewrite`: write the file instead."""
        text = str(self)
        if rewrite:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        if not file.exists():
            raise AssertionError(f"{file} does not exist; write it with rewrite=True")
        expected = file.read_text(encoding="utf-8")
        if text != expected:
            diff = difflib.unified_diff(expected.splitlines(), text.splitlines(), str(file), "this run", lineterm="")
            raise AssertionError("\n".join(["the transcript is not the file's; if it is right, rewrite the file", *diff]))

    # From records to lines

    def _record(self, record: TraceRecord) -> None:
        if isinstance(record, Sent):
            self._record_sent(record)
            return
        self._flush()
        name = self._stage.name_of
        node = name(record.node)
        match record:
            case Started(how=how):
                self._lines.append(f"start {node} {how}")
            case FaultBegun(fault=fault):
                self._lines.append(f"{fault} {node}")
            case Called(process=handle, operation=operation):
                self._lines.append(f"call {handle} at {node}: {shown(operation)}")
            case Delivered(source=source, message=message):
                self._lines.append(f"deliver {name(source)} -> {node}: {self._message(message)}")
            case Dropped(source=source, reason="lost", message=message):
                self._lines.append(f"lose {name(source)} -> {node}: {self._message(message)}")
            case Dropped(source=source, reason=reason, message=message):
                self._lines.append(f"lose {name(source)} -> {node}, since {reason}: {self._message(message)}")
            case TimerFired(name=timer, time_ns=time_ns):
                self._lines.append(f"fire {timer} of {node} at {time_ns / 1e6:g} ms")
            case Reported(event=event, details=details):
                self._lines.append(" ".join([f"  {node} {event}", *self._fields(details)]))
            case Returned(process=handle, result=bytes(result)):
                self._lines.append(f"  call {handle} returns {shown(result)}")
            case Returned(process=handle, error=error):
                self._lines.append(f"  call {handle} fails: {error}")

    def _record_sent(self, record: Sent) -> None:
        """Keep the record until all destinations of the same message are known."""
        assert record.destination is not None
        if self._sending is not None and self._sending[:2] == (record.node, record.message):
            self._sending[2].append(record.destination)
        else:
            self._flush()
            self._sending = (record.node, record.message, [record.destination])

    def _flush(self) -> None:
        self._lines += self._last_sending()
        self._sending = None

    def _last_sending(self) -> list[str]:
        if self._sending is None:
            return []
        source, message, destinations = self._sending
        names = " ".join(map(self._stage.name_of, destinations))
        return [f"  {self._stage.name_of(source)} -> {names}: {self._message(message)}"]

    # Values

    def _message(self, message: Mapping[str, Any]) -> str:
        fields = {name: value for name, value in message.items() if name != "type"}
        return " ".join([message["type"], *self._fields(fields)])

    def _fields(self, fields: Mapping[str, Any]) -> Iterable[str]:
        return (f"{name}={self._value(name, value)}" for name, value in fields.items() if name not in self._hidden)

    def _value(self, name: str, value: Any) -> str:
        """A field's value; what it is can be seen by its type and, for numbers and bytes, by the field's name."""
        match value:
            case bool():
                return str(value)
            case int() if name == "client":
                return self._stage.name_of(value)
            case int() if name.startswith("outcome"):
                return f"#{value & 0xFFFF:04x}"
            case int() if value >= _LARGE:
                return str(value >> _INCARNATION_BITS) if "incarnation" in name else f"~{value & 0xFFFF:04x}"
            case bytes() if ("hash" in name or "digest" in name) and value:
                return f"#{value.hex()[:4]}"
            case bytes():
                return shown(value)
            case msgspec.Struct():
                return f"{type(value).__name__}({' '.join(self._fields(msgspec.structs.asdict(value)))})"
            case Mapping():
                return f"{{{', '.join(f'{key}: {self._value(name, item)}' for key, item in value.items())}}}"
            case list() | tuple() | set() | frozenset():
                items = value if isinstance(value, list | tuple) else sorted(value)
                return f"[{', '.join(self._value(name, item) for item in items)}]"
        return str(value)
