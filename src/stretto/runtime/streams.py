"""Frames over TCP, for messages that do not fit a datagram. They use the same two endpoints, and may be lost like datagrams.

Each frame is preceded by its length, four bytes. A connection carries frames in one direction, from the node that opened it; the peer
answers over its own connection. The exception is a question to the runtime itself (see `question`), which is answered on the same
connection. If a peer is down, only the frames to that peer are lost. A frame is not sent while an equal one is still on its way: nodes send
again what is not answered, and over a slow link that would fill the queue with copies of what the connection delivers anyway.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections import Counter, deque
from typing import Protocol

from stretto.core.framing import HEADER_BYTES, MAGIC, VERSION
from stretto.runtime.addresses import endpoint_of, endpoint_to_int

LENGTH_BYTES = 4
_PREFIX_BYTES = 12  # magic, version, authentication and cluster, which identify frames of this cluster
_MAX_PEERS = 1_024
_MAX_CONNECTIONS = 1_024
_CONNECT_TIMEOUT_S = 0.25
_SILENCE_MS = 500
"""A connection without an acknowledgement for this long is closed, and the data queued on it is dropped. TCP would double its
retransmission timeout each time, so a peer that was unreachable for seconds would receive nothing for more seconds after that."""
_IDLE_S = 30.0
_FIRST_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 0.25


def frame_prefix(cluster: bytes) -> bytes:
    """The first bytes of every frame of this cluster."""
    return MAGIC + bytes((VERSION, 0)) + cluster


def question(cluster: bytes) -> bytes:
    """A frame that asks the runtime, not the node, for its metrics. The runtime answers with a frame of JSON and closes the connection."""
    return b"Sm" + frame_prefix(cluster)[len(MAGIC) :]


def with_length(frame: bytes) -> bytes:
    """The frame with its length before it, as a stream carries it."""
    return len(frame).to_bytes(LENGTH_BYTES, "big") + frame


class StreamOwner(Protocol):
    """The callbacks of `Streams` to its node's host."""

    def on_frame(self, host: int, frame: bytes) -> None:
        """Handle a frame from a peer at this IPv4 address. Of a frame of another cluster only the header is passed, to be refused."""

    def refuse(self, reason: str) -> None:
        """Count refused input."""

    def answer(self) -> bytes:
        """The answer to a `question`."""


class Streams:
    """All TCP connections of one node: those that peers opened to `listener`, and one to each peer that the node sends to.

    Parameters: `cluster`, the digest of the configuration; `max_bytes`, the size of the largest frame; `owner`, whose callbacks are called.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, cluster: bytes, max_bytes: int, owner: StreamOwner
    ) -> None:
        self.loop = loop
        self.owner = owner
        self.max_bytes = max_bytes
        self.prefix = frame_prefix(cluster)
        self.question = question(cluster)
        self.host = str(listener.getsockname()[0])
        self.incoming: set[_Incoming] = set()
        self.peers: dict[int, _Peer] = {}
        self.counters: Counter[str] = Counter()
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._accepting = loop.create_task(self._listen())

    async def _listen(self) -> None:
        self._server = await self.loop.create_server(lambda: _Incoming(self), sock=self._listener, start_serving=False)
        await self._server.start_serving()

    def send(self, endpoint: int, frame: bytes) -> None:
        """Send a frame to an endpoint, and connect first if needed. If the peer is down or slow, the frame is dropped and counted."""
        peer = self.peers.get(endpoint)
        if peer is None:
            if len(self.peers) >= _MAX_PEERS:
                self._forget_one_that_is_down()
            if len(self.peers) >= _MAX_PEERS:
                self.counters["dropped"] += 1
                return
            peer = self.peers[endpoint] = _Peer(self, endpoint)
        peer.send(frame)

    def _forget_one_that_is_down(self) -> None:
        down = next((endpoint for endpoint, peer in self.peers.items() if peer.is_down), None)
        if down is not None:
            del self.peers[down]

    def close(self) -> None:
        """Close every connection and the listening socket."""
        self._accepting.cancel()
        if self._server is not None:
            self._server.close()
        self._listener.close()
        for peer in list(self.peers.values()):
            peer.close()
        for incoming in list(self.incoming):
            incoming.close()


class _Incoming(asyncio.Protocol):
    """A connection that a peer opened."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._buffer = bytearray()
        self._host = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._host = endpoint_to_int(transport.get_extra_info("peername")) >> 16
        if len(self._streams.incoming) >= _MAX_CONNECTIONS:
            self._refuse("too many connections")
        else:
            self._streams.incoming.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.incoming.discard(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take_frame():
            pass

    def _take_frame(self) -> bool:
        """Handle the first frame of the buffer, if it is complete. A connection from another cluster is closed after its first header."""
        buffer, streams = self._buffer, self._streams
        assert self._transport is not None
        if len(buffer) < LENGTH_BYTES or self._transport.is_closing():
            return False
        length = int.from_bytes(buffer[:LENGTH_BYTES], "big")
        end = LENGTH_BYTES + length
        if len(buffer) < min(end, LENGTH_BYTES + HEADER_BYTES):
            return False
        prefix = bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + min(length, _PREFIX_BYTES)])
        if prefix == streams.question and length == len(prefix):
            self._transport.write(with_length(streams.owner.answer()))
            self._transport.close()
            return False
        elif prefix != streams.prefix:
            streams.owner.on_frame(self._host, bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + min(length, HEADER_BYTES)]))
            self.close()
            return False
        elif length > streams.max_bytes:
            self._refuse("frame larger than max_stream_bytes")
            return False
        elif len(buffer) < end:
            return False
        else:
            streams.counters["received"] += 1
            streams.owner.on_frame(self._host, bytes(buffer[LENGTH_BYTES:end]))
        del buffer[:end]
        return True

    def _refuse(self, reason: str) -> None:
        self._streams.owner.refuse(reason)
        self.close()


