"""The host of one node on real sockets. It implements the node's port, and the path from a readable socket to the sent answers.

A *burst* reads the datagrams that have arrived, passes their messages to the node one by one, and then sends all messages of the node,
grouped by destination so that they share datagrams. Bursts repeat while there is input. Their number is bounded, so that timers and streams
are served too. A timer, a frame from a stream and a call from outside also make a burst.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random
from time import monotonic_ns
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.framing import Framing, Refused
from stretto.core.node import Address, Message, Node
from stretto.runtime.addresses import FIRST_ENDPOINT, LAST_ENDPOINT, endpoint_to_int, member_endpoint, text_of
from stretto.runtime.batching import BATCHED, Receiver, Send, send_many
from stretto.runtime.disk import Disk
from stretto.runtime.loop import DatagramLoop
from stretto.runtime.sockets import NodeSockets
from stretto.runtime.streams import Streams
from stretto.runtime.timers import Timers

_DATAGRAMS_A_CALL = 64
_CALLS_A_BURST = 8
_BURSTS_A_TURN = 8
_ALL = 0xFFFF
_SHOWN_BYTES = 48

Report = Callable[[str, dict[str, Any]], None]


class NodeHost:
    """Drives one node, and is its `Port`.

    Parameters:

    - `sockets`: the host owns them from now on;
    - `member`: the address of a replica or sequencer; None for a client;
    - `report(event, details)`: called for each `port.report`;
    - `disk`: stores what the node persists; None for a node without a disk;
    - `identify(first)`: called for each `port.identify`;
    - `stopped(reason)`: called when the node has to stop;
    - `max_messages_per_datagram`: by default as many as fit;
    - `send`: passes datagrams to the kernel.

    Build the node with the host as its port, then `start` the host with the node.
    """

    # CPython keeps at most thirty attributes of an object where they are reached fast; slots have no limit.
    __slots__ = (
        *("_at_burst_end", "_begun_bursts", "_closed", "_disk", "_due", "_endpoints", "_framing", "_group_endpoints"),
        *("_group_outbox", "_identify", "_in_burst", "_is_replica", "_max_datagram_bytes", "_max_messages", "_members"),
        *("_multicast_reaches_self", "_on_stopped", "_others", "_outbox", "_readable", "_receivers", "_report", "_send"),
        *("_started_ns", "_stopped", "_streams", "_syncs", "_timers", "_to_self", "address", "bursts", "datagrams_dropped"),
        *("datagrams_received", "datagrams_sent", "loop", "messages_dropped", "messages_received", "messages_sent", "node"),
        *("random", "refused", "sockets"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: ClusterConfig,
        message_types: Sequence[type[Message]],
        sockets: NodeSockets,
        *,
        member: Address | None,
        report: Report,
        disk: Disk | None = None,
        identify: Callable[[Sequence[int]], None] = lambda first: None,
        stopped: Callable[[str], None] = lambda reason: None,
        max_messages_per_datagram: int | None = None,
        send: Send = send_many,
    ) -> None:
        self.loop = loop
        self.sockets = sockets
        self.address: Address = sockets.endpoint if member is None else member
        self.random = Random(int.from_bytes(os.urandom(16), "big"))
        self.node: Node | None = None
        self.bursts = self._begun_bursts = 0
        """How many bursts received datagrams."""
        self.datagrams_received = self.datagrams_sent = self.datagrams_dropped = 0
        self.messages_received = self.messages_sent = self.messages_dropped = 0
        self.refused: Counter[str] = Counter()
        cluster = config.digest()
        limit = config.limits.max_datagram_bytes
        self._max_datagram_bytes = limit
        self._framing = Framing(cluster, self.address, message_types, limit)
        self._max_messages = max_messages_per_datagram or _ALL
        self._send = send
        self._report = report
        self._disk = disk
        self._identify = identify
        self._on_stopped = stopped
        self._stopped = self._syncs = False
        self._endpoints = {address: member_endpoint(config, address) for address in range(len(config.members))}
        self._members = {endpoint: address for address, endpoint in self._endpoints.items()}
        self._others = [self._endpoints[replica] for replica in range(config.n) if replica != member]
        group = config.multicast
        self._group_endpoints = self._others if group is None else [endpoint_to_int((group.group, group.port))]
        # A replica is a member of the group. The network returns its own multicasts to it only if the group has loopback.
        self._is_replica = self.address < config.n
        self._multicast_reaches_self = not self._is_replica or (group is not None and group.loopback)
        self._outbox: defaultdict[Address, list[Message]] = defaultdict(list)
        self._group_outbox: list[Message] = []
        self._to_self: list[Message] = []
        self._in_burst = True  # until `start`, which sends the messages of the node's constructor
        self._closed = False
        self._due: asyncio.Handle | None = None
        self._timers = Timers(loop, self._on_timer)
        self._at_burst_end: dict[str, None] = {}
        self._readable = [sockets.datagrams] if sockets.group is None else [sockets.group, sockets.datagrams]
        self._receivers = [Receiver(sock, _DATAGRAMS_A_CALL, limit + 1).receive for sock in self._readable]
        self._streams = Streams(loop, sockets.streams, cluster, config.limits.max_stream_bytes, self)
        self._started_ns = monotonic_ns()

    def start(self, node: Node) -> None:
        """Begin to drive `node`, after everything that its constructor persisted is durable."""
        self.node = node
        if self._disk is not None:
            self._disk.sync(self.loop)
        turn = self._turn
        for sock in self._readable:
            if isinstance(self.loop, DatagramLoop):
                self.loop.serve(sock, turn)
            else:
                self.loop.add_reader(sock, turn)
        self._in_burst = False
        self._ask_for_turn()

    def close(self) -> None:
        """Stop driving the node and close the sockets. Must not be called from within the node. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for sock in self._readable if self.node is not None else ():
            if isinstance(self.loop, DatagramLoop):
                self.loop.unserve(sock)
            else:
                self.loop.remove_reader(sock)
        if self._due is not None:
            self._due.cancel()
        self._in_burst = True  # messages that the node still sends are never flushed
        self._timers.close()
        self._streams.close()
        self.sockets.close()

    # The port

    @property
    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        return monotonic_ns()

    @property
    def wall_ns(self) -> int:
        """The wall clock of this machine."""
        return time.time_ns()

    def send(self, destination: Address, message: Message) -> None:
        """Send one message to one address, at the end of the burst."""
        self._outbox[destination].append(message)
        if not self._in_burst:
            self._ask_for_turn()

    def multicast(self, message: Message) -> None:
        """Send one message to the replica group, at the end of the burst."""
        self._group_outbox.append(message)
        if not self._in_burst:
            self._ask_for_turn()

    def set_timer(self, name: str, delay_ns: int) -> None:
        """Call `on_timer(name)` after `delay_ns` nanoseconds, or at the end of the burst if that is 0."""
        if delay_ns:
            self._timers.set(name, delay_ns)
        else:
            self._timers.cancel(name)
            self._at_burst_end[name] = None
            if not self._in_burst:
                self._ask_for_turn()

    def cancel_timer(self, name: str) -> None:
        """Cancel the timer."""
        self._timers.cancel(name)
        self._at_burst_end.pop(name, None)

    @property
    def durable(self) -> bool:
        """Whether the node has a disk."""
        return self._disk is not None

    @property
    def late_ns(self) -> int:
        """See `Port.late_ns`."""
        return self._timers.late_ns

    @property
    def written(self) -> int | None:
        """See `Port.written`."""
        return None if self._disk is None else self._disk.written

    def persist(self, record: Message) -> None:
        """Write a record to disk before any message that is sent after this call."""
        assert self._disk is not None
        self._disk.persist(record)

    def identify(self, first: Sequence[int]) -> None:
        """See `Port.identify`. It is on disk before anything that is sent after this call."""
        self._identify(first)

    def compact(self, records: Sequence[Message]) -> None:
        """Replace all earlier records on disk by these, at some later time."""
        assert self._disk is not None
        self._disk.compact(records)

    def stop(self, reason: str, *, distrust: bool = False) -> None:
        """Stop calling the node, and send none of its messages any more. If its data is not to be trusted, that is written there."""
        self._stopped = True
        if distrust and self._disk is not None:
            self._disk.distrust(reason)
        self._on_stopped(reason)

    def report(self, event: str, **details: Any) -> None:
        """Report an event, which goes to the log."""
        self._report(event, details)

    # Bursts

    def _ask_for_turn(self) -> None:
        if self._due is None:
            self._due = self.loop.call_soon(self._due_turn)

    def _due_turn(self) -> None:
        self._due = None
        self._turn()

    def _turn(self) -> None:
        """Handle bursts while there is input, at most _BURSTS_A_TURN of them."""
        self._in_burst = True
        try:
            for _ in range(_BURSTS_A_TURN):
                self._begun_bursts += 1
                if self._outbox or self._group_outbox:  # sent from outside a burst
                    self._flush()
                more = self._receive()
                if self._to_self:
                    self._deliver_to_self()
                    more = True
                while self._at_burst_end:
                    self._fire_at_burst_end()
                if self._outbox or self._group_outbox:
                    self._flush()
                if not more:
                    break
        finally:
            self._in_burst = False
        if self._to_self:
            self._ask_for_turn()

    def _receive(self) -> bool:
        """Pass the datagrams that have arrived to the node. Returns whether more are likely to have arrived meanwhile."""
        unpack = self._framing.unpack
        members = self._members
        total = messages_total = 0
        # The group's socket comes first, because messages between replicas refer to multicasts.
        for receive in self._receivers:
            for _ in range(_CALLS_A_BURST):
                datagrams = receive()
                for source, data in datagrams:
                    try:
                        sender, messages = unpack(data)
                    except Refused as refused:
                        self.refuse(refused.reason if len(data) <= self._max_datagram_bytes else "datagram larger than max_datagram_bytes")
                        continue
                    if members.get(source, source) != sender:
                        self.refuse("sender does not match its address")
                        continue
                    messages_total += len(messages)
                    self._hand_over(sender, messages)
                total += len(datagrams)
                if len(datagrams) < _DATAGRAMS_A_CALL:
                    break
        if total:
            self.bursts += 1
            self.datagrams_received += total
            self.messages_received += messages_total
        return total > 1

    def _hand_over(self, sender: Address, messages: Sequence[Message]) -> None:
        assert self.node is not None
        on_message = self.node.on_message
        for message in messages:
            if self._stopped:
                return
            on_message(sender, message)

    def _deliver_to_self(self) -> None:
        messages, self._to_self = self._to_self, []
        self._hand_over(self.address, messages)

    def _fire_at_burst_end(self) -> None:
        assert self.node is not None
        name, _ = self._at_burst_end.popitem()
        if not self._stopped:
            self.node.on_timer(name)

    def _flush(self) -> None:
        """Send the node's messages after everything that it has persisted is durable. A burst without messages does not sync."""
        if self._stopped:
            self._outbox.clear()
            self._group_outbox.clear()
            return
        if self._disk is not None:
            self._syncs = True
            self._disk.sync(self.loop)
            self._syncs = False
        pack = self._framing.pack
        max_messages = self._max_messages
        datagrams: list[tuple[int, bytes]] = []
        if self._group_outbox:
            self._flush_group(datagrams)
        for destination, messages in self._outbox.items():
            endpoint = self._endpoints.get(destination, destination)
            if destination == self.address:
                self._to_self += messages
            elif not FIRST_ENDPOINT <= endpoint <= LAST_ENDPOINT:
                self.messages_dropped += len(messages)
            else:
                frames, oversize = pack(messages, max_messages)
                for frame in frames:
                    datagrams.append((endpoint, frame))
                for frame in oversize:
                    self._streams.send(endpoint, frame)
                self.messages_sent += len(messages)
        self._outbox.clear()
        taken = self._send(self.sockets.datagrams, datagrams)
        self.datagrams_sent += taken
        self.datagrams_dropped += len(datagrams) - taken

    def _flush_group(self, datagrams: list[tuple[int, bytes]]) -> None:
        messages = self._group_outbox
        frames, oversize = self._framing.pack(messages, self._max_messages)
        for endpoint in self._group_endpoints:
            for frame in frames:
                datagrams.append((endpoint, frame))
        for endpoint in self._others:
            for frame in oversize:
                self._streams.send(endpoint, frame)
        if not self._multicast_reaches_self:
            self._to_self += messages
        elif oversize and self._is_replica:
            self._to_self += [message for message in messages if self._framing.pack([message])[1]]
        self.messages_sent += len(messages)
        messages.clear()

    def _on_timer(self, name: str) -> None:
        assert self.node is not None
        if self._stopped:
            return
        self._in_burst = True
        try:
            self.node.on_timer(name)
        finally:
            self._in_burst = False
        self._turn()

    # Input from streams

    def on_frame(self, host: int, frame: bytes) -> None:
        """Handle a frame that arrived over a stream from this IPv4 address."""
        try:
            sender, messages = self._framing.unpack(frame)
        except Refused as refused:
            return self.refuse(refused.reason)
        if self._endpoints.get(sender, sender) >> 16 != host:
            return self.refuse("sender does not match its address")
        self.messages_received += len(messages)
        self._in_burst = True
        try:
            self._hand_over(sender, messages)
        finally:
            self._in_burst = False
        return self._turn()

    def refuse(self, reason: str) -> None:
        """Count input that was refused."""
        self.refused[reason] += 1

    def progress(self) -> tuple[int, int] | None:
        """What changes whenever the node has handled something; None while it is idle. Any thread may ask."""
        if not self._in_burst:
            return None
        state = getattr(self.node, "state", None)
        return self._begun_bursts, 0 if state is None else state.log.last

    def occupation(self) -> dict[str, Any]:
        """What the node is busy with: the disk, or the last entry of its log, which is the one that it executes, if it executes one.

        Any thread may ask; what it reads may be of a moment later.
        """
        if self._syncs:
            return {"with": "waiting for the disk"}
        state = getattr(self.node, "state", None)
        if state is None or state.log.last <= state.log.start:
            return {"with": "no operation"}
        try:
            entry = state.log.entry_at(state.log.last)
        except (AssertionError, IndexError):
            return {"with": "rolling back"}
        operation = repr(entry.operation[:_SHOWN_BYTES])
        place = {"position": state.log.last, "session": entry.session, "number": entry.number}
        return {"with": "the last operation of the log, or what followed it", "operation": operation, **place}

    # Metrics

    def answer(self) -> bytes:
        """The metrics as JSON, the answer to a question over a stream."""
        return msgspec.json.encode(self.metrics())

    def metrics(self) -> dict[str, Any]:
        """The node's metrics and the runtime's counters. `ignored_messages` counts what either of them ignored, by reason."""
        assert self.node is not None
        metrics = self.node.metrics()
        ignored = Counter(metrics.get("ignored_messages", {})) + self.refused
        metrics.update({name: getattr(self, name) for name in _COUNTERS})
        if self._disk is not None:
            metrics.update(self._disk.metrics())
        metrics.update({f"stream_frames_{name}": self._streams.counters[name] for name in ("received", "sent", "dropped", "repeated")})
        metrics.update(
            ignored_messages=dict(sorted(ignored.items())),
            endpoint=text_of(self.sockets.endpoint),
            pid=os.getpid(),
            uptime_s=(monotonic_ns() - self._started_ns) / 1e9,
            cpu_s=time.process_time(),
            rss_bytes=_resident_bytes(),
            collections=sum(generation["collections"] for generation in gc.get_stats()),
            batched_sockets=BATCHED,
        )
        return metrics


_COUNTERS = ("bursts", *(f"{unit}_{what}" for unit in ("datagrams", "messages") for what in ("received", "sent", "dropped")))


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
