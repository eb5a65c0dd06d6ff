"""The schedule of faults: which kind, which replica, when. Drawn from a seed, and limited to what the protocol promises to survive. Pure.

The draws do not depend on the run, so a seed gives the same strikes again. Their times do depend on it: if none of a strike's targets may
be hit, the strike waits until one may.
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
    """One kind of fault: what it does, its longest duration, and what it needs.

    `durable`: the replicas must keep their state on disk; `network`: they must be connected by our switch; `ends`: it ends the process.
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
    "kill": Kind("the process is killed and restarted, with its disk or else with lost state", 2_000 * MILLISECOND, ends=True),
    "terminate": Kind("the process is asked to end, and restarted in the same way", 500 * MILLISECOND, ends=True),
    "pause": Kind("the process is stopped and later continued", 2_000 * MILLISECOND),
    WIPE: Kind("the process is killed and restarted with an empty disk", 2_000 * MILLISECOND, durable=True, ends=True),
    POWER_CUT: Kind("all processes are killed at once and restarted with their disks", 1_000 * MILLISECOND, durable=True, ends=True),
    FULL_DISK: Kind("its disk is full; the process is restarted if that ended it", 1_000 * MILLISECOND, durable=True, ends=True),
    "isolate": Kind("no packet reaches the replica or leaves it", 3_000 * MILLISECOND, network=True),
    "deafen": Kind("no packet reaches the replica", 3_000 * MILLISECOND, network=True),
    "mute": Kind("no packet leaves the replica", 3_000 * MILLISECOND, network=True),
    "cut_link": Kind("no packet from one other replica reaches the replica", 3_000 * MILLISECOND, network=True),
    "lose": Kind("some packets from and to the replica are lost", 3_000 * MILLISECOND, network=True),
}
"""Every kind of fault by its name."""


class Strike(NamedTuple):
    """One scheduled fault. It begins `rest_ns` after the previous one, hits the first of `targets` that may be hit, and lasts `lasts_ns`.

    `disturbs`: it may hit a replica that was restarted and does not serve yet. `peer` picks the other end of a link among the other
    replicas. `loss` is the share of packets that are lost. Most kinds use neither.
    """

    rest_ns: int
    kind: str
    targets: tuple[int, ...]
    lasts_ns: int
    disturbs: bool
    peer: int
    loss: float


def with_small_disk(replicas: int) -> int:
    """The index of the one replica whose disk can be filled."""
    return replicas - 1


def strikes(seed: int, replicas: int, kinds: Sequence[str]) -> Iterator[Strike]:
    """Endless strikes. Every kind occurs once before any kind occurs again, so that a short run covers most of them."""
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
    """A log-uniform draw: every order of magnitude between the limits is equally likely."""
    return round(low_ns * math.pow(high_ns / low_ns, random.random()))


class Impaired:
    """The replicas that are under a fault or still recovering, and so which replica the next fault may hit.

    Invariant: except in a power cut, at most f replicas are impaired at a time. So at most f have lost their state (with disks: their disk)
    or are unreachable.
    """

    def __init__(self, replicas: int) -> None:
        self.f = (replicas - 1) // 2
        self.struck: dict[int, str] = {}
        """The kind of the current fault of each replica under a fault. A replica has one at a time."""
        self.recovering: set[int] = set()
        """The replicas that were restarted and have not served since."""
        self._replicas = range(replicas)

    def target_of(self, strike: Strike) -> int | None:
        """The replica that the strike may hit now; None if it has to wait. (A power cut hits all replicas, so its target means nothing.)"""
        impaired = self.struck.keys() | self.recovering
        excluded = self.struck.keys() if strike.disturbs else impaired
        if strike.kind == POWER_CUT:
            return None if excluded else strike.targets[0]
        return next((target for target in strike.targets if target not in excluded and len(impaired | {target}) <= self.f), None)

    def begin(self, kind: str, target: int) -> None:
        """Record that the fault has begun."""
        for replica in self._replicas if kind == POWER_CUT else (target,):
            self.struck[replica] = kind

    def end(self, replica: int, *, restarted: bool) -> None:
        """Record that the replica's fault has ended. `restarted`: it has a new process, which does not serve yet."""
        del self.struck[replica]
        if restarted:
            self.recovering.add(replica)

    def back(self, replica: int) -> None:
        """Record that the replica serves again."""
        self.recovering.discard(replica)
