"""An asyncio loop with a short path for datagram sockets.

One iteration of asyncio's loop costs as much as handling a small datagram. The selector, in which the loop waits, therefore handles
datagrams itself. It returns to the loop only for other work: a stream, a signal, a timer, or a callback that was scheduled meanwhile.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any

Turn = Callable[[], None]


class _DatagramSelector(selectors.EpollSelector):
    """Waits on two levels: an outer epoll holds the served sockets and an inner epoll, in which the loop registers everything else.

    `wanted`: the loop has a callback or timer that was added after it began to wait.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        super().__init__()
        self.wanted = False
        self._on_error = on_error
        self._turns: dict[int, Turn] = {}
        self._outer = select.epoll()
        self._outer.register(self.fileno(), select.EPOLLIN)

    def serve(self, sock: socket.socket, turn: Turn) -> None:
        self._turns[sock.fileno()] = turn
        self._outer.register(sock, select.EPOLLIN)

    def unserve(self, sock: socket.socket) -> None:
        del self._turns[sock.fileno()]
        self._outer.unregister(sock)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.wanted = False
        poll, turns = self._outer.poll, self._turns
        until = None if timeout is None else monotonic() + timeout
        while True:
            ready = poll(timeout)
            last = None
            for fd, _ in ready:
                turn = turns.get(fd)
                if turn is None:
                    self.wanted = True
                elif turn is not last:  # one turn drains all sockets of its node
                    last = turn
                    try:
                        turn()
                    except Exception as error:
                        self._on_error(error)
            if until is not None:
                timeout = until - monotonic()
            if not ready or self.wanted or (timeout is not None and timeout <= 0):
                return super().select(0)

    def close(self) -> None:
        self._outer.close()
        super().close()


class DatagramLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that serves datagram sockets outside its own iterations. Callbacks of this loop may have to wait for one turn."""

    def __init__(self) -> None:
        self._datagrams = _DatagramSelector(self._on_error)
        super().__init__(self._datagrams)

    def serve(self, sock: socket.socket, turn: Turn) -> None:
        """Call `turn` whenever `sock` is readable. `turn` is one object for all sockets of a node."""
        self._datagrams.serve(sock, turn)

    def unserve(self, sock: socket.socket) -> None:
        """Stop serving `sock`."""
        self._datagrams.unserve(sock)

    def stop(self) -> None:
        """As in asyncio."""
        self._datagrams.wanted = True
        super().stop()

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """As in asyncio."""
        self._datagrams.wanted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in asyncio."""
        self._datagrams.wanted = True
        return super().call_at(when, callback, *args, context=context)

    def _on_error(self, error: Exception) -> None:
        self.call_exception_handler({"message": "an exception while datagrams were handled", "exception": error})