class _Peer(asyncio.Protocol):
    """The connection to one peer. It opens with the first frame, closes when idle, and backs off exponentially after failures."""

    def __init__(self, streams: Streams, endpoint: int) -> None:
        self._streams = streams
        self._endpoint = endpoint
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._backoff_s = _FIRST_BACKOFF_S
        self._not_before = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._last_used = 0.0
        self._written = 0  # bytes passed to the transport, over its whole life
        self._on_the_way: deque[tuple[int, int]] = deque()  # the hash of each frame that may still be, and `_written` after it

    @property
    def is_down(self) -> bool:
        """Whether there is no connection and none is being opened."""
        return self._transport is None and self._connecting is None

    def send(self, frame: bytes) -> None:
        """See `Streams.send`. At most `max_bytes` of frames are queued."""
        streams, transport = self._streams, self._transport
        now = streams.loop.time()
        queued = self._waiting_bytes if transport is None else transport.get_write_buffer_size()
        down = self.is_down and now < self._not_before
        if not down and self._is_on_the_way(frame):
            streams.counters["repeated"] += 1
            return
        if down or (queued and queued + len(frame) > streams.max_bytes) or len(frame) > streams.max_bytes:
            streams.counters["dropped"] += 1
            return
        streams.counters["sent"] += 1
        self._last_used = now
        self._written += LENGTH_BYTES + len(frame)
        self._on_the_way.append((hash(frame), self._written))
        if transport is not None:
            transport.write(with_length(frame))
            return
        self._waiting.append(with_length(frame))
        self._waiting_bytes += len(frame)
        if self._connecting is None:
            self._connecting = streams.loop.create_task(self._connect())

    def _is_on_the_way(self, frame: bytes) -> bool:
        """Whether an equal frame waits here or in the kernel, or has left and the peer's kernel has not acknowledged all of it."""
        transport, frames = self._transport, self._on_the_way
        if transport is not None:
            in_kernel = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            acknowledged = self._written - transport.get_write_buffer_size() - struct.unpack("i", in_kernel)[0]
            while frames and frames[0][1] <= acknowledged:
                frames.popleft()
        key = hash(frame)
        return any(key == other for other, _ in frames)

    async def _connect(self) -> None:
        streams = self._streams
        host, port = endpoint_of(self._endpoint)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await streams.loop.create_connection(lambda: self, host, port, local_addr=(streams.host, 0))
        except OSError:
            self._not_before = streams.loop.time() + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, _MAX_BACKOFF_S)
            streams.counters["dropped"] += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._on_the_way.clear()
        finally:
            self._connecting = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
        self._backoff_s = _FIRST_BACKOFF_S
        transport.writelines(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._idle = self._streams.loop.call_later(_IDLE_S, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._idle is not None:
            self._idle.cancel()
        self._streams.peers.pop(self._endpoint, None)

    def _close_if_idle(self) -> None:
        assert self._transport is not None
        quiet = self._streams.loop.time() - self._last_used
        if quiet >= _IDLE_S and not self._transport.get_write_buffer_size():
            self._transport.close()
        else:
            self._idle = self._streams.loop.call_later(max(1.0, _IDLE_S - quiet), self._close_if_idle)

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
