"""The process of a replica or sequencer: one node with its sockets and its log, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.core.node import Address, Node
from stretto.core.protocol import ProtocolDefinition, Start
from stretto.core.state_machine import StateMachine
from stretto.runtime.addresses import text_of
from stretto.runtime.batching import BATCHED
from stretto.runtime.disk import Disk, open_disk
from stretto.runtime.host import NodeHost
from stretto.runtime.identity import IdentityFile
from stretto.runtime.loop import DatagramLoop
from stretto.runtime.sockets import open_member_sockets
from stretto.runtime.watchdog import Watchdog
from stretto.storage.files import StorageFailure

logger = logging.getLogger("stretto.replica")

# The garbage collector does not track log entries, so the hot path allocates almost no tracked objects, and those form no cycles.
_GC_THRESHOLDS = (50_000, 50, 100)


def run_replica(
    definition: ProtocolDefinition,
    config: ClusterConfig,
    index: int,
    machine_factory: Callable[[], StateMachine],
    *,
    bootstrap: bool,
    data: Path | None = None,
    repair: bool = False,
    log: str | Path | None = None,
) -> None:
    """Run replica `index` of the cluster in this process, until SIGTERM or SIGINT.

    - `bootstrap`: the whole cluster starts for the first time, empty. Otherwise the replica continues from its data on disk or, if it
      has none, recovers from its peers.
    - `data`: the directory for persisted data; required with durability "disk". Otherwise it is for the replica's identity alone, with
      which `bootstrap` counts only once.
    - `repair`: if the data is damaged, set it aside and recover from the peers.
    - `log`: the file that JSON lines are appended to; None for standard error.

    Raises ConfigurationError if the replica cannot start, Corrupt if its data is damaged, StorageFailure if the disk fails, and
    StrettoError if it had to stop because of its peers or because of a bug.
    """
    disk: Disk | None = None
    identity: IdentityFile | None = None

    def build(host: NodeHost) -> Node:
        start = _start(bootstrap, disk, identity)
        try:
            return definition.replica(host, config, index, machine_factory(), start)
        except msgspec.DecodeError as error:
            reason = f"holds a checkpoint that is not one of {config.service} as it is now ({error}); run the code that wrote it"
            raise ConfigurationError(reason, file=None if disk is None else disk.place) from None

    with _logging_to(log):
        try:
            if data is None and config.durability == "disk":
                raise ConfigurationError(_NEEDS_DATA, key="durability")
            if data is not None and config.durability == "disk":
                disk = _open_disk(data, definition, config, index, repair)
            elif data is not None:
                identity = IdentityFile(data, index, config.n)
            _run(definition, config, _Role("replica", index, index), disk, identity, build)
        finally:
            for opened in (disk, identity):
                if opened is not None:
                    opened.close()


def run_sequencer(definition: ProtocolDefinition, config: ClusterConfig, index: int, *, log: str | Path | None = None) -> None:
    """Run sequencer `index` of the cluster in this process, until SIGTERM or SIGINT. `log` is as in `run_replica`.

    Raises ConfigurationError if the sequencer cannot start, and StrettoError if it had to stop because of a bug.
    """
    factory = definition.sequencer
    assert factory is not None
    with _logging_to(log):
        role = _Role("sequencer", index, config.n + index)
        _run(definition, config, role, None, None, lambda host: factory(host, config, index))


class _Role(NamedTuple):
    """The role of this process: kind (replica or sequencer), number within the kind, and address."""

    kind: str
    number: int
    address: Address


_NEEDS_DATA = '"disk" needs a directory for the replica\'s data; name one with --data'


def _open_disk(data: Path, definition: ProtocolDefinition, config: ClusterConfig, index: int, repair: bool) -> Disk:
    disk, aside = open_disk(data, definition, config, index, repair=repair)
    if aside is not None:
        _report("damaged data set aside", {"replica": index, "directory": str(aside)})
    return disk


def _start(bootstrap: bool, disk: Disk | None, identity: IdentityFile | None) -> Start:
    records = () if disk is None else disk.take_records()
    if disk is None or not records:
        return Start(bootstrap, None if identity is None else identity.first)
    return Start(records=records, written=disk.found)  # this is no first start, whatever the start line says


def _run(
    definition: ProtocolDefinition,
    config: ClusterConfig,
    role: _Role,
    disk: Disk | None,
    identity: IdentityFile | None,
    build: Callable[[NodeHost], Node],
) -> None:
    with asyncio.Runner(loop_factory=DatagramLoop) as runner:
        runner.run(_serve(definition, config, role, disk, identity, build))


async def _serve(
    definition: ProtocolDefinition,
    config: ClusterConfig,
    role: _Role,
    disk: Disk | None,
    identity: IdentityFile | None,
    build: Callable[[NodeHost], Node],
) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()
    host = NodeHost(
        loop,
        config,
        definition.message_types,
        open_member_sockets(config, role.address),
        member=role.address,
        report=_report,
        disk=disk,
        identify=(lambda first: None) if identity is None else identity.keep,
        stopped=partial(_stop, ended),
    )
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _resolve, ended, signal.Signals(number).name)
        loop.set_exception_handler(lambda _, context: _fail(host, ended, context))
        host.start(build(host))
        if not ended.done():
            _report(f"{role.kind} started", {role.kind: role.number, **_what_runs(host, definition, config)})
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        with Watchdog(host, config, _report) if role.kind == "replica" else nullcontext():
            signal_name = await ended
        if disk is not None:
            disk.sync(loop)
        _report(f"{role.kind} ends", {role.kind: role.number, "signal": signal_name})
    finally:
        host.close()


def _what_runs(host: NodeHost, definition: ProtocolDefinition, config: ClusterConfig) -> dict[str, Any]:
    return {
        "endpoint": text_of(host.sockets.endpoint),
        "protocol": definition.name,
        "durability": config.durability,
        "batched_sockets": BATCHED,
    }


def _resolve(ended: asyncio.Future[str], signal_name: str) -> None:
    if not ended.done():
        ended.set_result(signal_name)


def _stop(ended: asyncio.Future[str], reason: str) -> None:
    logger.error("replica stopped", extra={"details": {"reason": reason}})
    if not ended.done():
        ended.set_exception(StrettoError(reason))


def _fail(host: NodeHost, ended: asyncio.Future[str], context: dict[str, Any]) -> None:
    """End the process without sending anything more: after a bug or a disk failure, any further message could be wrong."""
    host.close()
    error = context.get("exception")
    if isinstance(error, StorageFailure):
        logger.critical("disk failed", extra={"details": {"reason": str(error)}})
        if not ended.done():
            ended.set_exception(error)
        return
    logger.critical("replica failed", exc_info=error, extra={"details": {"message": context["message"]}})
    if not ended.done():
        ended.set_exception(StrettoError(f"the process stopped because of a bug: {error!r}; the log has the traceback"))


def _report(event: str, details: dict[str, Any]) -> None:
    logger.info(event, extra={"details": details})


@contextmanager
def _logging_to(log: str | Path | None) -> Iterator[None]:
    handler = _json_lines(log)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _json_lines(file: str | Path | None) -> logging.Handler:
    if file is None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
    else:
        try:
            handler = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"the log cannot be written: {error.strerror}", file=file) from None
    handler.setFormatter(_JsonLine())
    return handler


class _JsonLine(logging.Formatter):
    """Formats time, level, event and the event's details as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time_s": round(record.created, 6), "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "details", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=repr).decode()
