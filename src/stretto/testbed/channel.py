"""The controller's connection to one switch. It reconnects whenever the connection is lost, and tracks the table of the switch.

The flows and groups of a switch outlive a connection. The channel therefore reads the switch's ports, flows and groups before it counts as
connected, and keeps `table` up to date from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

from stretto.core.errors import StrettoError
from stretto.testbed import openflow
from stretto.testbed.changes import applied
from stretto.testbed.flows import EMPTY, Table, table_from
from stretto.testbed.openflow import FlowEntry, Group, Message, Port

T = TypeVar("T", FlowEntry, Group, Port)
_RETRY_S = 0.05
_ECHO_S = 0.5
_SILENCE_S = 2.0
"""How long a switch may take to answer. This detects a process that hangs; a process that ends closes its connection."""
_MOST_ENTRIES = 200_000
_MISS_SEND_BYTES = 128


class Refused(StrettoError):
    """A switch refused a request."""


class Lost(StrettoError):
    """There is no connection to a switch, or it was lost before the answer."""


class _Question:
    """A request that waits for its answer, a message of type `expected`. An answer in several parts collects in `entries`."""

    def __init__(self, expected: type[Message]) -> None:
        self.expected = expected
        self.answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.entries: list[FlowEntry | Group | Port] = []


class Channel:
    """The connection to the switch that listens at a Unix socket. `changed` is called when the connection or a port goes up or down."""

    def __init__(self, socket: Path, changed: Callable[[], None]) -> None:
        self.connected = False
        self.table = EMPTY
        self.up: set[int] = set()
        """The ports that are up."""
        self._socket = socket
        self._changed = changed
        self._writer: asyncio.StreamWriter | None = None
        self._transactions = count(1)
        self._questions: dict[int, _Question] = {}
        self._refusals: list[str] = []

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(self._socket)
                await self._converse(reader)
            await asyncio.sleep(_RETRY_S)

    async def carry_out(self, messages: Sequence[Message]) -> list[str]:
        """Send changes of flows and groups, and wait until all are done. Returns what the switch refused.

        Raises Lost if the connection is lost before that.
        """
        self._refusals.clear()
        for message in messages:
            self._send(message)
        await self._ask(openflow.BarrierRequest(), openflow.BarrierReply)
        self.table = await self.read() if self._refusals else applied(self.table, messages)
        return list(self._refusals)

    async def read(self) -> Table:
        """Read the flows and groups from the switch. Raises Lost or Refused."""
        return table_from(await self._list(openflow.FLOWS, FlowEntry), await self._list(openflow.GROUPS, Group))

    async def packets(self) -> Counter[int]:
        """How many packets the flows have matched, by cookie. Raises Lost or Refused."""
        matched: Counter[int] = Counter()
        for _, cookie, packets in await self._list(openflow.FLOWS, FlowEntry):
            matched[cookie] += packets
        return matched

    async def _converse(self, reader: asyncio.StreamReader) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(reader))
                tasks.create_task(self._talk())
        except* (OSError, EOFError, StrettoError):
            pass  # each of these means that the connection is unusable
        finally:
            self._lose()

    async def _talk(self) -> None:
        """Read the state of the switch, then check regularly that it answers."""
        self._send(openflow.Hello())
        self._send(openflow.SetConfig(_MISS_SEND_BYTES))
        async with asyncio.timeout(_SILENCE_S):
            self.up = {port.number for port in await self._list(openflow.PORTS, Port) if port.up}
            self.table = await self.read()
        self.connected = True
        self._changed()
        while True:
            await asyncio.sleep(_ECHO_S)
            async with asyncio.timeout(_SILENCE_S):
                await self._ask(openflow.EchoRequest(), openflow.EchoReply)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while True:
            _, kind, length, transaction = openflow.HEADER.unpack(await reader.readexactly(openflow.HEADER.size))
            if length < openflow.HEADER.size:
                raise Lost(f"a frame of {length} bytes")
            self._handle(openflow.decode(kind, await reader.readexactly(length - openflow.HEADER.size)), transaction)

    def _handle(self, message: Message, transaction: int) -> None:
        question = self._questions.get(transaction)
        match message:
            case openflow.EchoRequest(data):
                self._send(openflow.EchoReply(data), transaction)
            case openflow.PortStatus(port):
                self.up = self.up | {port.number} if port.up else self.up - {port.number}
                self._changed()
            case openflow.Error(kind, code):
                self._refusals.append(f"error {kind}.{code}")
                if question is not None and not question.answer.done():
                    question.answer.set_exception(Refused(self._refusals[-1]))
            case _ if question is not None and isinstance(message, question.expected) and not question.answer.done():
                self._answer(question, message)

    def _answer(self, question: _Question, message: Message) -> None:
        if isinstance(message, openflow.MultipartReply):
            question.entries += message.entries
            if len(question.entries) > _MOST_ENTRIES:
                raise Lost(f"more than {_MOST_ENTRIES} entries")
            if message.more:
                return
        question.answer.set_result(message)

    def _send(self, message: Message, transaction: int | None = None) -> int:
        if self._writer is None or self._writer.is_closing():
            raise Lost("not connected")
        if transaction is None:
            transaction = next(self._transactions) & 0xFFFFFFFF
        self._writer.write(openflow.encode(message, transaction))
        return transaction

    async def _ask(self, message: Message, expected: type[Message]) -> _Question:
        """Send a request and wait for the answer. Raises Lost or Refused."""
        transaction = self._send(message)
        question = self._questions[transaction] = _Question(expected)
        try:
            await question.answer
        finally:
            del self._questions[transaction]
        return question

    async def _list(self, request: openflow.MultipartRequest, kind: type[T]) -> list[T]:
        question = await self._ask(request, openflow.MultipartReply)
        return [entry for entry in question.entries if isinstance(entry, kind)]

    def _lose(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(Lost("the connection was lost"))
        if self.connected:
            self.connected = False
            self._changed()
