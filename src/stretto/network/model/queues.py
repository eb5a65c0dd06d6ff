"""An output port, without an event loop: departures of all its packets by running maxima.

`own` packets are those whose departures are asked for (multicasts), `other` ones only load the port. Times and transmission times
are int64 arrays of picoseconds, in the order of arrival. Where both kinds arrive in the same instant, `own` comes first.

First in, first out. With A the arrivals and C the summed transmission times, the last bit of packet n leaves at
C[n] + max over k <= n of (A[k] - C[k-1]): Lindley's recursion as a scan in the max-plus algebra. The `other` packets between two of
our own enter by their maximum alone, so they need not be merged.

Strict priority, `own` before `other`, without interrupting a packet. A low packet starts when the high packets and the earlier low ones
are done, at the same moment as if high packets did interrupt it: work is work. So take the busy periods of the high packets alone
out of the clock, scan the low ones on the clock that is left, and put the busy periods back: these are the starts of the low ones.
Each high packet then waits, in effect arrives, until the end of the low packet that started before it; scan these.

A buffer holds what has not been sent yet, counted in transmission time, each class on its own under priority; a packet that would
make it more than `capacity` is dropped. Where the scan never goes above that, nothing is dropped and the scan is exact. Where it does,
the busy periods in which it does, and no others, are played packet by packet: the port is idle between busy periods, and drops only
make them shorter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Times: TypeAlias = NDArray[np.int64]

NEVER = int(np.iinfo(np.int64).max)
"""The departure of a packet that was dropped, and the arrival of one that did not."""
_BLOCK = 32_768
"""Scans go through memory in blocks that stay in the cache."""
_LONG_AGO = -(1 << 62)


_Replay: TypeAlias = Callable[[list[int], list[int], list[bool], int], tuple[list[int], int]]
"""From arrivals, transmission times, which are our own, and the capacity, to our departures and how many others were dropped."""


class Served(NamedTuple):
    """What became of a port's packets: when our own ones left (NEVER: dropped), and how many of the others were dropped."""

    departures: Times
    others_dropped: int


def scan(arrivals: Times, transmissions: Times) -> Times:
    """The departures of packets that share one queue, none dropped."""
    departures = np.empty_like(arrivals)
    free = _LONG_AGO
    for first in range(0, len(arrivals), _BLOCK):
        block = slice(first, first + _BLOCK)
        sent = np.cumsum(transmissions[block])
        out = departures[block]
        np.subtract(arrivals[block], sent, out=out)
        out += transmissions[block]
        np.maximum.accumulate(out, out=out)
        np.maximum(out, free, out=out)
        out += sent
        free = int(out[-1])
    return departures


def serve_fifo(own: Times, own_time: int, other: Times, other_times: Times, capacity: int) -> Served:
    """All packets in one queue. Each of our own takes `own_time` to send."""
    before = np.searchsorted(other, own, "left")
    latest, sent, backlog = _fold(other, other_times, before)
    own_sent = np.arange(len(own), dtype=np.int64) * own_time
    departures = np.maximum(latest, own - sent) - own_sent
    np.maximum.accumulate(departures, out=departures)
    departures += sent + own_sent + own_time
    # What our own packets add to the queue of the others is largest right after one of them, and only shrinks until the next.
    without = np.maximum(np.maximum.accumulate(latest) + sent - own, 0)
    added = int((departures - own - without).max(initial=0))
    if max(int((departures - own).max(initial=0)), backlog + added) <= capacity:
        return Served(departures, 0)
    return _with_drops(_replay_fifo, departures, own, own_time, other, other_times, capacity)


def serve_priority(own: Times, own_time: int, other: Times, other_times: Times, capacity: int) -> Served:
    """Our own packets, each of which takes `own_time` to send, ahead of all others."""
    clock = _Clock(own, scan(own, np.full(len(own), own_time)))
    starts, backlog = _low_starts(clock, other, other_times)
    last = np.searchsorted(starts, clock.own_low_time, "left") - 1
    low_done = clock.real_time(starts[last]) + other_times[last] if len(starts) else np.zeros_like(own)
    departures = scan(np.where(last >= 0, np.maximum(own, low_done), own), np.full(len(own), own_time))
    if max(backlog, int((departures - own).max(initial=0))) <= capacity:
        return Served(departures, 0)
    return _with_drops(_replay_priority, departures, own, own_time, other, other_times, capacity)


def _fold(other: Times, other_times: Times, before: NDArray[np.intp]) -> tuple[Times, Times, int]:
    """The queue of the others alone, as our own packets need it; `before[i]` others come before our packet i.

    For each of our own: the maximum of A[k] - C[k-1] over the others since our previous packet, and the C of all others before it.
    Then the largest backlog that an arrival of the others makes.
    """
    sent_before = np.zeros(len(before), np.int64)
    latest = np.full(len(before), _LONG_AGO, np.int64)
    total, highest, backlog = 0, _LONG_AGO, 0
    for first in range(0, len(other), _BLOCK):
        times = other_times[first : first + _BLOCK]
        sent = np.cumsum(times)
        sent += total
        slack = other[first : first + _BLOCK] - sent
        slack += times
        low, high = np.searchsorted(before, (first, first + len(times)), "right")
        inside = before[low:high] - first
        sent_before[low:high] = sent[inside - 1]
        # Our packets low..high cut this block into pieces; the last piece counts for our next packet.
        cuts = np.concatenate(([0], inside))
        pieces = np.maximum.reduceat(np.append(slack, _LONG_AGO), cuts)
        pieces[:-1][cuts[:-1] == cuts[1:]] = _LONG_AGO
        np.maximum(latest[low : high + 1], pieces[: len(latest) - low], out=latest[low : high + 1])
        total = int(sent[-1])
        top = np.maximum.accumulate(slack)
        np.maximum(top, highest, out=top)
        highest = int(top[-1])
        top -= slack
        top += times
        backlog = max(backlog, int(top.max()))
    return latest, sent_before, backlog


