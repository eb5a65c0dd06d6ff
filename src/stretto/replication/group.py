"""The group: what the parts of a replica share. It knows the members, this replica's view, and whose messages may be counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Message, Port
from stretto.replication.quorums import Quorums
from stretto.replication.records import Known


class Status(Enum):
    """What a replica is doing. In the first three statuses it is not in service: it has no vote and answers no client.

    - BOOTSTRAPPING: it starts for the first time, and not all members know of that yet;
    - LOST_STATE: it was started again without its state, and has no incarnation yet;
    - RECOVERING: it was started again without its state, and has an incarnation that no earlier start has used;
    - VIEW_CHANGE: it has left its view and tries to enter a higher one;
    - REPAIRING: it is in its view, but its log differs from the committed one; it fetches that, and appends nothing meanwhile;
    - NORMAL: it is in its view, and appends and executes requests.
    """

    BOOTSTRAPPING = "bootstrapping"
    LOST_STATE = "lost state"
    RECOVERING = "recovering"
    VIEW_CHANGE = "view change"
    REPAIRING = "repairing"
    NORMAL = "normal"


NORMAL = (Status.NORMAL,)
IN_VIEW = (Status.NORMAL, Status.REPAIRING)
IN_SERVICE = (Status.NORMAL, Status.REPAIRING, Status.VIEW_CHANGE)
HAS_STATE = (*IN_SERVICE, Status.BOOTSTRAPPING)
ANY_STATUS = tuple(Status)

RANDOM_BITS = 32
"""How many random bits an incarnation has, in case two starts have come to one number."""


def new_incarnation(start: int, random_bits: int) -> int:
    """The incarnation of a replica's start number `start`. The random bits tell two starts apart that took the same number."""
    return start << RANDOM_BITS | random_bits


def start_number(incarnation: int) -> int:
    """The number of the start that an incarnation belongs to: 1 for the first, 0 for an incarnation that is not known."""
    return incarnation >> RANDOM_BITS


class Group:
    """The members and this replica's place among them. The parts of a replica read the fields, and change them only by the methods.

    - `n`, `index`, `peers`, `quorums`: the members are 0 to n-1; this one is `index`, the others are `peers`.
    - `view` never goes down. `status`: see `Status`. `last_normal_view`: the last view that this replica has entered; -1 if there is none.
      The log does not show it, since a view may end without an entry.
    - `incarnations`: the highest incarnation of each member that this replica has heard of, its own included; 0 if it has heard of none.
      Each time a replica starts without its state, it takes a higher incarnation.
    - `ignored`: how many messages have changed nothing, by reason.
    """

    def __init__(self, port: Port, config: ClusterConfig, index: int) -> None:
        self.port = port
        self.index = index
        self.n = config.n
        self.peers = [peer for peer in range(config.n) if peer != index]
        self.quorums = Quorums.of(config.n)
        self.view = 0
        self.last_normal_view = -1
        self.status = Status.LOST_STATE
        self.incarnations: tuple[int, ...] = (0,) * config.n
        self.ignored: dict[str, int] = {}

    # Views

    @property
    def leader(self) -> int:
        """The member that leads the view."""
        return self.view % self.n

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads the view."""
        return self.view % self.n == self.index

    @property
    def led_last_view(self) -> bool:
        """Whether this replica led the last view that it entered."""
        return self.last_normal_view % self.n == self.index

    @property
    def in_service(self) -> bool:
        """Whether this replica takes part in the protocol."""
        return self.status in IN_SERVICE

    @property
    def accepting(self) -> bool:
        """Whether requests are appended as they arrive. If not, they become pending."""
        return self.status is Status.NORMAL

    def change_view(self, view: int) -> None:
        """Try to enter `view` from now on."""
        assert view >= self.view
        self.view = view

    def change_status(self, status: Status) -> None:
        """Set the status. NORMAL can be set only after a repair; `enter_view` sets it otherwise."""
        assert status is not Status.NORMAL or self.status is Status.REPAIRING
        self.status = status

    def enter_view(self) -> None:
        """The log with which the view starts is in place."""
        self.last_normal_view = self.view
        self.status = Status.NORMAL

    def restore_view(self, view: int, was_entered: bool) -> None:
        """Restore what an earlier start of this replica has persisted: it entered that view, or left all lower ones."""
        self.view = view
        if was_entered:
            self.last_normal_view = view

    # Members

    @property
    def incarnation(self) -> int:
        """This replica's own incarnation; 0 if it has none yet."""
        return self.incarnations[self.index]

    def learn(self, incarnations: Sequence[int]) -> None:
        """Learn what another replica knows: of each member, keep the higher incarnation."""
        joined = tuple(map(max, self.incarnations, incarnations))
        if joined != self.incarnations:
            self.incarnations = joined
            if self.port.durable:
                self.port.persist(Known(joined))

    def learn_of(self, member: int, incarnation: int) -> None:
        """Learn that `member` has this incarnation, unless a higher one is known."""
        self.learn([incarnation if peer == member else 0 for peer in range(self.n)])

    def restore_incarnations(self, incarnations: tuple[int, ...]) -> None:
        """Restore what an earlier start of this replica has persisted."""
        self.incarnations = incarnations

    def current_voters(self, spoken: Mapping[int, int]) -> list[int]:
        """The members that have sent a message and have not lost their state since. `spoken`: by member, the incarnation that sent it.

        Messages from before a loss of state do not count. So a quorum is counted when it is used, not when a message arrives.
        """
        return [member for member, incarnation in spoken.items() if incarnation == self.incarnations[member]]

    def has_majority(self, spoken: Mapping[int, int]) -> bool:
        """Whether the current voters among them are a majority."""
        return len(self.current_voters(spoken)) >= self.quorums.majority

    def send_to_peers(self, message: Message) -> None:
        """Send one message to every other member."""
        for peer in self.peers:
            self.port.send(peer, message)

    # Watching

    def ignore(self, reason: str) -> None:
        """Count a message that changes nothing, by its reason, which is a fixed phrase."""
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return [self.view, self.last_normal_view, self.status.value, self.incarnations]
