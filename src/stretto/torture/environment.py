"""The environment of a run: a cluster of replica processes, with a switch and a small disk if the machine allows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stretto.core.config import ClusterConfig, Durability, Limits, Member, Multicast
from stretto.runtime.local_cluster import LocalCluster, loopback_config
from stretto.runtime.namespaces import NoNetwork
from stretto.torture.disk import NoDisk, SmallDisk
from stretto.torture.leftovers import own_directory
from stretto.torture.namespaces import CLIENTS, Network, host_address
from stretto.torture.schedule import FULL_DISK, KINDS, with_small_disk

CHECKPOINT_OPERATIONS = 5_000
"""A checkpoint every few seconds, so that replicas recover by checkpoint as often as by log."""
_DISK_MEGABYTES = 256
_PORT, _GROUP_PORT = 7000, 7100


@dataclass
class Environment:
    """A directory, a running cluster, and what the faults need. `skipped` maps each kind that is not possible here to the reason."""

    directory: Path
    cluster: LocalCluster
    network: Network | None
    disk: SmallDisk | None
    skipped: dict[str, str]


@contextmanager
def environment(
    protocol: str, service: str, replicas: int, durability: Durability, kinds: Sequence[str], sequencers: int = 0
) -> Iterator[Environment]:
    """Start a cluster for faults of these kinds, and on exit remove everything that was made. Inside, this thread is on the clients' host.

    Faults hit replicas only. Sequencers are numbered after the replicas and have hosts or processes of their own.

    Raises ConfigurationError or ClusterFailure if the replicas cannot be started.
    """
    skipped: dict[str, str] = {}
    if durability == "memory":
        skipped |= {kind: "the replicas have no disk; --durability disk gives them one" for kind in kinds if KINDS[kind].durable}
    with ExitStack() as made:
        directory = made.enter_context(own_directory())
        network = disk = None
        try:
            network = _network(directory, replicas + sequencers, made) if any(KINDS[kind].network for kind in kinds) else None
        except NoNetwork as error:
            skipped |= {kind: str(error) for kind in kinds if KINDS[kind].network}
        config = _config(network, protocol, service, replicas, sequencers, durability)
        cluster = LocalCluster.create(directory / "cluster", config, _here if network is None else network.command)
        try:
            disk = _small_disk(directory, cluster) if FULL_DISK in kinds and durability == "disk" else None
        except NoDisk as error:
            skipped[FULL_DISK] = str(error)
        cluster.start()
        yield Environment(directory, cluster, network, disk, skipped)


def _here(index: int) -> tuple[str, ...]:
    return ()


def _network(directory: Path, members: int, made: ExitStack) -> Network:
    network = Network(directory.name, members)
    network.up()
    made.enter_context(network.entered(CLIENTS))
    return network


def _small_disk(directory: Path, cluster: LocalCluster) -> SmallDisk:
    """Put one replica's data on a small disk in memory. The others keep theirs on the machine's disk, with its real write times."""
    disk = SmallDisk(directory / "disk", _DISK_MEGABYTES)
    disk.up()
    (disk.path / "data").mkdir()
    cluster.data[with_small_disk(cluster.config.n)].symlink_to(disk.path / "data")
    return disk


def _config(network: Network | None, protocol: str, service: str, replicas: int, sequencers: int, durability: Durability) -> ClusterConfig:
    if network is None:
        return loopback_config(
            replicas,
            protocol,
            service,
            sequencers=sequencers,
            durability=durability,
            checkpoint_operations=CHECKPOINT_OPERATIONS,
        )
    members = tuple(Member(host_address(address), _PORT) for address in range(replicas + sequencers))
    return ClusterConfig(
        members[:replicas],
        sequencers=members[replicas:],
        protocol=protocol,
        service=service,
        durability=durability,
        multicast=Multicast("239.83.84.1", _GROUP_PORT),
        limits=Limits(checkpoint_operations=CHECKPOINT_OPERATIONS),
    ).validate()
