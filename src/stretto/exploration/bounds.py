"""The bounds of an exploration: the size of the world, and how much happens in it."""

from __future__ import annotations

from difflib import get_close_matches

import msgspec

from stretto.core.config import ClusterConfig, Limits, Member, Timeouts
from stretto.core.errors import ConfigurationError

MAX_OPERATIONS = 26


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size of a world, and limits on what happens in it.

    - `replicas`, `clients`, `sequencers`: how many nodes of each, the last for a protocol that has them;
    - `operations`: how many calls are made in all, the clients taking turns;
    - `views`: the highest view that a replica may reach;
    - `timers`: how many times a timer fires;
    - `crashes`: how many times a replica or sequencer crashes and restarts;
    - `stamps`: how many numbers a sequencer assigns after the start: each copy of a request gets a number of its own;
    - `checkpoints`: after how many operations a replica takes a checkpoint and compacts its log; 0 if it takes none;
    - `sessions`: for how many sessions replicas have room, so that later ones make them drop others; 0 for more than there are.

    Nothing else is bounded: messages may be lost, duplicated, late, and in any order, and replicas may stop for good, any number of times.
    """

    replicas: int = 3
    clients: int = 2
    sequencers: int = 0
    operations: int = 2
    views: int = 3
    timers: int = 1
    crashes: int = 0
    stamps: int = 3
    checkpoints: int = 0
    sessions: int = 0

    def validate(self) -> Bounds:
        """These bounds, if they make sense. Raises ConfigurationError with the key and what would be right."""
        for name in self.__struct_fields__:
            least = 1 if name in ("replicas", "clients", "operations") else 0
            if getattr(self, name) < least:
                raise ConfigurationError(f"{getattr(self, name)} is too small; {least} or more", key=f"bounds.{name}")
        if self.replicas % 2 == 0:
            raise ConfigurationError(f"{self.replicas} is even; an odd number of replicas is needed", key="bounds.replicas")
        if self.operations > MAX_OPERATIONS:
            raise ConfigurationError(f"{self.operations} is too large; at most {MAX_OPERATIONS}", key="bounds.operations")
        return self

    @property
    def members(self) -> int:
        """How many nodes there are besides the clients."""
        return self.replicas + self.sequencers

    def config(self, protocol: str) -> ClusterConfig:
        """The configuration that the nodes see.

        A call ends without a result when the client's timer fires. Retransmissions would be useless, since any message may arrive at any
        time.
        """
        members = tuple(Member(f"member-{address}", 1) for address in range(self.members))
        replicas, sequencers = members[: self.replicas], members[self.replicas :]
        usual = Limits()
        limits = Limits(
            checkpoint_operations=self.checkpoints or usual.checkpoint_operations, max_sessions=self.sessions or usual.max_sessions
        )
        return ClusterConfig(replicas, protocol, sequencers=sequencers, timeouts=Timeouts(request_timeout_ms=1e-6), limits=limits)

    def __str__(self) -> str:
        return ",".join(f"{name}={getattr(self, name)}" for name in self.__struct_fields__)


def parse_bounds(text: str) -> Bounds:
    """Bounds from text such as `views=3,timers=2`; the others have their defaults. Raises ConfigurationError."""
    known = Bounds.__struct_fields__
    values: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? There are" if near else "there are"
            raise ConfigurationError(f"{name!r} is not a bound; {hint} {', '.join(known)}", key="bounds")
        if not equals or not number.isdecimal():
            raise ConfigurationError(f"{part.strip()!r} is not of the form {name}=NUMBER", key="bounds")
        if name in values:
            raise ConfigurationError(f"{name} is given twice", key="bounds")
        values[name] = int(number)
    return Bounds(**values).validate()
