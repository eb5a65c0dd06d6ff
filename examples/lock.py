"""A lock with a lease and a fencing token: state that depends on time, and errors of the service.

A lease ends by itself, so a crashed owner cannot hold the lock for ever. The owner may not notice that its lease has ended (its
process may have been paused), so the lock alone does not protect the resource. Each `acquire` therefore returns a greater token. The owner
sends it with each request to the resource that the lock guards, and the resource refuses a token that is less than the greatest it has
seen.

`self.now_ns` is the time by the clock of the client that calls. Leases should be much longer than these clocks differ.

Run it, in this folder:

    $ stretto cluster init --service lock:Lock
    cluster.toml written: 3 replicas, protocol adaptive, durability memory. Start it with: stretto cluster up
    $ stretto cluster up
    3 replicas up, durability memory; logs are in .
    $ python lock.py
    Ada has the lock with token 1
    Bob must wait: Ada holds the lock
    Bob has the lock with token 2
    $ stretto cluster down
    3 replicas ended
"""

from typing import Annotated

from msgspec import Meta

import stretto
from stretto import ApplicationError, Cell, Service, operation, query

Seconds = Annotated[int, Meta(ge=1, le=3600)]


class Held(ApplicationError):
    """Somebody else holds the lock."""


class LeaseEnded(ApplicationError):
    """The token is not that of the present lease."""


class Lock(Service):
    """One lock. Its owner is a name; its token grows with each new lease."""

    errors = (Held, LeaseEnded)

    def __init__(self) -> None:
        self.owner = Cell[str | None](None)
        self.until_ns = Cell[int](0)
        self.token = Cell[int](0)

    @operation
    def acquire(self, owner: str, seconds: Seconds) -> int:
        """Take the lock for so many seconds. Returns the token of the lease. Raises Held."""
        holder = self.holder()
        if holder is not None:
            raise Held(f"{holder} holds the lock")
        self.owner.value = owner
        self.token.value += 1
        self._extend(seconds)
        return self.token.value

    @operation
    def renew(self, token: int, seconds: Seconds) -> None:
        """Keep the lock for so many seconds from now on. Raises LeaseEnded."""
        self._check(token)
        self._extend(seconds)

    @operation
    def release(self, token: int) -> None:
        """Give the lock back. Raises LeaseEnded."""
        self._check(token)
        self.owner.value = None

    @query
    def holder(self) -> str | None:
        """Who holds the lock now."""
        return self.owner.value if self.now_ns < self.until_ns.value else None

    def _check(self, token: int) -> None:
        if self.holder() is None or token != self.token.value:
            raise LeaseEnded(f"the lease with token {token} has ended")

    def _extend(self, seconds: int) -> None:
        self.until_ns.value = self.now_ns + seconds * 1_000_000_000


def main() -> None:
    """Two owners, one after the other."""
    # As a script this module is not the module "lock" that the cluster loads, so its Held is another class: catch the base.
    with stretto.connect("cluster.toml") as cluster:
        lock = cluster.service(Lock)
        token = lock.acquire("Ada", 60)
        print(f"Ada has the lock with token {token}")
        try:
            lock.acquire("Bob", 60)
        except ApplicationError as error:
            print(f"Bob must wait: {error}")
        lock.release(token)
        print(f"Bob has the lock with token {lock.acquire('Bob', 60)}")


if __name__ == "__main__":
    main()
