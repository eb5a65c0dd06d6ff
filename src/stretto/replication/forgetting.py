"""Replicas that have forgotten what was committed, since their data was restored from an old copy.

    a replica to whom a view, or its leader, shows a log without what is committed     ---Remember(position, hash)---> all

A replica that loses its state takes a new incarnation and recovers. One whose data is exchanged for an older copy does not know that it
has lost anything: it votes and leads with less than it has promised. If a majority does, a view starts without what was committed. What is
committed stays, so whoever still has it is believed: a replica in a later view whose log does not have it has forgotten, and stops.
"""

from __future__ import annotations

from collections.abc import Sequence

from stretto.core.config import ClusterConfig
from stretto.core.node import Address
from stretto.replication.group import Group
from stretto.replication.messages import Remember, Request
from stretto.replication.part import Part
from stretto.replication.state import ReplicatedState


class Forgetting(Part):
    """The part of a replica that tells others what they have forgotten, and believes them.

    `leader_has_all`: whether the log of a view's leader has everything that is committed in the view; set by `LeaderLog`.
    """

    def __init__(self, group: Group, state: ReplicatedState, config: ClusterConfig) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.state = state
        self.leader_has_all = False
        self._interval_ns = config.timeouts.ns("retransmit")
        self._last_told_ns = self.port.now_ns - self._interval_ns
        self.handlers = {Remember: self.on_remember}

    def refuses(self, base: int, base_hash: bytes, entries: Sequence[Request]) -> bool:
        """Whether the log with which a later view starts lacks what is committed here. If others have forgotten that, tell them.

        What was fetched may have been committed in a view after that one; then the view is over, and nobody has forgotten anything.
        """
        state = self.state
        if not state.contradicts(base, base_hash, entries, state.committed):
            return False
        if state.contradicts(base, base_hash, entries, state.committed_in_view):
            self.tell()
        return True

    def tell(self) -> None:
        """Tell all others what was committed in a view that we have entered, but not all the time."""
        group, state, now = self.group, self.state, self.port.now_ns
        position = state.committed_in_view
        if now - self._last_told_ns >= self._interval_ns and position >= state.log.start:
            self._last_told_ns = now
            self.port.report("others lack what is committed", position=position, view=group.last_normal_view)
            group.send_to_peers(Remember(group.incarnations, group.last_normal_view, position, state.log.hash_at(position)))

    def on_remember(self, source: Address, message: Remember) -> None:
        """Stop if our log must have what the sender says, and does not.

        The log of a later view than the sender's has it, and so has the log of the leader of the same view if it has everything.
        """
        group, log, view = self.group, self.state.log, message.view
        leads = self.leader_has_all and group.last_normal_view == view and group.led_last_view
        if not (group.last_normal_view > view or leads) or message.position < log.start or log.matches(message.position, message.hash):
            return group.ignore("reminds of what is known, or of what need not be")
        self.port.report("forgot what was committed", position=message.position, last=log.last, told_by=source)
        return self.port.stop(
            f"replica {source} knows that position {message.position} was committed in view {view} or before, and this replica has entered"
            f" view {group.last_normal_view} without it: the data here, or that of others, was restored from an old copy, or is damaged",
            distrust=True,
        )

    def snapshot(self) -> object:
        """See `Part`."""
        return self.port.now_ns - self._last_told_ns >= self._interval_ns
