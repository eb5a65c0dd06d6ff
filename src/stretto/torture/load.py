"""The load, and what its callers observed. There are two kinds of sessions, because the linearizability checker cannot search millions of
operations.

- *Contending* sessions all call at the same moments, on a few keys, so that their calls are concurrent. Every call is recorded for the
  checker. The keys change over time. Each key's history therefore stays short, and the search stays fast even where outcomes are unknown.
- *Marking* sessions make up the bulk of the load. Each session appends its own tokens, 0, 1, 2, ..., to pages that no other session writes.
  At the end every acknowledged token must be present exactly once. Checking that needs counting only, not a search.
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
"""Calls per second of all contending sessions together: 120,000 in ten minutes, which the checker can still search quickly."""
_KEYS, _KEYS_LAST_NS = 3, 2_000_000_000
"""How many keys the contending sessions use at a time, and for how long."""
PAGE = 128
"""Tokens per page. It is small because each append copies the whole page."""

Execute = Callable[[bytes], Awaitable[bytes]]


class Workload(Protocol):
    """Encodes operations of the replicated service and decodes their results. Keys, pages and values are numbers."""

    def contended(self, random: Random, key: int, value: int) -> bytes:
        """One operation of a mix on a key. Each call passes a different `value`."""

    def read(self, key: int) -> bytes:
        """Read a contended key."""

    def mark(self, session: int, page: int, token: int) -> bytes:
        """Append a token to a page of a session."""

    def read_page(self, session: int, page: int) -> bytes:
        """Read a page."""

    def tokens_of(self, page: bytes) -> list[int]:
        """The tokens in the result of `read_page`, in order."""


class Service:
    """Counts answers and measures the longest time without one. Times are nanoseconds since the load began."""

    def __init__(self) -> None:
        self.answered = self.unanswered = 0
        self.last_error: str | None = None
        self.longest_gap_ns = 0
        self.gap_ended_ns = 0
        self._began_ns = monotonic_ns()
        self._last_ns = 0

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the load began."""
        return monotonic_ns() - self._began_ns

    def answer(self) -> int:
        """Record that a call was answered now. Returns the time."""
        now_ns = self.look()
        self.answered += 1
        self._last_ns = now_ns
        return now_ns

    def failure(self, error: StrettoError) -> None:
        """Record that a call ended with an error, so that the outcome of its operation is unknown."""
        self.unanswered += 1
        self.last_error = f"{type(error).__name__}: {error}"

    def look(self) -> int:
        """Take the time since the last answer into account, even if no answer has ended it yet. Returns the time."""
        now_ns = self.now_ns
        if now_ns - self._last_ns > self.longest_gap_ns:
            self.longest_gap_ns, self.gap_ended_ns = now_ns - self._last_ns, now_ns
        return now_ns


class Marks:
    """The tokens of one marking session. `acknowledged[token]` is 1 if the append of the token was answered."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.acknowledged = bytearray()

    @property
    def pages(self) -> range:
        """The numbers of the pages that the session wrote."""
        return range(-(-len(self.acknowledged) // PAGE))

    def compare(self, page: int, found: Iterable[int]) -> tuple[int, int]:
        """Compare a page, read after the load has ended, with what was written.

        Returns how many tokens are lost (acknowledged, but not found) and how many are found more than once.
        """
        counts = Counter(found)
        written = range(page * PAGE, min(len(self.acknowledged), (page + 1) * PAGE))
        lost = sum(self.acknowledged[token] and token not in counts for token in written)
        return lost, sum(counts.values()) - len(counts)


class Load:
    """All sessions, which call through `execute`. They make `rate` calls per second, and `CONTENDED_RATE` of these are contending.

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
        """Make calls until `end` is called."""
        contending = [self._contend(session) for session in range(CONTENDING)]
        await asyncio.gather(*contending, *map(self._mark, self.marks))

    def end(self) -> None:
        """Stop starting new calls."""
        self._over.set()

    async def read_back(self) -> tuple[int, int] | None:
        """Read everything once more after the load has ended: the contended keys, as part of the history, and all pages.

        Returns how many tokens are lost and how many are found more than once; None if a page cannot be read.
        """
        self.service.look()
        await asyncio.gather(*map(self._read_contended, range(CONTENDING)))
        lost = repeated = 0
        try:
            for page in range(max(len(marks.pages) for marks in self.marks)):
                found = await asyncio.gather(*(self._compare(marks, page) for marks in self.marks if page in marks.pages))
                lost += sum(missing for missing, _ in found)
                repeated += sum(duplicated for _, duplicated in found)
        except StrettoError as error:
            self.service.last_error = f"{type(error).__name__}: {error}"
            return None
        return lost, repeated

    async def _read_contended(self, session: int) -> None:
        """Read this session's share of the contended keys."""
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