class _Clock:
    """Time without the busy periods of our own packets, which are sent as if they were alone."""

    def __init__(self, own: Times, departures: Times) -> None:
        opens = np.ones(len(own), bool)
        opens[1:] = own[1:] > departures[:-1]
        first = np.flatnonzero(opens)
        self.begin = own[first]
        self.end = departures[np.append(first[1:], len(own)) - 1] if len(own) else departures
        self.busy = np.cumsum(self.end - self.begin)
        """What all busy periods up to and with this one take."""
        self.low_begin = self.end - self.busy
        self.own_low_time: Times = self.low_begin[np.cumsum(opens) - 1] if len(own) else own

    def low_time(self, arrivals: Times) -> Times:
        """The remaining clock at each of many sorted moments."""
        first, last = np.searchsorted(arrivals, self.begin, "left"), np.searchsorted(arrivals, self.end, "left")
        pieces = np.diff(np.concatenate(([0], first, [len(arrivals)])))
        result = arrivals - np.repeat(np.concatenate(([0], self.busy)), pieces)
        counts = last - first
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        result[np.repeat(first, counts) + offsets] = np.repeat(self.low_begin, counts)
        return result

    def real_time(self, low_times: Times) -> Times:
        """The inverse: the first moment at which the remaining clock has shown `low_times` and no busy period is going on."""
        passed: Times = np.concatenate(([0], self.busy))[np.searchsorted(self.low_begin, low_times, "right")]
        return low_times + passed


def _low_starts(clock: _Clock, other: Times, other_times: Times) -> tuple[Times, int]:
    """When each low packet starts, on the remaining clock, and the largest backlog that an arrival makes there."""
    starts = clock.low_time(other)
    total, highest, backlog = 0, _LONG_AGO, 0
    for first in range(0, len(other), _BLOCK):
        times = other_times[first : first + _BLOCK]
        out = starts[first : first + _BLOCK]
        sent = np.cumsum(times)
        sent += total
        total = int(sent[-1])
        sent -= times
        slack = out - sent
        np.maximum.accumulate(slack, out=out)
        np.maximum(out, highest, out=out)
        highest = int(out[-1])
        np.subtract(out, slack, out=slack)
        slack += times
        backlog = max(backlog, int(slack.max()))
        out += sent
    return starts, backlog


def _with_drops(replay: _Replay, departures: Times, own: Times, own_time: int, other: Times, other_times: Times, capacity: int) -> Served:
    """Put right the busy periods in which more than `capacity` would be waiting; `departures` are what they are without drops."""
    place = np.searchsorted(other, own, "left")
    arrivals, transmissions = np.insert(other, place, own), np.insert(other_times, place, own_time)
    index = place + np.arange(len(own))
    is_own = np.zeros(len(arrivals), bool)
    is_own[index] = True
    done = scan(arrivals, transmissions)
    opens = np.flatnonzero(np.concatenate(([True], arrivals[1:] > done[:-1])))
    over = np.flatnonzero(done - arrivals > capacity)
    dropped = 0
    for period in np.unique(np.searchsorted(opens, over, "right") - 1):
        first, last = opens[period], opens[period + 1] if period + 1 < len(opens) else len(arrivals)
        piece = slice(first, last)
        mine = slice(*np.searchsorted(index, (first, last)))
        flags = is_own[piece].tolist()
        departures[mine], lost = replay(arrivals[piece].tolist(), transmissions[piece].tolist(), flags, capacity)
        dropped += lost
    return Served(departures, dropped)


def _replay_fifo(arrivals: list[int], transmissions: list[int], own: list[bool], capacity: int) -> tuple[list[int], int]:
    departures: list[int] = []
    free = _LONG_AGO
    dropped = 0
    for arrival, transmission, mine in zip(arrivals, transmissions, own, strict=True):
        done = (free if free > arrival else arrival) + transmission
        if done - arrival <= capacity:
            free = done
        elif mine:
            done = NEVER
        else:
            dropped += 1
        if mine:
            departures.append(done)
    return departures, dropped


def _replay_priority(arrivals: list[int], transmissions: list[int], own: list[bool], capacity: int) -> tuple[list[int], int]:
    departures: list[int] = []
    waiting: dict[bool, deque[tuple[int, int, int]]] = {True: deque(), False: deque()}
    unsent = {True: 0, False: 0}
    """The transmission times of what waits."""
    free, serving = _LONG_AGO, False
    dropped = 0
    arrivals.append(NEVER)
    for arrival, transmission, mine in zip(arrivals, [*transmissions, 0], [*own, False], strict=True):
        while waiting[True] or waiting[False]:
            start = max(free, min(queue[0][0] for queue in waiting.values() if queue))
            if start >= arrival:
                break
            serving = bool(waiting[True])
            _, time, number = waiting[serving].popleft()
            unsent[serving] -= time
            free = start + time
            if serving:
                departures[number] = free
        if arrival == NEVER:
            break
        rest = free - arrival if serving == mine and free > arrival else 0
        if unsent[mine] + rest + transmission <= capacity:
            waiting[mine].append((arrival, transmission, len(departures)))
            unsent[mine] += transmission
        elif not mine:
            dropped += 1
        if mine:
            departures.append(NEVER)
    return departures, dropped
