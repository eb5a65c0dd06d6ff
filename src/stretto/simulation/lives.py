"""The lives of replicas: how they end and begin again, and whose memory is gone.

Protocols promise to survive the loss of at most f memories at once, of replicas that are gone for good or have not recovered yet. So
no fault may take more; `Lives` keeps the count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stretto.core.node import Address
from stretto.core.protocol import BOOTSTRAP, Start
from stretto.simulation.world import Machine
from stretto.storage.files import StorageFailure

BOOTSTRAPPING = "bootstrapping"
"""The status, in its metrics, of a replica in its first life until it is in service."""

_WITHOUT_MEMORY = ("lost state", "recovering")
"""The same in a later life that began without memory."""

Begin = Callable[[Machine, Start, bool], None]
"""Builds the node of a replica's next life, in which it remembers what it promised, or not."""


def status_of(machine: Machine) -> str | None:
    """What the node of a replica says of itself."""
    status: str | None = machine.node.metrics().get("status")
    return status


def in_service(machine: Machine) -> bool:
    """Whether the node of a replica takes part."""
    return status_of(machine) not in (BOOTSTRAPPING, *_WITHOUT_MEMORY)


class Lives:
    """Ends and begins the lives of replicas. `begin` builds the node of a life; `begun_again` counts those after the first."""

    def __init__(self, replicas: Sequence[Machine], begin: Begin) -> None:
        self.replicas = list(replicas)
        self.most_without_memory = (len(replicas) - 1) // 2
        self.begun_again = 0
        self._begin = begin
        self._gone: set[Address] = set()
        self._without: set[Address] = set()
        self._mistaken: set[Address] = set()
        self._recovered = 0

    # Who may be struck

    def living(self) -> list[Machine]:
        """The replicas that are not down."""
        return [machine for machine in self.replicas if not machine.crashed]

    def bootstrapping(self) -> bool:
        """Whether some replica may still be waiting for all others to have started."""
        return any(status_of(machine) == BOOTSTRAPPING for machine in self.living())

    def without_memory(self) -> set[Address]:
        """The replicas that have lost their memory and are not back in service; with a disk, not so that they would remember it."""
        for machine in self.replicas:
            if machine.crashed:
                if not machine.served:
                    self._without.add(machine.address)
            elif machine.address in self._without and (machine.served if machine.durable else in_service(machine)):
                self._without.discard(machine.address)
                self._recovered += 1
        return self._without

    def may_lose_memory(self) -> list[Machine]:
        """The living replicas whose memory may be lost, or is already."""
        without = self.without_memory()
        return [machine for machine in self.living() if len(without) < self.most_without_memory or machine.address in without]

    def may_end(self) -> list[Machine]:
        """The living replicas that may crash now: they would remember, or their memory may be lost."""
        expendable = self.may_lose_memory()
        return [machine for machine in self.living() if machine.served or machine in expendable]

    def may_end_later(self) -> list[Machine]:
        """The living replicas that may crash at any later time too, and all of them at once: that costs no memory."""
        without = self.without_memory()
        return [machine for machine in self.living() if machine.served or machine.address in without]

    # What happens to them

    def end(self, machine: Machine) -> None:
        """Let a living replica crash."""
        self.without_memory()  # to notice if it had recovered
        machine.crash()

    def lose_memory(self, machine: Machine) -> None:
        """What a replica that is down has on its disk is gone, or damaged."""
        self._without.add(machine.address)

    def end_for_good(self, machine: Machine) -> None:
        """Let a living replica crash, and never begin again."""
        self.end(machine)
        self.lose_memory(machine)
        self._gone.add(machine.address)

    def begin_again(self, machine: Machine) -> None:
        """Let a replica begin its next life, with what its disk has, unless it lives, or is gone for good, or its disk fails."""
        if not machine.crashed or machine.address in self._gone:
            return
        try:
            records = machine.recall()
        except StorageFailure:
            return
        self.begun_again += 1
        remembers = machine.served
        if remembers:
            self._without.discard(machine.address)
        else:
            self._without.add(machine.address)
        self._begin(machine, Start(records=records), remembers)

    def begin_mistakenly(self, machine: Machine) -> None:
        """Let a replica that lost its memory begin as if for the first time. It should end when it hears that it is not; see `refused`.

        One that has been in service meanwhile begins as it should: with its records on the disk, it is no first start.
        """
        if machine.served:
            return self.begin_again(machine)
        try:
            machine.recall()
        except StorageFailure:
            return None
        self.begun_again += 1
        self._mistaken.add(machine.address)
        return self._begin(machine, BOOTSTRAP, False)

    def refused(self, address: Address) -> bool:
        """Told that a replica has ended itself: whether it had begun by mistake, so that it should."""
        if address not in self._mistaken:
            return False
        self._mistaken.discard(address)
        return True

    @property
    def recovered(self) -> int:
        """How many lives that began without memory have come into service."""
        self.without_memory()
        return self._recovered
