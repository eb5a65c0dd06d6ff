"""The failure detector: who has been heard lately, and whether the view's leader is suspected.

    a follower that misses the leader's sign of life     ---Suspect---> all
    a leader that hears no majority                      ---Suspect---> all, and it sends no sign of life any more

A suspicion alone changes no view. A majority must suspect, so a replica that only fails to receive does not force a view change.

Suspicion asks whether a process is gone or cut off, not whether it is slow. While a node is busy with one long operation, or waits for its
disk, its host says so to the others (`Busy`), up to `max_operation_ms`. And time in which a replica did not run itself is no silence of
others: what they have sent meanwhile is still unread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Address, Busy
from stretto.replication.group import Group, Status
from stretto.replication.messages import Suspect
from stretto.replication.part import Part


class FailureDetector(Part):
    """The part of a replica that watches the others.

    - `suspects`: the members that suspect the leader of this view, each with the incarnation in which it said so; see
      `Group.current_voters`.
    - `unresponsive`: followers that the leader no longer waits for, because it has not heard from them. Empty at a follower.

    Parameters: `on_leader_suspected` is called when a majority, including this replica, suspects the leader; `on_busy` when a member's host
    has said that its node is busy.
    """

    def __init__(
        self, group: Group, config: ClusterConfig, on_leader_suspected: Callable[[], None], on_busy: Callable[[Address], None]
    ) -> None:
        super().__init__()
        self.group = group
        self.port = group.port
        self.suspects: dict[int, int] = {}
        self.unresponsive: set[int] = set()
        self._on_leader_suspected = on_leader_suspected
        self._on_busy = on_busy
        self._longest_busy_ms = config.timeouts.max_operation_ms
        self._timeout_ns = config.timeouts.ns("leader_timeout")
        self._heard_ns: dict[int, int] = {}
        self._leader_heard_ns = 0
        self.handlers = {Suspect: self.on_suspect, Busy: self.on_busy}
        self.timers = {"leader": self.on_leader_timer}

    def begin_view(self) -> None:
        """In a new view, every member counts as just heard."""
        now = self.port.now_ns
        self._heard_ns = dict.fromkeys(range(self.group.n), now)
        self._leader_heard_ns = now
        if not self.group.is_leader:
            self.unresponsive = set()
            self.port.set_timer("leader", self._timeout_ns // 4)

    def leave_view(self) -> None:
        """See `Part`."""
        self.suspects = {}
        self.port.cancel_timer("leader")

    # Who has been heard

    def hear(self, peer: Address) -> None:
        """A message of our view has come from a peer."""
        self._heard_ns[peer] = self.port.now_ns
        self.unresponsive.discard(peer)

    def hear_leader(self) -> None:
        """The leader's sign of life has come. Its other messages are no signs of life: a leader that suspects itself still sends them."""
        self._leader_heard_ns = self.port.now_ns
        self.suspects = {}

    def on_busy(self, source: Address, message: Busy) -> None:
        """A member's node is busy, but its process is alive."""
        if message.for_ms > self._longest_busy_ms:
            return self.group.ignore("busy for longer than max_operation_ms")
        if source in self._heard_ns:
            self.hear(source)
        if source == self.group.leader:
            self.hear_leader()
        return self._on_busy(source)

    def _excuse(self) -> None:
        """If the timer that fires now is late, this replica did not run for so long: nobody could be heard meanwhile."""
        late_ns = self.port.late_ns
        if late_ns > self._timeout_ns // 4:
            self._leader_heard_ns += late_ns
            self._heard_ns = {peer: heard_ns + late_ns for peer, heard_ns in self._heard_ns.items()}

    def hears_majority(self) -> bool:
        """Whether a majority, this replica included, has been heard within the timeout."""
        since = self.port.now_ns - self._timeout_ns
        return 1 + sum(self._heard_ns[peer] >= since for peer in self.group.peers) >= self.group.quorums.majority

    def give_up_waiting_for(self, followers: Iterable[int]) -> None:
        """As the leader, no longer wait for these followers, until they are heard again. All other followers are waited for."""
        self.unresponsive = set(followers)

    def give_up_waiting_for_silent(self, since_ns: int) -> None:
        """As the leader, no longer wait for the followers that have not been heard since that time."""
        self.give_up_waiting_for(peer for peer in self.group.peers if self._heard_ns[peer] < since_ns)

    @property
    def has_superquorum(self) -> bool:
        """Whether enough members are responsive for a superquorum."""
        return self.group.n - len(self.unresponsive) >= self.group.quorums.superquorum

    # Suspicion

    def show_life(self, send: Callable[[], None]) -> None:
        """As the leader, call `send`, which sends the sign of life. If we hear no majority, suspect ourselves instead, to be replaced."""
        self._excuse()
        if self.hears_majority():
            self.suspects.pop(self.group.index, None)
            send()
        else:
            self.suspect()

    def on_leader_timer(self) -> None:
        """A follower checks when the leader's last sign of life came."""
        self.port.set_timer("leader", self._timeout_ns // 4)
        self._excuse()
        if self.port.now_ns - self._leader_heard_ns >= self._timeout_ns:
            self.suspect()

    def suspect(self) -> None:
        """Say that the leader of this view has to be replaced, and count who says so."""
        group = self.group
        self.suspects[group.index] = group.incarnation
        group.send_to_peers(Suspect(group.incarnations, group.view))
        self._count_suspects()

    def on_suspect(self, source: Address, message: Suspect) -> None:
        """Count a suspicion."""
        self.suspects[source] = message.incarnations[source]
        self._count_suspects()

    def _count_suspects(self) -> None:
        if self.group.index in self.suspects and self.group.has_majority(self.suspects):
            self._on_leader_suspected()

    # Watching

    def metrics(self) -> dict[str, Any]:
        """See `Part`."""
        return {"unresponsive": sorted(self.unresponsive)}

    def snapshot(self) -> Any:
        """See `Part`."""
        silent_since = self.port.now_ns - self._timeout_ns
        return {
            "leader_silent": self._leader_heard_ns <= silent_since,
            "heard": sorted(peer for peer, heard_ns in self._heard_ns.items() if heard_ns >= silent_since),
            "suspects": sorted(self.suspects.items()),
            "unresponsive": sorted(self.unresponsive),
        }

    def check_invariants(self) -> None:
        """See `Part`."""
        assert not self.unresponsive or self.group.is_leader or self.group.status is not Status.NORMAL
