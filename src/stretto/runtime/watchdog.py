"""The watchdog of a replica process: a thread that speaks for the node while that is busy.

A node is called from one thread. While it executes a long operation, or waits for its disk, it sends nothing, and to the others that looks
like the end of its process. So a thread of its own looks at regular intervals whether the node still handles the same thing. If so, it
tells the other members that the process is alive, and for how long the node has been busy. After a second, the log says what it is busy
with: an operation that never ends has a name then. (An operation that keeps Python's lock, in one
call of C code, silences this thread too.)
"""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.framing import Framing
from stretto.core.node import Busy
from stretto.runtime.addresses import endpoint_of, member_endpoint
from stretto.runtime.host import NodeHost, Report

LONG_SECONDS = 1.0
"""After this time, the log says what the node is busy with. Each time after that is ten times as long."""


class Watchdog:
    """Tells the other replicas that `host` is busy, while it handles one thing for longer than a quarter of `leader_timeout_ms`.

    Use it as a context manager: the thread runs inside. `report(event, details)` is called by it when something takes very long.
    """

    def __init__(self, host: NodeHost, config: ClusterConfig, report: Report) -> None:
        self._host = host
        self._report = report
        self._interval_s = config.timeouts.leader_timeout_ms / 4_000
        self._framing = Framing(config.digest(), host.address, (Busy,), config.limits.max_datagram_bytes)
        self._endpoints = [endpoint_of(member_endpoint(config, replica)) for replica in range(config.n) if replica != host.address]
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stretto watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        seen: Any = None
        since, next_report_s = monotonic(), LONG_SECONDS
        while not self._ends.wait(self._interval_s):
            now, mark = monotonic(), self._host.progress()
            if mark is None or mark != seen:
                seen, since, next_report_s = mark, now, LONG_SECONDS
            elif now - since >= self._interval_s:
                self._speak(round((now - since) * 1_000))
                if now - since >= next_report_s:
                    next_report_s *= 10
                    self._report("busy for long", {"for_s": round(now - since, 3), **self._host.occupation()})

    def _speak(self, for_ms: int) -> None:
        frames, _ = self._framing.pack([Busy(for_ms)])
        for endpoint in self._endpoints:
            for frame in frames:
                with suppress(OSError):  # it is said again
                    self._host.sockets.datagrams.sendto(frame, endpoint)
