"""Options of commands that multicast over a network, and the groups that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import CommaSeparated, Option, seed_option, together
from stretto.network.designs import DESIGNS, MERGES

if TYPE_CHECKING:
    from stretto.network.groups import Group
    from stretto.network.topology import Topology

_MOST_GROUPS = 60_000

topology_option = click.option(
    "--topology", default="datacentre", show_default=True, help="testbed, datacentre, fat_tree(K), leaf_spine(L,S,H), or a .toml file."
)
"""`topology`."""

design_option = click.option("--design", type=click.Choice(DESIGNS), default="serialised", show_default=True, help="The multicast design.")
"""`design`."""

designs_option = click.option(
    "--design",
    "designs",
    type=CommaSeparated(str, DESIGNS),
    default="all",
    show_default=True,
    help="Multicast designs, or all.",
)
"""`designs`."""

merge_option = click.option(
    "--merge", type=click.Choice(MERGES), default="per_root", show_default=True, help="Where paths over different roots meet."
)
"""`merge`."""

failed_option = click.option(
    "--failed", type=CommaSeparated(str), default="", help="Switches, hosts and links (by an end, node:port) that have failed."
)
"""`failed`."""

places_seed_option = seed_option("Decides places, hashes and traffic.", 1)
"""`seed`."""


def members_options(default: int) -> Option[Any]:
    """`senders` and `receivers`: how many."""
    return together(
        click.option("--senders", default=default, show_default=True, help="How many hosts send."),
        click.option("--receivers", default=default, show_default=True, help="How many hosts receive."),
    )


placement_options = together(
    topology_option,
    members_options(5),
    places_seed_option,
    click.option("--groups", "groups_file", type=click.Path(path_type=Path), help="A TOML file of groups, instead of random places."),
    click.option(
        "--group-count", type=click.IntRange(1, _MOST_GROUPS), default=1, show_default=True, help="How many groups to place at random."
    ),
)
"""`topology`, and all parameters of `chosen_groups` after its first."""


def chosen_groups(
    topology: Topology, groups_file: Path | None, group_count: int, senders: int, receivers: int, seed: int
) -> tuple[Group, ...]:
    """The groups that the options name. Raises ConfigurationError if their file is wrong, or if they do not fit the topology."""
    from stretto.network import groups

    if groups_file is not None:
        return groups.load(groups_file, topology)
    return tuple(groups.place(topology, senders, receivers, seed, index) for index in range(group_count))
