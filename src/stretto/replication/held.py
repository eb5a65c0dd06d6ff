"""Requests that wait until they can be appended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from stretto.replication.messages import Request
from stretto.replication.sessions import identity, slot


class HeldRequests:
    """At most `limit` requests that arrived, in the order of their arrival, each once; those that were rolled back may come on top."""

    def __init__(self, limit: int) -> None:
        self._requests: dict[tuple[int, int], Request] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    def add(self, request: Request) -> bool:
        """Keep a request, if there is room."""
        if len(self._requests) >= self._limit:
            return False
        self._requests[identity(request)] = request
        return True

    def put_before(self, removed: Iterable[Request], placed: Iterable[Request]) -> None:
        """Keep `removed`, which was in the log, before all others; but nothing that is among those that have been `placed` there."""
        gone = {identity(request) for request in placed}
        waiting = [*removed, *self]
        self._requests = {identity(request): request for request in waiting if identity(request) not in gone}

    def forget_superseded(self) -> None:
        """Keep the newest request of each session. (For a new view; within one, others may have the older ones too.)

        Its client has gone on from an older one: that was answered, and so is in the log that the view started with, or it was given up.
        """
        newest: dict[tuple[int, int], int] = {}
        for request in self:
            newest[slot(request)] = max(request.number, newest.get(slot(request), 0))
        self._requests = {key: request for key, request in self._requests.items() if request.number == newest[slot(request)]}

    def keep(self, is_worth: Callable[[Request], bool]) -> None:
        """Keep only those that are worth it."""
        self._requests = {key: request for key, request in self._requests.items() if is_worth(request)}

    def take(self) -> list[Request]:
        """All of them, which are kept no longer."""
        requests = list(self)
        self._requests = {}
        return requests
