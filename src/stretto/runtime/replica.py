"""The replica process: one node, its sockets, its log, until it is told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError, StrettoError
from stretto.core.protocol import BOOTSTRAP, ProtocolDefinition
from stretto.core.state_machine import StateMachine
from stretto.runtime.addresses import text_of
from stretto.runtime.batching import BATCHED
from stretto.runtime.host import NodeHost
from stretto.runtime.loop import DatagramLoop
from stretto.runtime.sockets import open_replica_sockets

logger = logging.getLogger("stretto.replica")

# Entries of a log are untracked, so almost nothing on the hot path counts as an allocation; what does is freed at once, without cycles.
_GC_THRESHOLDS = (50_000, 50, 100)


def run_replica(
    definition: ProtocolDefinition,
    config: ClusterConfig,
    index: int,
    machine_factory: Callable[[], StateMachine],
    *,
    bootstrap: bool,
    log: str | Path | None = None,
) -> None:
    """Run replica `index` of the cluster in this process, until SIGTERM or SIGINT.

    `bootstrap`: this replica has never run before, so that it may begin with an empty log. `log`: the file that JSON lines are
    appended to; None for standard error.

    Raises ConfigurationError for what keeps it from starting, and StrettoError if it stopped because of a bug in itself.
    """
    if not bootstrap:
        reason = (
            f"replica {index} would begin with an empty log, and has no way to recover an earlier one;"
            " --bootstrap says that it has never run before, or that the whole cluster starts anew"
        )
        raise ConfigurationError(reason)
    handler = _json_lines(log)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        with asyncio.Runner(loop_factory=DatagramLoop) as runner:
            runner.run(_serve(definition, config, index, machine_factory))
    finally:
        logger.removeHandler(handler)
        handler.close()


async def _serve(
    definition: ProtocolDefinition, config: ClusterConfig, index: int, machine_factory: Callable[[], StateMachine]
) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()
    host = NodeHost(
        loop, config, definition.message_types, open_replica_sockets(config, index), index=index, report=_report
    )
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _resolve, ended, signal.Signals(number).name)
        loop.set_exception_handler(lambda _, context: _fail(host, ended, context))
        host.start(definition.replica(host, config, index, machine_factory(), BOOTSTRAP))
        _report(
            "replica started",
            {"replica": index, "endpoint": text_of(host.sockets.endpoint), "protocol": definition.name, "batched_sockets": BATCHED},
        )
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        _report("replica ends", {"replica": index, "signal": await ended})
    finally:
        host.close()


def _resolve(ended: asyncio.Future[str], signal_name: str) -> None:
    if not ended.done():
        ended.set_result(signal_name)


def _fail(host: NodeHost, ended: asyncio.Future[str], context: dict[str, Any]) -> None:
    """A replica that contradicts itself must not say another word: it could be wrong."""
    host.close()
    error = context.get("exception")
    logger.critical("replica failed", exc_info=error, extra={"details": {"message": context["message"]}})
    if not ended.done():
        ended.set_exception(StrettoError(f"the replica stopped because of a bug in itself: {error!r}; the log has the traceback"))


def _report(event: str, details: dict[str, Any]) -> None:
    logger.info(event, extra={"details": details})


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
    """time, level, event, and the event's own details, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time_s": round(record.created, 6), "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "details", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=repr).decode()
