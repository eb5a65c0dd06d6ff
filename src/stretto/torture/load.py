"""The load, and what its callers saw: two kinds of sessions, since a checker that searches cannot take millions of operations.

- *Contending* sessions call all at the same moments, on a few keys, so that their calls meet. All of it is recorded, for the checker. The
  keys change with time, so that each key's history stays short, which keeps the search fast even where outcomes are not known.
- *Marking* sessions make the bulk of the load. Each appends tokens of its own, 0, 1, 2, ..., to pages that nobody else writes. What was
  acknowledged must be there in the end, once; that takes counting, not searching.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from time import monotonic_ns
from typing import Protocol

from stretto.core.errors import StrettoError
from stretto.verify.history import Operation

CONTENDING, MARKING = 8, 32
CONTENDED_RATE = 200
"""Calls a second of all contending sessions together: 120,000 in ten minutes, which the checker takes in its stride."""
_KEYS, _KEYS_LAST_NS = 3, 2_000_000_000
"""How many keys are contended at a time, and for how long."""
PAGE = 128
"""Tokens in a page: an append copies it."""

Execute = Callable[[bytes], Awaitable[bytes]]


class Workload(Protocol):
    """Encoded operations of the replicated service, and what their results say. Keys, pages and values are numbers."""

    def contended(self, random: Random, key: int, value: int) -> bytes:
        """One of a mix of operations on a key; `value` is like no other."""

    def read(self, key: int) -> bytes:
        """Read a contended key."""

    def mark(self, session: int, page: int, token: int) -> bytes:
        """Append a token to a page of a session."""

    def read_page(self, session: int, page: int) -> bytes:
        """Read a page."""

    def tokens_of(self, page: bytes) -> list[int]:
        """The tokens in what `read_page` gave, in their order."""


class Service:
    """When the callers were served. Times are nanoseconds since the load began."""

    def __init__(self) -> None:
        self.answered = self.unanswered = 0
        self.last_error: str | None = None
        self.longest_gap_ns = 0
        self.gap_ended_ns = 0
        self._began_ns = monotonic_ns()
        self._last_ns = 0

    @property
    def now_ns(self) -> int:
        """The time."""
        return monotonic_ns() - self._began_ns

    def answer(self) -> int:
        """A call has been answered now; when that is."""
        now_ns = self.look()
        self.answered += 1
        self._last_ns = now_ns
        return now_ns

    def failure(self, error: StrettoError) -> None:
        """A call has ended, and nobody knows what became of its operation."""
        self.unanswered += 1
        self.last_error = f"{type(error).__name__}: {error}"

    def look(self) -> int:
        """Count a gap that is still open; the time."""
        now_ns = self.now_ns
        if now_ns - self._last_ns > self.longest_gap_ns:
            self.longest_gap_ns, self.gap_ended_ns = now_ns - self._last_ns, now_ns
        return now_ns


class Marks:
    """The tokens of one session. `acknowledged[token]`: whether its append was answered."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.acknowledged = bytearray()

    @property
    def pages(self) -> range:
        """The pages that the session wrote."""
        return range(-(-len(self.acknowledged) // PAGE))

    def compare(self, page: int, found: Iterable[int]) -> tuple[int, int]:
        """How many tokens of a page, read when the load had ended, are lost (acknowledged and gone), and how many are there too often."""
        counts = Counter(found)
        written = range(page * PAGE, min(len(self.acknowledged), (page + 1) * PAGE))
        lost = sum(self.acknowledged[token] and token not in counts for token in written)
        return lost, sum(counts.values()) - len(counts)


class Load:
    """The sessions, calling through `execute`: `rate` calls a second together, of which `CONTENDED_RATE` contend.

    `history` holds the calls of the contending sessions.
    """

    def __init__(self, execute: Execute, workload: Workload, seed: int, rate: int) -> None:
        self.service = Service()
        self.history: list[Operation] = []
        self.marks = [Marks(session) for session in range(MARKING)]
        self._execute = execute
        self._workload = workload
        self._seed = seed
        self._marking_interval_ns = round(MARKING / max(1, rate - CONTENDED_RATE) * 1e9)
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Call until `end`."""
        contending = [self._contend(session) for session in range(CONTENDING)]
        await asyncio.gather(*contending, *map(self._mark, self.marks))

    def end(self) -> None:
        """Begin no more calls."""
        self._over.set()

    async def read_back(self) -> tuple[int, int] | None:
        """Read everything once more when the load has ended: the contended keys as part of the history, and all pages.

        How many tokens are lost, and how many are there too often; None if they cannot be read.
        """
        self.service.look()
        await asyncio.gather(*map(self._read_contended, range(CONTENDING)))
        lost = repeated = 0
        try:
            for page in range(max(len(marks.pages) for marks in self.marks)):
                for missing, doubled in await asyncio.gather(*(self._compare(marks, page) for marks in self.marks if page in marks.pages)):
                    lost += missing
                    repeated += doubled
        except StrettoError as error:
            self.service.last_error = f"{type(error).__name__}: {error}"
            return None
        return lost, repeated

    async def _read_contended(self, session: int) -> None:
        """Its share of the contended keys."""
        for key in range(session, (self.service.now_ns // _KEYS_LAST_NS + 1) * _KEYS, CONTENDING):
            await self._record(session, self._workload.read(key))

    async def _compare(self, marks: Marks, page: int) -> tuple[int, int]:
        result = await self._execute(self._workload.read_page(marks.session, page))
        return marks.compare(page, self._workload.tokens_of(result))

    async def _contend(self, session: int) -> None:
        interval_ns = round(CONTENDING / CONTENDED_RATE * 1e9)
        random = Random(f"{self._seed}/{session}")
        while not self._over.is_set():
            await self._rest_until((self.service.now_ns // interval_ns + 1) * interval_ns)
            key = self.service.now_ns // _KEYS_LAST_NS * _KEYS + random.randrange(_KEYS)
            await self._record(session, self._workload.contended(random, key, len(self.history)))

    async def _record(self, session: int, operation: bytes) -> None:
        call = Operation(session, operation, self.service.now_ns)
        self.history.append(call)
        try:
            result = await self._execute(operation)
        except StrettoError as error:
            call.error = type(error).__name__
            self.service.failure(error)
        else:
            call.returned_ns = self.service.answer()
            call.result = result

    async def _mark(self, marks: Marks) -> None:
        due_ns = self._marking_interval_ns * marks.session // MARKING
        while not self._over.is_set():
            await self._rest_until(due_ns)
            token = len(marks.acknowledged)
            marks.acknowledged.append(0)
            try:
                await self._execute(self._workload.mark(marks.session, token // PAGE, token))
            except StrettoError as error:
                self.service.failure(error)
            else:
                self.service.answer()
                marks.acknowledged[token] = 1
            due_ns = max(due_ns + self._marking_interval_ns, self.service.now_ns)

    async def _rest_until(self, due_ns: int) -> None:
        delay_ns = due_ns - self.service.now_ns
        if delay_ns > 0:
            await asyncio.sleep(delay_ns / 1e9)
