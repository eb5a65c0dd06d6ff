"""The calls that a check makes, and another process that makes them too, in which sets and hashes have another order."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec

from stretto.services.service import Service, newest

_encode = msgspec.msgpack.encode


class Call(NamedTuple):
    """One call of a service, with the time and the randomness that come with it."""

    method: str
    arguments: tuple[Any, ...]
    time_ns: int
    entropy: int


class OtherProcess:
    """A process with another hash seed that executes operations on a fresh instance of the service each time."""

    def __init__(self, service_class: type[Service]) -> None:
        if "<locals>" in service_class.__qualname__:
            raise TypeError(f"{service_class.__qualname__} stands inside a function, where no other process can import it; move it out")
        self._class = service_class

    def __enter__(self) -> OtherProcess:
        seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        code = "from stretto.testing.calls import serve; serve()"
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


def serve() -> None:
    """In the other process: execute the operations that standard input has, and write their results, until it ends."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    service_class = _load(*sys.argv[1:])
    while True:
        try:
            operations = msgspec.msgpack.decode(_read(sys.stdin.buffer), type=list[tuple[bytes, int, int]])
        except EOFError:
            return
        machine = newest(service_class)
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
