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
make it more than `capacity` is dropped. Where the scan stays below, nothing is dropped and it is exact. Where it does not, packets are
taken one by one for as long as drops go on, and then the scan resumes from there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stretto.network.topology import NEVER as NEVER

Times: TypeAlias = NDArray[np.int64]

_BLOCK = 32_768
"""Scans go through memory in blocks that stay in the cache."""
_LONG_AGO = -(1 << 62)
_LONGEST_LOOK = 4_096
"""Where drops are to be expected, a scan looks no further ahead than this: what comes after the next drop is scanned in vain."""
_CALM = 128
"""So many packets in a row that fit end the taking one by one."""


class Served(NamedTuple):
    """What became of a port's packets: when our own ones left (NEVER: dropped), and how many of the others were dropped."""

    departures: Times
    others_dropped: int


def scan(arrivals: Times, transmissions: Times, free: int = _LONG_AGO) -> Times:
    """The departures of packets that share one queue, none dropped; the wire is free from `free` on."""
    departures = np.empty_like(arrivals)
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
    arrivals, transmissions, index = _merged(own, own_time, other, other_times, before)
    everything = admit(arrivals, transmissions, capacity)
    departures = everything[index]
    return Served(departures, _count_never(everything) - _count_never(departures))


def serve_priority(own: Times, own_time: int, other: Times, other_times: Times, capacity: int) -> Served:
    """Our own packets, each of which takes `own_time` to send, ahead of all others."""
    own_times = np.full(len(own), own_time)
    clock = _Clock(own, scan(own, own_times))
    low_arrivals = clock.low_time(other)
    starts, backlog = _low_starts(low_arrivals, other_times)
    low_times, dropped = other_times, 0
    if backlog > capacity:
        done = admit(low_arrivals, other_times, capacity, _Ahead(clock, other, other_times))
        taken = done != NEVER
        dropped = len(done) - int(taken.sum())
        low_times = other_times[taken]
        starts = done[taken] - low_times
    last = np.searchsorted(starts, clock.own_low_time, "left") - 1
    low_done = clock.real_time(starts[last]) + low_times[last] if len(starts) else np.zeros_like(own)
    departures = scan(np.where(last >= 0, np.maximum(own, low_done), own), own_times)
    if int((departures - own).max(initial=0)) <= capacity:
        return Served(departures, dropped)
    return _play_priority(own, own_time, other, other_times, capacity)


def admit(arrivals: Times, transmissions: Times, capacity: int, ahead: _Ahead | None = None) -> Times:
    """The departures of packets that share one queue and its buffer: NEVER for those that it has no room for."""
    departures = np.empty_like(arrivals)
    free, first, window = _LONG_AGO, 0, _LONGEST_LOOK
    while first < len(arrivals):
        block = slice(first, first + window)
        done = scan(arrivals[block], transmissions[block], free)
        over = done - arrivals[block] > capacity
        fit = int(np.argmax(over)) if over.any() else len(done)
        departures[first : first + fit] = done[:fit]
        free = int(done[fit - 1]) if fit else free
        first += fit
        window = min(2 * window, _LONGEST_LOOK)
        if fit < len(done):
            first, free = _one_by_one(arrivals, transmissions, departures, first, free, capacity, ahead)
            window = _CALM
    return departures


def _one_by_one(
    arrivals: Times, transmissions: Times, departures: Times, first: int, free: int, capacity: int, ahead: _Ahead | None
) -> tuple[int, int]:
    """Take packets one after the other until none was dropped for a while; returns the next one, and when the wire is free."""
    if ahead:
        ahead.resume(arrivals, transmissions, departures, first)
    calm = 0
    while calm < _CALM and first < len(arrivals):
        block = slice(first, first + 2 * _CALM)
        done: list[int] = []
        for arrival, transmission in zip(arrivals[block].tolist(), transmissions[block].tolist(), strict=True):
            start = free if free > arrival else arrival
            end = start + transmission
            if end - arrival <= capacity or (ahead and end - arrival - ahead.work(first + len(done), arrival) <= capacity):
                free = end
                done.append(end)
                calm += 1
                if ahead:
                    ahead.starts.append(start)
                    ahead.ends.append(end)
            else:
                done.append(NEVER)
                calm = 0
        departures[block] = done
        first += len(done)
    return first, free


