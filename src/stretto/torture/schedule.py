"""Which fault strikes when and whom: drawn from a seed, and bounded by what the protocol promises to survive. Pure.

The draws do not depend on what happens, so a seed gives the same strikes again. How they fall does: a strike whose targets are all
spoken for waits until one of them is free.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

MILLISECOND = 1_000_000
_SHORTEST_NS = 50 * MILLISECOND
_REST_NS = (20 * MILLISECOND, 1_500 * MILLISECOND)


class Kind(NamedTuple):
    """One kind of fault: what it does, how long it lasts at most, and what it needs.

    `durable`: the replicas keep what they promised on disk; `network`: they are behind a switch of ours; `ends`: it ends the process.
    """

    what: str
    longest_ns: int
    durable: bool = False
    network: bool = False
    ends: bool = False


POWER_CUT = "power_cut"
WIPE = "wipe"
FULL_DISK = "full_disk"
KINDS = {
    "kill": Kind("the process is killed, and started again: with its disk, or else without memory", 2_000 * MILLISECOND, ends=True),
    "terminate": Kind("the process is asked to end, and started again in the same way", 500 * MILLISECOND, ends=True),
    "pause": Kind("the process is stopped and goes on later, as if nothing had been", 2_000 * MILLISECOND),
    WIPE: Kind("the process is killed, and started again with an empty disk", 2_000 * MILLISECOND, durable=True, ends=True),
    POWER_CUT: Kind("all processes are killed at once, and started again with their disks", 1_000 * MILLISECOND, durable=True, ends=True),
    FULL_DISK: Kind("its disk is full; the process is started again if that ended it", 1_000 * MILLISECOND, durable=True, ends=True),
    "isolate": Kind("no packet reaches the replica or leaves it", 3_000 * MILLISECOND, network=True),
    "deafen": Kind("no packet reaches the replica", 3_000 * MILLISECOND, network=True),
    "mute": Kind("no packet leaves the replica", 3_000 * MILLISECOND, network=True),
    "cut_link": Kind("no packet of one other replica reaches the replica", 3_000 * MILLISECOND, network=True),
    "lose": Kind("some packets from and to the replica are lost", 3_000 * MILLISECOND, network=True),
}
"""Every kind of fault by its name."""


class Strike(NamedTuple):
    """One fault to come: `rest_ns` after the one before it, on the first of `targets` that may be struck, for `lasts_ns`.

    `disturbs`: it may hit a replica that was restarted and is not back in service. `peer` picks the other end of a link among the other
    replicas; `loss` is the share of packets that are lost. Most kinds use neither.
    """

    rest_ns: int
    kind: str
    targets: tuple[int, ...]
    lasts_ns: int
    disturbs: bool
    peer: int
    loss: float


def with_small_disk(replicas: int) -> int:
    """The one replica whose disk can be filled."""
    return replicas - 1


def strikes(seed: int, replicas: int, kinds: Sequence[str]) -> Iterator[Strike]:
    """Strikes without end. Each kind strikes once before one strikes again, so that a short run has seen most of them."""
    random = Random(seed)
    while True:
        for kind in random.sample(kinds, len(kinds)):
            yield Strike(
                rest_ns=_log_uniform(random, *_REST_NS),
                kind=kind,
                targets=(with_small_disk(replicas),) if kind == FULL_DISK else tuple(random.sample(range(replicas), replicas)),
                lasts_ns=_log_uniform(random, _SHORTEST_NS, KINDS[kind].longest_ns),
                disturbs=random.random() < 0.25,
                peer=random.randrange(1, replicas),
                loss=random.choice((0.01, 0.1, 0.5)),
            )


def _log_uniform(random: Random, low_ns: int, high_ns: int) -> int:
    """A draw that is as likely in each order of magnitude between the two."""
    return round(low_ns * math.pow(high_ns / low_ns, random.random()))


class Impaired:
    """Who is struck, or not back yet, and so who may be struck next.

    Invariant: but for a power cut, at most f replicas are impaired at a time. So never more than f are without memory or unreachable, and
    where there is a disk, never more than f have lost it.
    """

    def __init__(self, replicas: int) -> None:
        self.f = (replicas - 1) // 2
        self.struck: dict[int, str] = {}
        """What strikes a replica at this moment. One thing at a time."""
        self.recovering: set[int] = set()
        """Those that were started again and have not been in service since."""
        self._replicas = range(replicas)

    def target_of(self, strike: Strike) -> int | None:
        """The replica that the strike may hit now; None if it has to wait. (A power cut hits all; its target says nothing.)"""
        spoken_for = self.struck.keys() if strike.disturbs else self.struck.keys() | self.recovering
        if strike.kind == POWER_CUT:
            return None if spoken_for else strike.targets[0]
        impaired = self.struck.keys() | self.recovering
        return next((target for target in strike.targets if target not in spoken_for and len(impaired | {target}) <= self.f), None)

    def begin(self, kind: str, target: int) -> None:
        """The fault has struck."""
        for replica in self._replicas if kind == POWER_CUT else (target,):
            self.struck[replica] = kind

    def end(self, replica: int, *, restarted: bool) -> None:
        """The fault has ended for this replica; `restarted`: its process is a new one, and not in service yet."""
        del self.struck[replica]
        if restarted:
            self.recovering.add(replica)

    def back(self, replica: int) -> None:
        """The replica says that it is in service."""
        self.recovering.discard(replica)
