"""The cluster's time: the median of the replicas' wall clocks, as clients and replicas estimate it.

    client or replica ---GetTime(sent)---> replicas ---TimeReply(sent, wall)---> client or replica

One clock that is wrong does not matter, and neither does that of a client: it stamps its requests with its monotonic clock and the offset
of the median from that. A replica drops a client's request that is stamped far ahead of the cluster's time, as if it were lost. Otherwise,
after one stamp of the year 2262, no lease would ever end again: an operation's time never goes back.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.replication.group import Group
from stretto.replication.messages import GetTime, TimeReply
from stretto.replication.part import Part

INTERVAL_NS = 1_000_000_000
"""How often the replicas' clocks are asked for."""

_SAMPLE_LASTS_NS = 10 * INTERVAL_NS
"""After this time, a sample is replaced even by one with a longer round trip: clocks drift, and are set."""

_NEVER = 1 << 63


class ClockSamples:
    """The offsets of the replicas' wall clocks from a monotonic clock: of each, the sample with the least round trip.

    `offset_ns` is their median; of two in the middle, the lower.

    Parameters: `majority`, how many replicas must have answered before the time is known.
    """

    def __init__(self, majority: int) -> None:
        self.offset_ns = 0
        self._majority = majority
        self._samples: dict[int, tuple[int, int, int]] = {}  # by replica: round trip, offset, when it was taken

    def add(self, replica: int, sent_ns: int, wall_ns: int, now_ns: int) -> None:
        """A replica's wall clock was at `wall_ns` between `sent_ns` and now. Round trips that cannot be are ignored."""
        round_trip_ns = now_ns - sent_ns
        if not 0 <= round_trip_ns <= _SAMPLE_LASTS_NS:
            return
        former = self._samples.get(replica)
        if former is None or round_trip_ns <= former[0] or now_ns - former[2] > _SAMPLE_LASTS_NS:
            self._samples[replica] = (round_trip_ns, wall_ns - (sent_ns + now_ns) // 2, now_ns)
            offsets = sorted(offset for _, offset, _ in self._samples.values())
            self.offset_ns = offsets[(len(offsets) - 1) // 2]

    @property
    def known(self) -> bool:
        """Whether a majority of the replicas has answered."""
        return len(self._samples) >= self._majority

    def offsets_ns(self) -> dict[int, int]:
        """The offset of each replica."""
        return {replica: offset for replica, (_, offset, _) in sorted(self._samples.items())}


class ClusterClock(Part):
    """The part of a replica that tells its wall clock, asks for those of the others, and judges stamps.

    - `limit_ns`: requests stamped up to here were allowed when this was computed, so they still are.

    Without a wall clock at its host, a replica asks nobody and allows every stamp.
    """

    def __init__(self, group: Group, config: ClusterConfig) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.samples = ClockSamples(group.quorums.majority)
        self.limit_ns = -_NEVER
        self._skew_ns = config.timeouts.ns("max_clock_skew")
        self._is_off = False
        self.handlers = {GetTime: self.on_get_time, TimeReply: self.on_time_reply}
        self.timers = {"clock": self.on_timer}

    def begin(self) -> None:
        """Begin to ask for the others' clocks."""
        if self.port.wall_ns is None:
            self.limit_ns = _NEVER
        else:
            self._sample_own()
            self.on_timer()

    def on_timer(self) -> None:
        """Ask all others for their clocks."""
        jitter_ns = self.port.random.randrange(INTERVAL_NS // 4)
        self.port.set_timer("clock", INTERVAL_NS - jitter_ns)
        self._sample_own()
        self.group.send_to_peers(GetTime(self.port.now_ns))

    def _sample_own(self) -> None:
        now_ns, wall_ns = self.port.now_ns, self.port.wall_ns
        assert wall_ns is not None
        self.samples.add(self.group.index, now_ns, wall_ns, now_ns)

    def on_get_time(self, source: Address, message: GetTime) -> None:
        """Tell our wall clock."""
        wall_ns = self.port.wall_ns
        if wall_ns is not None:
            self.port.send(source, TimeReply(message.sent_ns, wall_ns))

    def on_time_reply(self, source: Address, message: TimeReply) -> None:
        """Take another replica's clock. Report when ours is far from the median, and when it is not any more."""
        self.samples.add(source, message.sent_ns, message.wall_ns, self.port.now_ns)
        self._sample_own()
        is_off = abs(self._own_offset_ns()) > self._skew_ns
        if is_off != self._is_off:
            self._is_off = is_off
            self.port.report("clock differs from the others'" if is_off else "clock agrees again", offset_ms=self._own_offset_ns() / 1e6)

    def _own_offset_ns(self) -> int:
        return self.samples.offsets_ns()[self.group.index] - self.samples.offset_ns

    def allows(self, time_ns: int) -> bool:
        """Whether a client's request may be stamped so: at most twice `max_clock_skew_ms` ahead of the cluster's time, if that is known."""
        if not self.samples.known:
            return True
        self._sample_own()
        self.limit_ns = self.port.now_ns + self.samples.offset_ns + 2 * self._skew_ns
        return time_ns <= self.limit_ns

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`. `clock_offsets_ms`: how far the clock of each replica is ahead of the median."""
        if not self.samples.known:
            return {"clock_offsets_ms": {}}
        median = self.samples.offset_ns
        return {"clock_offsets_ms": {str(member): (offset - median) / 1e6 for member, offset in self.samples.offsets_ns().items()}}

    def snapshot(self) -> Any:
        """See `Part`."""
        return [self.samples.offsets_ns(), self._is_off]
