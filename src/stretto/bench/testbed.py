"""Protocols over the switches of a testbed: each replica, sequencer and client process is on a host of its own.

Replicas are in different racks as far as there are enough racks. The coordinator is on the host of the first client, because it asks the
replicas for their metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from stretto.bench.measure import Progress, measure, own_cluster
from stretto.bench.plan import SERVICES, Plan
from stretto.bench.report import Figures, combined, figures_of
from stretto.catalog import check, protocol
from stretto.core.config import ClusterConfig, Member, Multicast
from stretto.core.errors import StrettoError
from stretto.network.designs import Design, rules_for
from stretto.network.groups import Group, place
from stretto.network.model.traffic import Background
from stretto.network.topology import Topology
from stretto.network.verification import walk
from stretto.testbed import plan as testbed_plan
from stretto.testbed.background import background, targets
from stretto.testbed.commands import ControllerClient
from stretto.testbed.fabric import Fabric
from stretto.testbed.in_model import topology_in_model
from stretto.testbed.session import install

_PORT, _GROUP_PORT = 7000, 7100
_SEQUENCERS = 2
"""The number of hosts reserved for sequencers. A protocol without sequencers leaves them unused, so that replicas and clients have the same
hosts under every protocol."""


@dataclass(frozen=True)
class Places:
    """The hosts of a cluster. All of them may send to the `group`."""

    replicas: tuple[str, ...]
    sequencers: tuple[str, ...]
    clients: tuple[str, ...]
    group: Group

    @property
    def members(self) -> tuple[str, ...]:
        """The hosts of replicas and sequencers, indexed by their addresses in the cluster."""
        return (*self.replicas, *self.sequencers)


def place_cluster(topology: Topology, protocol_name: str, replicas: int, client_processes: int, seed: int) -> Places:
    """Hosts drawn from the seed, for `replicas` replicas or the limit of the protocol if that is less.

    Replicas and clients are on the same hosts under every protocol. Raises ConfigurationError if there are too few hosts.
    """
    definition = protocol(protocol_name)
    drawn = place(topology, client_processes + _SEQUENCERS, replicas, seed)
    members = drawn.members[: definition.max_replicas or replicas]
    sequencers, clients = drawn.senders[: definition.usual_sequencers], drawn.senders[_SEQUENCERS:]
    return Places(members, sequencers, clients, Group(drawn.address, members, (*sequencers, *clients, *members)))


def config_at(places: Places, names: testbed_plan.Plan, protocol_name: str, operation: str) -> ClusterConfig:
    """The configuration of a cluster on these hosts. Raises ConfigurationError if it is invalid."""
    members = tuple(Member(names.address(host), _PORT) for host in places.members)
    n = len(places.replicas)
    config = ClusterConfig(
        members[:n],
        protocol=protocol_name,
        service=SERVICES[operation],
        sequencers=members[n:],
        multicast=Multicast(places.group.address, _GROUP_PORT),
    ).validate()
    check(config)
    return config


def busiest_root(topology: Topology, group: Group, design: Design) -> str:
    """The root switch that is on the most paths from senders to members; of equals the first.

    With plain multicast there may be no root on any path; then it is the first root.
    """
    rules = rules_for(topology, group, design).rules
    met: Counter[str] = Counter()
    for sender in group.sending(topology):
        for _, path in walk(topology, rules, group.address, sender).arrivals:
            met.update(switch for switch in path if switch in topology.roots)
    return max(topology.roots, key=lambda root: met[root])


@dataclass(frozen=True)
class Setting:
    """What all measurements of a sweep share, besides the plan.

    `background`: the load of other traffic on the links that `testbed.background` chooses, from 0 to below 1. `kill_root`: the root on most
    paths is stopped half-way, and started again at the end. `repeat`: how often each measurement is made, with consecutive seeds.
    """

    replicas: int = 3
    background: float = 0.0
    kill_root: bool = False
    repeat: int = 1


def sweep(
    fabric: Fabric,
    controller: ControllerClient,
    plan: Plan,
    setting: Setting,
    protocols: Sequence[str],
    designs: Sequence[tuple[str, str]],
    progress: Progress,
) -> Iterator[Figures]:
    """Measure each protocol over each design. `designs`: names of designs with their merge rules.

    Yields the figures of bench for each, medians if it is repeated. A row has an `error` instead if the protocol could not be measured.
    """
    for name, merge in designs:
        for protocol_name in protocols:
            row: Figures = {"design": name, "merge": Design(name, merge).merges, "protocol": protocol_name}
            tell = partial(_tell, progress, f"{protocol_name} over {name}")
            try:
                runs = []
                for number in range(setting.repeat):
                    of_run = replace(plan, seed=plan.seed + number)
                    runs.append(measure_on(fabric, controller, of_run, setting, protocol_name, Design(name, merge, of_run.seed), tell))
                yield row | combined(runs)
            except StrettoError as error:
                yield row | {"error": str(error)}


def measure_on(
    fabric: Fabric,
    controller: ControllerClient,
    plan: Plan,
    setting: Setting,
    protocol_name: str,
    design: Design,
    progress: Progress,
) -> Figures:
    """One protocol over one design, once. Raises StrettoError if it cannot be measured."""
    names = fabric.plan
    places = place_cluster(names.topology, protocol_name, setting.replicas, plan.client_processes, plan.seed)
    config = config_at(places, names, protocol_name, plan.operation)
    plan.validate(config)
    install(controller, design, places.group)
    (card,) = topology_in_model(fabric).wires[places.clients[0]].values()
    traffic = Background(setting.background, "onoff", burst_rate_bps=card.rate_bps, seed=plan.seed)
    congested = targets(names.topology, places.group, design) if traffic.load else ()
    root = busiest_root(names.topology, places.group, design)

    def kill() -> str:
        fabric.kill(root)
        return root

    try:
        with (
            background(fabric, congested, traffic),
            fabric.entered(places.clients[0]),
            own_cluster(config, progress, lambda address: fabric.command(places.members[address])) as cluster,
        ):
            seen = measure(
                plan,
                config,
                cluster,
                progress,
                on_host=lambda process: fabric.entered(places.clients[process]),
                strike=kill if setting.kill_root else None,
            )
    finally:
        if setting.kill_root:
            fabric.revive(root)
    hosts = {"replicas": places.replicas, "sequencers": places.sequencers, "clients": places.clients}
    return figures_of(plan, config, seen) | {"background": setting.background, "hosts": hosts}


def _tell(progress: Progress, which: str, what: str, done: float | None) -> None:
    progress(f"{which}: {what}", done)
