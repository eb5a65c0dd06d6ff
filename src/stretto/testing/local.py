"""A service without a cluster."""

from __future__ import annotations

from functools import partial
from math import isfinite
from random import Random
from typing import Any

from stretto.services.service import Service, ServiceCodec, newest

_START_NS = 1_000_000_000
_CALL_NS = 1_000_000


class Local:
    """A service without a cluster, in this process; made by `local`.

    Its methods are the operations and queries of the service. (If one of these is called `advance`, `Local.advance(service, seconds)` moves
    the clock.)
    """

    def __init__(self, service_class: type[Service], seed: int = 0) -> None:
        self._codec = ServiceCodec(service_class)
        self._machine = newest(service_class)
        self._random = Random(seed)
        self._now_ns = _START_NS
        for name in self._codec.methods:
            setattr(self, name, partial(self._call, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"{self._codec.name} has no operation {name!r}; it has {', '.join(sorted(self._codec.methods))}")

    def advance(self, seconds: float) -> None:
        """Move the clock that the service reads as `self.now_ns` forward by so many seconds.

        Raises ValueError if the time is negative, infinite or not a number, TypeError if it is no number at all.
        """
        if not isinstance(seconds, int | float):
            raise TypeError(f"advance takes seconds as a number, not {seconds!r}")
        if not isfinite(seconds) or seconds < 0:
            raise ValueError(f"the clock moves only forward, by a finite time: not by {seconds} seconds")
        self._now_ns += round(seconds * 1_000_000_000)

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        operation = self._codec.encode(name, args, kwargs)
        self._now_ns += _CALL_NS
        result, _ = self._machine.execute(operation, self._now_ns, self._random.getrandbits(32))
        return self._codec.decode(name, result)


def local(service_class: type[Service], *, seed: int = 0) -> Local:
    """The service without a cluster: calls go through encoding, execution and roll-back as on a replica, in this process.

        lock = local(Lock)
        assert lock.acquire("Ada", 10)
        lock.advance(11)
        assert lock.acquire("Bob", 10)

    The clock starts at one second and moves on by a millisecond at each call, and by `advance(seconds)`. `seed`: where the service's
    randomness comes from. Raises TypeError if the class is no service.
    """
    return Local(service_class, seed)
