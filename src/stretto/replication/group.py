"""The group: what the parts of a replica share. It knows the members, this replica's view, and whose messages may be counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.node import Message, Port
from stretto.replication.messages import HASH_BYTES
from stretto.replication.quorums import Quorums
from stretto.replication.records import Known


class Status(Enum):
    """What a replica is doing. In the first four statuses it is not in service: it has no vote and answers no client.

    - BOOTSTRAPPING: it starts for the first time, and not all members know of that yet;
    - LOST_STATE: it was started again without its state, and has no incarnation yet;
    - RECOVERING: it was started again without its state, and has an incarnation that no earlier start has used;
    - RESUMING: it was started again with its data, and asks the others whether that is its newest;
    - VIEW_CHANGE: it has left its view and tries to enter a higher one;
    - SEALED: it has entered its view, whose log ends with a configuration that is not committed yet; it appends nothing until then;
    - REPAIRING: it is in its view, but its log differs from the committed one; it fetches that, and appends nothing meanwhile;
    - NORMAL: it is in its view, and appends and executes requests.
    """

    BOOTSTRAPPING = "bootstrapping"
    LOST_STATE = "lost state"
    RECOVERING = "recovering"
    RESUMING = "resuming"
    VIEW_CHANGE = "view change"
    SEALED = "sealed"
    REPAIRING = "repairing"
    NORMAL = "normal"


NORMAL = (Status.NORMAL,)
IN_VIEW = (Status.NORMAL, Status.REPAIRING)
ENTERED = (*IN_VIEW, Status.SEALED)
IN_SERVICE = (Status.NORMAL, Status.REPAIRING, Status.VIEW_CHANGE, Status.SEALED)
HAS_STATE = (*IN_SERVICE, Status.BOOTSTRAPPING)
ANY_STATUS = tuple(Status)

RANDOM_BITS = 24
"""How many random bits an incarnation has, in case two starts have come to one number."""

LIFE_BITS = 16
"""How many bits of the cluster's life an incarnation has, so that what an earlier life knew is not taken for knowledge of this one."""

FIRST = 1
"""The number of a replica's first start."""


def new_incarnation(start: int, life: bytes, random_bits: int) -> int:
    """The incarnation of a replica's start number `start` in this life of the cluster; `life` is empty while that is not known.

    The random bits tell two starts apart that took the same number.
    """
    return (start << LIFE_BITS | int.from_bytes(life[-LIFE_BITS // 8 :])) << RANDOM_BITS | random_bits


def start_number(incarnation: int) -> int:
    """The number of the start that an incarnation belongs to: 1 for the first, 0 for an incarnation that is not known."""
    return incarnation >> LIFE_BITS + RANDOM_BITS


def life_of(first: Sequence[int]) -> bytes:
    """The name of the life of a cluster whose members had these first incarnations. It is the hash at position 0 of every log."""
    return blake2b(msgspec.msgpack.encode(first), digest_size=HASH_BYTES).digest()


class Group:
    """The members and this replica's place among them. The parts of a replica read the fields, and change them only by the methods.

    - `n`, `index`, `peers`, `quorums`: the members are 0 to n-1; this one is `index`, the others are `peers`.
    - `view` never goes down. `status`: see `Status`. `last_normal_view`: the last view that this replica has entered; -1 if there is none.
      The log does not show it, since a view may end without an entry.
    - `incarnations`: the highest incarnation of each member that this replica has heard of, its own included; 0 if it has heard of none.
      Each time a replica starts without its state, it takes a higher incarnation.
    - `first`: the first incarnation of each member; 0 if it is not known. Once it is full, it never changes. It names the life of the
      cluster: a cluster that is started anew, empty, has another one. `life` is that name, empty until then.
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
        self.first: tuple[int, ...] = (0,) * config.n
        self.life = b""
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
        """Set the status. NORMAL can be set only after a repair or a seal; `enter_view` sets it otherwise."""
        assert status is not Status.NORMAL or self.status in (Status.REPAIRING, Status.SEALED)
        self.status = status

    def enter_view(self, *, sealed: bool) -> None:
        """The log with which the view starts is in place. `sealed`: whether that must be committed before the view begins."""
        self.last_normal_view = self.view
        self.status = Status.SEALED if sealed else Status.NORMAL

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
            self._persist()

    def learn_of(self, member: int, incarnation: int) -> None:
        """Learn that `member` has this incarnation, unless a higher one is known."""
        self.learn([incarnation if peer == member else 0 for peer in range(self.n)])

    def set_first(self, first: Sequence[int]) -> None:
        """Set what is known of the first incarnations. Once all are known, and so the life of the cluster, they never change."""
        assert not self.life or not any(first) or tuple(first) == self.first
        if tuple(first) != self.first:
            self.first = tuple(first)
            self.life = life_of(self.first) if all(first) else b""
            later = zip(self.incarnations, self.first, strict=True)
            self.incarnations = tuple(known if start_number(known) > FIRST else one for known, one in later)
            self._persist()

    def is_of_this_life(self, incarnations: Sequence[int]) -> bool:
        """Whether all these incarnations can be of members in this life of the cluster. False as long as the life is not known."""
        life = int.from_bytes(self.life[-LIFE_BITS // 8 :])
        return self.life != b"" and all(
            incarnation in (0, first) or (start_number(incarnation) > FIRST and incarnation >> RANDOM_BITS & (1 << LIFE_BITS) - 1 == life)
            for incarnation, first in zip(incarnations, self.first, strict=True)
        )

    def _persist(self) -> None:
        if self.port.durable:
            self.port.persist(Known(self.incarnations, self.first))

    def restore_members(self, incarnations: tuple[int, ...], first: tuple[int, ...]) -> None:
        """Restore what an earlier start of this replica has persisted."""
        self.incarnations = incarnations
        self.first = first
        self.life = life_of(first) if all(first) else b""

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
        return [self.view, self.last_normal_view, self.status.value, self.incarnations, self.first, self.life]
