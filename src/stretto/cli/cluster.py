"""`stretto cluster`: a cluster on this machine, in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stretto.cli.options import durability_option, json_option, multicast_option, protocol_option, service_option
from stretto.cli.output import console, print_json
from stretto.core.config import FILE_NAME, Durability

directory_argument = click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".", metavar="[DIR]")


@click.group()
def command() -> None:
    """Set up, start, watch and end a cluster on this machine.

    DIR holds its configuration, cluster.toml, and the replicas' logs and data; without it, the current directory does.
    """


@command.command()
@directory_argument
@click.option("--replicas", default=3, show_default=True, help="How many: 2f+1 survive f failures.")
@protocol_option
@service_option()
@multicast_option
@durability_option
def init(directory: Path, replicas: int, protocol: str, service: str, multicast: bool, durability: Durability) -> None:
    """Write a configuration for a cluster on the loopback address, on free ports."""
    from stretto import catalog
    from stretto.runtime.local_cluster import LocalCluster, loopback_config

    sequencers = catalog.protocol(protocol).usual_sequencers
    config = loopback_config(replicas, protocol, service, sequencers=sequencers, multicast=multicast, durability=durability)
    catalog.check(config)
    cluster = LocalCluster.create(directory, config)
    place = "" if directory == Path() else f" {directory}"
    what = f"{_count(replicas, sequencers)}, protocol {protocol}, durability {durability}"
    click.echo(f"{cluster.file} written: {what}. Start it with: stretto cluster up{place}")


@command.command()
@directory_argument
@click.option("--repair", is_flag=True, help="Replicas with damaged data move it aside, and recover from the others.")
def up(directory: Path, repair: bool) -> None:
    """Start all replicas and sequencers that are not running, and wait until they serve.

    Replicas that died recover from the others. With durability "disk", every replica restarts from its data.
    """
    from stretto.catalog import check
    from stretto.runtime.local_cluster import LocalCluster

    cluster = LocalCluster(directory)
    check(cluster.config)
    started = cluster.start(lambda index: click.echo(f"{cluster.name(index)} is up", err=True), repair=repair)
    which = _count(cluster.config.n, len(cluster.config.sequencers))
    click.echo(f"{which} up{'' if started else ' already'}, durability {cluster.config.durability}; logs are in {directory}")


@command.command()
@directory_argument
def down(directory: Path) -> None:
    """End all replicas and sequencers. What they have in memory is lost; logs, configuration and data on disk stay."""
    from stretto.runtime.local_cluster import LocalCluster

    ended = LocalCluster(directory).stop()
    click.echo(f"{_count(ended)} ended" if ended else "no replica was running")


@command.command()
@directory_argument
@json_option
def status(directory: Path, as_json: bool) -> int:
    """Show the state of each replica and sequencer. Exit status 1 if not all of them answer."""
    from stretto.runtime.local_cluster import LocalCluster

    cluster = LocalCluster(directory)
    replicas, sequencers = cluster.status(), cluster.sequencer_status()
    if as_json:
        config = cluster.config
        what = {"protocol": config.protocol, "service": config.service, "durability": config.durability}
        print_json({"config": str(directory / FILE_NAME), **what, "replicas": replicas, "sequencers": sequencers})
    else:
        _print_table("replica", replicas, ("view", "leader", "committed", "last_position"))
        if sequencers:
            _print_table("sequencer", sequencers, ("view", "stamped"))
    return 0 if all(member["state"] == "running" for member in replicas + sequencers) else 1


def _count(replicas: int, sequencers: int = 0) -> str:
    counted = [f"{count} {what}{'' if count == 1 else 's'}" for count, what in ((replicas, "replica"), (sequencers, "sequencer")) if count]
    return " and ".join(counted)


def _print_table(kind: str, members: list[dict[str, Any]], shown: tuple[str, ...]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in (kind, "address", "state", "pid", *shown):
        table.add_column(title, justify="left" if title in ("address", "state") else "right", overflow="fold")
    for member in members:
        metrics = member["metrics"] or {}
        known = [metrics.get(name, "-") for name in shown]
        table.add_row(*map(str, [member["index"], member["address"], member["state"], member["pid"] or "-", *known]))
    console().print(table)
