"""Starts, crashes and incarnations of simulated replicas, and which replicas have lost their state.

Protocols tolerate that at most f replicas have lost their state at the same time, including those that crashed for good and those that have
not recovered yet. Faults must not exceed this; `Lifecycle` keeps the count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stretto.core.node import Address
from stretto.core.protocol import BOOTSTRAP, Start
from stretto.simulation.world import Machine
from stretto.storage.files import StorageFailure

BOOTSTRAPPING = "bootstrapping"
"""The status, in its metrics, of a replica in its first incarnation until it is in service."""

Begin = Callable[[Machine, Start, bool], None]
"""Builds the node of a replica's next incarnation. The last argument: whether that incarnation has kept its state."""


def status_of(machine: Machine) -> str | None:
    """The status that the node of a replica reports."""
    status: str | None = machine.node.metrics().get("status")
    return status


def in_service(machine: Machine) -> bool:
    """Whether the node of a replica takes part in the protocol."""
    return bool(machine.node.metrics().get("in_service", True))


class Lifecycle:
    """Crashes and restarts replicas. `begin` builds the node of an incarnation; `restarts` counts the incarnations after the first."""

    def __init__(self, replicas: Sequence[Machine], begin: Begin) -> None:
        self.replicas = list(replicas)
        self.max_lost = (len(replicas) - 1) // 2
        self.restarts = 0
        self._begin = begin
        self._gone: set[Address] = set()
        self._lost: set[Address] = set()
        self._mistaken: set[Address] = set()
        self._recovered = 0

    # Which replicas a fault may strike

    def running(self) -> list[Machine]:
        """The replicas that are not down."""
        return [machine for machine in self.replicas if not machine.crashed]

    def bootstrapping(self) -> bool:
        """Whether some replica may still be waiting for all others to have started."""
        return any(status_of(machine) == BOOTSTRAPPING for machine in self.running())

    def lost_state(self) -> set[Address]:
        """The replicas that have lost their state and have not recovered.

        A replica without a disk has recovered when it is back in service, one with a disk when the disk holds the recovered state.
        """
        for machine in self.replicas:
            if machine.crashed:
                if not machine.served:
                    self._lost.add(machine.address)
            elif machine.address in self._lost and (machine.served if machine.durable else in_service(machine)):
                self._lost.discard(machine.address)
                self._recovered += 1
        return self._lost

    def may_lose_state(self) -> list[Machine]:
        """The running replicas whose state may be lost, or is lost already."""
        lost = self.lost_state()
        return [machine for machine in self.running() if len(lost) < self.max_lost or machine.address in lost]

    def may_crash(self) -> list[Machine]:
        """The running replicas that may crash now: those that would keep their state, and those that may lose it."""
        expendable = self.may_lose_state()
        return [machine for machine in self.running() if machine.served or machine in expendable]

    def may_crash_later(self) -> list[Machine]:
        """The running replicas that may also crash at any later time, even all at once: none of them would lose its state."""
        lost = self.lost_state()
        return [machine for machine in self.running() if machine.served or machine.address in lost]

    # Crashes and starts

    def crash(self, machine: Machine) -> None:
        """Crash a running replica."""
        self.lost_state()  # to note whether the replica has recovered
        machine.crash()

    def lose_state(self, machine: Machine) -> None:
        """Record that the data on the disk of a replica that is down is gone or damaged."""
        self._lost.add(machine.address)

    def crash_for_good(self, machine: Machine) -> None:
        """Crash a running replica, which is never restarted."""
        self.crash(machine)
        self.lose_state(machine)
        self._gone.add(machine.address)

    def restart(self, machine: Machine) -> None:
        """Start a replica's next incarnation from its disk, unless it is running, has crashed for good, or its disk fails."""
        if not machine.crashed or machine.address in self._gone:
            return
        try:
            records = machine.recall()
        except StorageFailure:
            return
        self.restarts += 1
        kept_state = machine.served
        if kept_state:
            self._lost.discard(machine.address)
        else:
            self._lost.add(machine.address)
        self._begin(machine, Start(records=records, written=machine.found), kept_state)

    def bootstrap_mistakenly(self, machine: Machine) -> None:
        """Start a replica that lost its state as if for the first time. It must stop when it learns that this is wrong; see `refused`.

        If it has been in service meanwhile, it starts correctly: it has records on its disk, so this is no first start.
        """
        if machine.served:
            return self.restart(machine)
        try:
            machine.recall()
        except StorageFailure:
            return None
        self.restarts += 1
        self._mistaken.add(machine.address)
        return self._begin(machine, BOOTSTRAP, False)

    def refused(self, address: Address) -> bool:
        """Called when a replica has stopped itself. Returns whether it had been bootstrapped by mistake, and so had to stop."""
        if address not in self._mistaken:
            return False
        self._mistaken.discard(address)
        return True

    @property
    def recovered(self) -> int:
        """How many incarnations that began with lost state have come into service."""
        self.lost_state()
        return self._recovered
