"""Reads the histories that Jepsen writes, as lines of its log or as lines of EDN. Each line is one event."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from stretto.verify.edn import Keyword, parsed
from stretto.verify.events import NO_KEY, Event

_LOG_LINE = re.compile(r"INFO\s+jepsen\.util - (?P<process>\S+)\s+:(?P<kind>\S+)\s+:(?P<function>\S+)\s+(?P<value>.*)")
_LOG_FORM = "INFO  jepsen.util - PROCESS :invoke|:ok|:fail|:info :FUNCTION VALUE"
_OTHER_LOGGER = re.compile(r"(?:TRACE|DEBUG|INFO|WARN|ERROR|FATAL)\s+(?!jepsen\.util\b)\S+ - ")


def events_of_log(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a log: INFO  jepsen.util - 0 :invoke :cas [3 0].

    Skips lines that are not about a process, such as the nemesis, and lines of loggers other than `jepsen.util`. Raises ValueError naming
    the line that is wrong.
    """
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or _OTHER_LOGGER.match(text):
            continue
        found = _LOG_LINE.fullmatch(text)
        if found is None:
            raise ValueError(f"line {number}: not of the form '{_LOG_FORM}': {text[:60]!r}")
        if not found["process"].isdecimal():
            continue
        try:
            value = parsed(found["value"])
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        yield Event(number, int(found["process"]), found["kind"], found["function"], value, NO_KEY, None)


def events_of_edn(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a history in EDN, one map a line: {:process 0, :type :invoke, :f :get, :key "4", :value nil}.

    Skips lines that are not about a process, such as the nemesis. Raises ValueError naming the line that is wrong.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        try:
            fields = parsed(line)
            if not isinstance(fields, dict):
                raise ValueError("expected a map")
            process, kind, function, value, error = (fields.get(Keyword(name)) for name in ("process", "type", "f", "value", "error"))
            if isinstance(process, Keyword):
                continue
            if not (isinstance(process, int) and isinstance(kind, Keyword) and isinstance(function, Keyword)):
                raise ValueError("an operation needs a number as :process, and keywords as :type and :f")
        except ValueError as mistake:
            raise ValueError(f"line {number}: {mistake}") from None
        yield Event(number, process, kind, function, value, fields.get(Keyword("key"), NO_KEY), error)
