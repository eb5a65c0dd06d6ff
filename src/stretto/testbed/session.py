"""A testbed for the duration of a command: the one that is up, or a temporary one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stretto.network.designs import Design
from stretto.network.groups import Group
from stretto.network.topologies import named
from stretto.testbed import fabric as fabrics
from stretto.testbed import record
from stretto.testbed.commands import ControllerClient
from stretto.testbed.fabric import Fabric
from stretto.testbed.plan import Plan, directory
from stretto.testbed.record import TestbedFailure

TOPOLOGY = "testbed(pod_gbps=1)"
"""Twelve switches. Links between switches of a pod are as fast as those of hosts, so that a few hosts can congest one."""


@contextmanager
def running(
    name: str,
    topology: str | None = None,
    scale: float | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Iterator[tuple[Fabric, ControllerClient]]:
    """The testbed of this name and its controller. If it is not up, it is brought up, and taken down on exit. `progress` gets each step.

    A testbed that is up stays up, with the rules that were last installed. Raises what `Fabric.up` raises, also if it is up with another
    topology or scale than given.
    """
    made = record.load(directory(name))
    was_up = made is not None and made.complete
    if was_up and topology is None and scale is None:
        fabric = Fabric.existing(name)
    else:
        fabric = Fabric(Plan(named(topology or TOPOLOGY), name), fabrics.SCALE if scale is None else scale)
    fabric.up(lambda what: progress(f"bringing up testbed {name}{'' if was_up else ', for this run only'}: {what}"))
    try:
        yield fabric, ControllerClient(fabric.plan.controller_socket)
    finally:
        if not was_up:
            progress(f"taking testbed {name} down")
            fabrics.down(name)


def install(controller: ControllerClient, design: Design, group: Group) -> None:
    """Install this group and no other, under this design. Raises TestbedFailure if the switches then have other tables than they should."""
    controller.set_groups(())
    controller.set_design(design)
    controller.set_groups((group,))
    verification = controller.verify()
    if verification.unreachable or not verification.good:
        wrong = [f"{name} cannot be reached" for name in verification.unreachable]
        wrong += [f"{found.switch}: {found.kind}, {found.detail}" for found in verification.deviations]
        wrong += [f"{found.kind}: {found.detail}" for found in verification.violations]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise TestbedFailure(f"the tables of the switches are wrong: {wrong[0]}{more}")
