"""An output port without an event loop: the departures of all packets, computed by running maxima.

`own` packets are multicasts, whose departures are needed; `other` packets only load the port. Times and transmission times
are int64 arrays of picoseconds, in the order of arrival. If packets of both kinds arrive at the same time, `own` comes first.

First in, first out: with arrivals A and cumulative transmission times C, the last bit of packet n leaves at
C[n] + max over k <= n of (A[k] - C[k-1]). This is Lindley's recursion as a scan in the max-plus algebra. Of the `other` packets between two
of our own only the maximum matters, so they need not be merged.

Strict, non-preemptive priority of `own` over `other`: a low packet starts when all high packets and the earlier low ones are done. This
time is the same as with preemption, because the work is the same. The computation therefore removes the busy periods of the high packets
from the clock, scans the low packets on the remaining clock, and adds the busy periods again. The results are the starts of the low
packets. Each high packet in effect arrives at the end of the low packet that started before it. A scan over these arrivals gives the
departures.

A buffer holds the unsent packets, measured in transmission time, and separately for each class under priority. A packet that would exceed
`capacity` is dropped. If the scan never exceeds the capacity, nothing is dropped and the scan is exact. Otherwise packets are processed one
by one as long as drops continue, and the scan resumes after that.
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
"""The block size of scans, so that a block stays in the cache."""
_LONG_AGO = -(1 << 62)
_LONGEST_LOOK = 4_096
"""The longest scan where drops are likely, because results after the next drop are discarded."""
_CALM = 128
"""After this many packets in a row without a drop, the scan resumes."""


class Served(NamedTuple):
    """The departures of our own packets (NEVER: dropped), and how many of the others were dropped."""

    departures: Times
    others_dropped: int


def scan(arrivals: Times, transmissions: Times, free: int = _LONG_AGO) -> Times:
    """The departures of packets that share one queue without drops. The wire is free from `free` on."""
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
    # The backlog that our own packets add to that of the others is largest right after one of ours, and shrinks until the next.
    without = np.maximum(np.maximum.accumulate(latest) + sent - own, 0)
    added = int((departures - own - without).max(initial=0))
    if max(int((departures - own).max(initial=0)), backlog + added) <= capacity:
        return Served(departures, 0)
    arrivals, transmissions, index = _merged(own, own_time, other, other_times, before)
    everything = admit(arrivals, transmissions, capacity)
    departures = everything[index]
    return Served(departures, _count_never(everything) - _count_never(departures))


def serve_priority(own: Times, own_time: int, other: Times, other_times: Times, capacity: int) -> Served:
    """Our own packets with priority over all others. Each of our own takes `own_time` to send."""
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
    """The departures of packets that share one queue and its buffer: NEVER for packets that exceed the buffer."""
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
    """Process packets one by one until _CALM in a row have fitted. Returns the index of the next packet, and when the wire is free."""
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
    """All packets in the order of arrival: their arrivals, their transmission times, and the indices of our own."""
    return np.insert(other, before, own), np.insert(other_times, before, own_time), before + np.arange(len(own))


def _count_never(departures: Times) -> int:
    return int((departures == NEVER).sum())


def _fold(other: Times, other_times: Times, before: NDArray[np.intp]) -> tuple[Times, Times, int]:
    """Summarise the other packets for each of our own. `before[i]` others arrive before our packet i.

    Returns, for each of our own, the maximum of A[k] - C[k-1] over the others since our previous packet, and the C of all others before it;
    and the largest backlog at an arrival of the others.
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
        # Our packets low..high divide this block into pieces. The last piece belongs to our next packet.
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
    """The start of each low packet on the remaining clock, and the largest backlog at an arrival there."""
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
    """The remaining clock: time without the busy periods of our own packets."""

    def __init__(self, own: Times, departures: Times) -> None:
        opens = np.ones(len(own), bool)
        opens[1:] = own[1:] > departures[:-1]
        first = np.flatnonzero(opens)
        self.begin = own[first]
        self.end = departures[np.append(first[1:], len(own)) - 1] if len(own) else departures
        self.busy = np.cumsum(self.end - self.begin)
        """The total length of all busy periods up to and including each one."""
        self.low_begin = self.end - self.busy
        self.own_low_time: Times = self.low_begin[np.cumsum(opens) - 1] if len(own) else own

    def low_time(self, arrivals: Times) -> Times:
        """The remaining clock at each of these sorted times."""
        first, last = np.searchsorted(arrivals, self.begin, "left"), np.searchsorted(arrivals, self.end, "left")
        pieces = np.diff(np.concatenate(([0], first, [len(arrivals)])))
        result: Times = arrivals - np.repeat(np.concatenate(([0], self.busy)), pieces)
        counts = last - first
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        result[np.repeat(first, counts) + offsets] = np.repeat(self.low_begin, counts)
        return result

    def real_time(self, low_times: Times) -> Times:
        """The inverse: the first time outside busy periods at which the remaining clock shows each of `low_times`."""
        busy = np.concatenate(([0], self.busy))
        moments: Times = low_times + busy[np.searchsorted(self.low_begin, low_times, "right")]
        return moments


class _Ahead:
    """Corrects the backlog of the low class on the remaining clock for the low packet in service.

    That clock assumes that high packets preempt low ones. In fact the low packet in service is finished first. So from the beginning of a
    high busy period until that packet is done on the remaining clock, the real backlog is smaller.
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
        """Compute the starts and ends, on the remaining clock, of the packets that may not be finished when packet `first` arrives."""
        earliest, span, ends = first, 1_024, departures[:0]
        starts = ends
        while earliest and starts.min(initial=NEVER) > low_arrivals[first]:
            earliest, span = max(0, first - span), 2 * span
            ends = departures[earliest:first]
            starts = ends - transmissions[earliest:first]
        self.starts, self.ends = starts[ends != NEVER].tolist(), ends[ends != NEVER].tolist()

    def work(self, packet: int, low_arrival: int) -> int:
        """How much more of the low packet in service has been sent than the remaining clock shows, when low packet `packet` arrives."""
        current = bisect_right(self.starts, low_arrival) - 1
        if not self._near[packet] or current < 0 or self.ends[current] <= low_arrival:
            return 0
        start = self.starts[current]
        since = int(self._arrivals[packet]) - int(self._clock.real_time(np.array([start]))[0])
        return max(0, min(self.ends[current] - start, since) - (low_arrival - start))


def _play_priority(own: Times, own_time: int, other: Times, other_times: Times, capacity: int) -> Served:
    """Process all packets one by one, for the rare case in which the high class alone exceeds its buffer."""
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
