"""What a client process records of its operations, in memory that does not grow with their number.

When an operation ends, the load only appends two numbers to arrays. Many times a second these are counted together: latencies in
histograms, end times in a timeline.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from stretto.bench.histogram import Histogram, Times
from stretto.core.errors import StrettoError

_SECOND_NS = 10**9
SLOT_NS = 10**6
_NEVER_NS = (1 << 63) - 1


class Timeline:
    """When operations ended: how many in each second, and the first and the last in each millisecond (slot).

    A gap of more than a millisecond lies between the last end in one slot and the first in a later one, so its length is exact, also
    after the timelines of several processes were added. A timeline takes 16 bytes for each millisecond.
    """

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        slots = -((start_ns - end_ns) // SLOT_NS)
        self._first = np.full(slots, _NEVER_NS, np.int64)
        self._last = np.full(slots, -1, np.int64)
        self.by_second = np.zeros(-((start_ns - end_ns) // _SECOND_NS), np.int64)

    def record(self, ended_ns: Times) -> None:
        """Count these end times, all of which are between start and end."""
        elapsed_ns = ended_ns - self.start_ns
        np.add.at(self.by_second, elapsed_ns // _SECOND_NS, 1)
        slots = elapsed_ns // SLOT_NS
        np.minimum.at(self._first, slots, ended_ns)
        np.maximum.at(self._last, slots, ended_ns)

    def add(self, other: Timeline) -> None:
        """Add the counts of another timeline with the same start and end."""
        self.by_second += other.by_second
        np.minimum(self._first, other._first, out=self._first)
        np.maximum(self._last, other._last, out=self._last)

    def longest_gap(self, after_ns: int = 0) -> tuple[int, int]:
        """The longest gap between ends of operations, of all gaps that ended at `after_ns` or later: when it ended, and its length."""
        filled = self._last >= 0
        begins = np.concatenate([[self.start_ns], self._last[filled]])
        ends = np.concatenate([self._first[filled], [self.end_ns]])
        late = ends >= after_ns
        begins, ends = begins[late], ends[late]
        longest = int(np.argmax(ends - begins))
        return int(ends[longest]), int(ends[longest] - begins[longest])


@dataclass
class Recorded:
    """The counts of the operations that ended in the measured time.

    `before`, `after`: latencies of those that ended before the split, and at it or later; without a split, all are in `before`. `waits`: in
    an open loop, how long each operation was due before it was sent. `failures`: the number of calls that failed, by error.
    """

    timeline: Timeline
    before: Histogram = field(default_factory=Histogram)
    after: Histogram = field(default_factory=Histogram)
    waits: Histogram = field(default_factory=Histogram)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, other: Recorded) -> None:
        """Add the counts of another process."""
        self.timeline.add(other.timeline)
        self.before.add(other.before)
        self.after.add(other.after)
        self.waits.add(other.waits)
        self.failures += other.failures


class Recording:
    """Takes operations as they end. All times are nanoseconds of the machine's monotonic clock.

    The load appends to `ended_ns` and `latency_ns`, and in an open loop to `wait_ns`, in the order in which operations end. What ends
    before `measure` is called is discarded.
    """

    def __init__(self) -> None:
        self.ended_ns = array("q")
        self.latency_ns = array("q")
        self.wait_ns = array("q")
        self.recorded: Recorded | None = None
        self._split_ns = _NEVER_NS

    def measure(self, start_ns: int, end_ns: int) -> None:
        """Count the operations that end in that time."""
        self.recorded = Recorded(Timeline(start_ns, end_ns))

    def split(self, at_ns: int) -> None:
        """Count separately the latencies of operations that ended at that time or later, as far as they are not counted yet."""
        self._split_ns = at_ns

    def fail(self, now_ns: int, error: StrettoError) -> None:
        """Count a call that failed."""
        if self.recorded is not None and self.recorded.timeline.start_ns <= now_ns < self.recorded.timeline.end_ns:
            self.recorded.failures[type(error).__name__] += 1

    def count(self, before_ns: int = _NEVER_NS) -> None:
        """Count the operations in the arrays that ended before that time."""
        ended_ns = _array(self.ended_ns)
        number = int(np.searchsorted(ended_ns, before_ns))
        ended_ns = ended_ns[:number]
        latency_ns, wait_ns = _array(self.latency_ns[:number]), _array(self.wait_ns[:number])
        for values in (self.ended_ns, self.latency_ns, self.wait_ns):
            del values[:number]
        if self.recorded is None or not number:
            return
        timeline = self.recorded.timeline
        inside = (timeline.start_ns <= ended_ns) & (ended_ns < timeline.end_ns)
        after = ended_ns >= self._split_ns
        timeline.record(ended_ns[inside])
        self.recorded.before.record(latency_ns[inside & ~after])
        self.recorded.after.record(latency_ns[inside & after])
        if len(wait_ns):
            self.recorded.waits.record(wait_ns[inside])


def _array(values: array[int]) -> Times:
    return np.array(values, np.int64)
