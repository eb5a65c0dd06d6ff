"""Pending requests: they wait until they can be appended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from stretto.replication.messages import Request
from stretto.replication.sessions import identity, slot


class PendingRequests:
    """At most `limit` requests in the order of their arrival, each once. Requests that were rolled back may exceed the limit.

    `accept` is called with a request that need not wait any more.
    """

    def __init__(self, limit: int, accept: Callable[[Request], None]) -> None:
        self.accept = accept
        self._requests: dict[tuple[int, int], Request] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    def add(self, request: Request) -> bool:
        """Keep a request. False if there is no room for it."""
        if len(self._requests) >= self._limit:
            return False
        self._requests[identity(request)] = request
        return True

    def put_before(self, removed: Iterable[Request], placed: Iterable[Request]) -> None:
        """Keep `removed`, the requests that were rolled back, before all others. Drop those in `placed`, which the log has now."""
        gone = {identity(request) for request in placed}
        waiting = [*removed, *self]
        self._requests = {identity(request): request for request in waiting if identity(request) not in gone}

    def forget_superseded(self) -> None:
        """Keep only the newest request of each session. Only for a new view: within a view, other replicas may have appended older ones.

        A client sends its next request when the older one was answered, so the log has it, or when its call has ended without an answer.
        """
        newest: dict[tuple[int, int], int] = {}
        for request in self:
            newest[slot(request)] = max(request.number, newest.get(slot(request), 0))
        self.keep(lambda request: request.number == newest[slot(request)])

    def keep(self, is_wanted: Callable[[Request], bool]) -> None:
        """Keep only the requests that `is_wanted` is true for."""
        self._requests = {key: request for key, request in self._requests.items() if is_wanted(request)}

    def accept_all(self) -> None:
        """Accept all of them, as if they had arrived now."""
        requests = list(self)
        self._requests = {}
        for request in requests:
            self.accept(request)