def _merged(own: Times, own_time: int, other: Times, other_times: Times, before: NDArray[np.intp]) -> tuple[Times, Times, NDArray[np.intp]]:
    """All packets in the order of their arrival, with their transmission times; and where among them our own are."""
    return np.insert(other, before, own), np.insert(other_times, before, own_time), before + np.arange(len(own))


def _count_never(departures: Times) -> int:
    return int((departures == NEVER).sum())


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


def _low_starts(arrivals: Times, transmissions: Times) -> tuple[Times, int]:
    """When each low packet starts, on the remaining clock, and the largest backlog that an arrival makes there."""
    starts = np.empty_like(arrivals)
    total, highest, backlog = 0, _LONG_AGO, 0
    for first in range(0, len(arrivals), _BLOCK):
        block = slice(first, first + _BLOCK)
        out, times = starts[block], transmissions[block]
        sent = np.cumsum(times)
        sent += total
        total = int(sent[-1])
        sent -= times
        slack = arrivals[block] - sent
        np.maximum.accumulate(slack, out=out)
        np.maximum(out, highest, out=out)
        highest = int(out[-1])
        np.subtract(out, slack, out=slack)
        slack += times
        backlog = max(backlog, int(slack.max()))
        out += sent
    return starts, backlog


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
        result: Times = arrivals - np.repeat(np.concatenate(([0], self.busy)), pieces)
        counts = last - first
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        result[np.repeat(first, counts) + offsets] = np.repeat(self.low_begin, counts)
        return result

    def real_time(self, low_times: Times) -> Times:
        """The inverse: the first moment at which the remaining clock has shown `low_times` and no busy period is going on."""
        busy = np.concatenate(([0], self.busy))
        moments: Times = low_times + busy[np.searchsorted(self.low_begin, low_times, "right")]
        return moments


class _Ahead:
    """How much less than the remaining clock says is waiting of the low class.

    That clock counts as if high packets interrupted low ones. Really the low packet that was being sent goes on; so, from the beginning
    of a busy period of the high class until that packet is done on the remaining clock, less of it is left.
    """

    def __init__(self, clock: _Clock, arrivals: Times, transmissions: Times) -> None:
        self._clock = clock
        self._arrivals = arrivals
        last = np.searchsorted(clock.begin, arrivals, "right") - 1
        longest = int(transmissions.max(initial=0))
        self.starts: list[int] = []
        self.ends: list[int] = []
        self._near = (last >= 0) & (arrivals < clock.end[last] + longest) if len(clock.end) else np.zeros(len(arrivals), bool)

    def resume(self, low_arrivals: Times, transmissions: Times, departures: Times, first: int) -> None:
        """Learn, on the remaining clock, the starts and ends of the packets that may still be there when packet `first` comes."""
        earliest, span, ends = first, 1_024, departures[:0]
        starts = ends
        while earliest and starts.min(initial=NEVER) > low_arrivals[first]:
            earliest, span = max(0, first - span), 2 * span
            ends = departures[earliest:first]
            starts = ends - transmissions[earliest:first]
        self.starts, self.ends = starts[ends != NEVER].tolist(), ends[ends != NEVER].tolist()

    def work(self, packet: int, low_arrival: int) -> int:
        """What has really been sent, beyond the remaining clock, of the low packet in service when low packet `packet` comes."""
        current = bisect_right(self.starts, low_arrival) - 1
        if not self._near[packet] or current < 0 or self.ends[current] <= low_arrival:
            return 0
        start = self.starts[current]
        since = int(self._arrivals[packet]) - int(self._clock.real_time(np.array([start]))[0])
        return max(0, min(self.ends[current] - start, since) - (low_arrival - start))


def _play_priority(own: Times, own_time: int, other: Times, other_times: Times, capacity: int) -> Served:
    """All packets one by one: for the rare case in which the high class alone has no room."""
    arrivals, transmissions, index = _merged(own, own_time, other, other_times, np.searchsorted(other, own, "left"))
    is_own = np.zeros(len(arrivals), bool)
    is_own[index] = True
    departures: list[int] = []
    waiting: dict[bool, deque[tuple[int, int, int]]] = {True: deque(), False: deque()}
    unsent = {True: 0, False: 0}
    free, serving = _LONG_AGO, False
    dropped = 0
    packets = zip(arrivals.tolist(), transmissions.tolist(), is_own.tolist(), strict=True)
    for arrival, transmission, mine in chain(packets, [(NEVER, 0, False)]):
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
    return Served(np.array(departures, np.int64), dropped)
