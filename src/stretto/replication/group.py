"""The group: what the parts of a replica share. Who the members are, in which view this replica is, and which members may be counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Message, Port
from stretto.replication.quorums import Quorums
from stretto.replication.records import Known


class Status(Enum):
    """What a replica is doing. The first three are not in service: they have no vote and give no answer.

    - BOOTSTRAPPING: the first start, until all members know of it;
    - LOST_STATE: started again without its state, and without an incarnation;
    - RECOVERING: started again without its state, with an incarnation that no earlier start has used;
    - VIEW_CHANGE: it has left its view and tries to enter a higher one;
    - REPAIRING: in its view, but its log is not the committed one; it fetches that, and appends nothing meanwhile;
    - NORMAL: in its view, appending and executing requests.
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

_RANDOM_BITS = 32


def new_incarnation(start: int, random_bits: int) -> int:
    """The incarnation of a replica's start number `start`, with random bits in case two starts have come to one number."""
    return start << _RANDOM_BITS | random_bits & ((1 << _RANDOM_BITS) - 1)


def start_number(incarnation: int) -> int:
    """The start that an incarnation is of: 1 for the first, 0 for an incarnation that is not known."""
    return incarnation >> _RANDOM_BITS


class Group:
    """The members and this replica's place among them. The parts of a replica read the fields, and change them by the methods alone.

    - `n`, `index`, `peers`, `quorums`: the members are 0 to n-1; this one is `index`, the others are `peers`.
    - `view` never goes down. `status`: see there. `last_normal_view`: the last view that this replica has entered; -1 if there is none.
      It is not taken from the log: a view may pass without an entry.
    - `incarnations`: the highest incarnation of each member that this one has heard of, its own included; 0 where it has heard of none.
      Every start of a replica without its state has a higher incarnation than the one before.
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
        """Whether this replica takes part."""
        return self.status in IN_SERVICE

    @property
    def accepting(self) -> bool:
        """Whether requests are appended as they arrive. If not, they wait."""
        return self.status is Status.NORMAL

    def change_view(self, view: int) -> None:
        """Try to enter `view` from now on."""
        assert view >= self.view
        self.view = view

    def change_status(self, status: Status) -> None:
        """Set the status, but to NORMAL only after a repair."""
        assert status is not Status.NORMAL or self.status is Status.REPAIRING
        self.status = status

    def enter_view(self) -> None:
        """The log with which the view starts is in place."""
        self.last_normal_view = self.view
        self.status = Status.NORMAL

    def restore_view(self, view: int, was_entered: bool) -> None:
        """An earlier start of this replica has entered that view, or left all below it."""
        self.view = view
        if was_entered:
            self.last_normal_view = view

    # Members

    @property
    def incarnation(self) -> int:
        """This replica's own incarnation; 0 if it has none yet."""
        return self.incarnations[self.index]

    def learn(self, incarnations: Sequence[int]) -> None:
        """Take the higher incarnation of each member: what was known, or what another replica knows."""
        joined = tuple(map(max, self.incarnations, incarnations))
        if joined != self.incarnations:
            self.incarnations = joined
            if self.port.durable:
                self.port.persist(Known(joined))

    def learn_of(self, member: int, incarnation: int) -> None:
        """Know `member` in this incarnation, if it is higher than the one that was known."""
        self.learn([incarnation if peer == member else 0 for peer in range(self.n)])

    def restore_incarnations(self, incarnations: tuple[int, ...]) -> None:
        """Know what an earlier start of this replica has persisted."""
        self.incarnations = incarnations

    def current_voters(self, spoken: Mapping[int, int]) -> list[int]:
        """The members that have spoken and have not lost their state since. `spoken`: by member, the incarnation in which it spoke.

        What a replica said before it lost its state counts for nothing, so a quorum is counted when it is used, not when it grows.
        """
        return [member for member, incarnation in spoken.items() if incarnation == self.incarnations[member]]

    def has_majority(self, spoken: Mapping[int, int]) -> bool:
        """Whether the current voters among those that have spoken are a majority."""
        return len(self.current_voters(spoken)) >= self.quorums.majority

    def send_to_peers(self, message: Message) -> None:
        """Send one message to every other member."""
        for peer in self.peers:
            self.port.send(peer, message)

    # Watching

    def ignore(self, reason: str) -> None:
        """Count a message that changes nothing, by a fixed phrase that says why."""
        self.ignored[reason] = self.ignored.get(reason, 0) + 1

    def snapshot(self) -> Any:
        """The fields as canonical plain data."""
        return [self.view, self.last_normal_view, self.status.value, self.incarnations]
