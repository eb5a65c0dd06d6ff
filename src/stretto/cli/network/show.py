"""`stretto network show`: a topology, and the paths of groups' messages."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.tree import Tree

from stretto.cli.network.options import chosen_groups, design_option, failed_option, merge_option, placement_options
from stretto.cli.network.tables import print_cut
from stretto.cli.options import json_option, plot_option
from stretto.cli.output import print_json, writing
from stretto.network.designs import Design, GroupRules, rules_for
from stretto.network.routes import Failed, Routes
from stretto.network.topologies import named
from stretto.network.topology import Topology
from stretto.network.verification import walk


@click.command()
@placement_options
@design_option
@merge_option
@failed_option
@json_option
@plot_option("the first group's paths")
@click.option("--save", type=click.Path(path_type=Path), help="Write the topology into this TOML file.")
def command(
    topology: str,
    senders: int,
    receivers: int,
    seed: int,
    groups_file: Path | None,
    group_count: int,
    design: str,
    merge: str,
    failed: tuple[str, ...],
    as_json: bool,
    plot: Path | None,
    save: Path | None,
) -> None:
    """A topology, and the paths of groups' messages under a design."""
    network = named(topology)
    chosen = chosen_groups(network, groups_file, group_count, senders, receivers, seed)
    compiler = Design(design, merge, seed)
    routes = Routes(network, Failed(network, failed))
    compiled = [rules_for(network, group, compiler, routes) for group in chosen]
    if save is not None:
        with writing(save):
            save.write_text(network.to_toml(), encoding="utf-8")
    if plot is not None:
        from stretto.network.drawing import draw_group

        under = f"{design}, merge {merge}" if compiler.merges else design
        with writing(plot):
            draw_group(network, compiled[0], f"{topology}: {chosen[0].address} under {under} (seed {seed})", plot)
    if as_json:
        counts = {"switches": len(network.switches), "hosts": len(network.hosts), "links": len(network.links)}
        print_json({"topology": topology, **counts, "roots": network.roots})
    else:
        sizes = f"{len(network.switches)} switches, {len(network.hosts)} hosts, {len(network.links)} links"
        Console().print(f"[bold]{topology}[/]: {sizes}")
    for each in compiled:
        _show_group(network, each, design, as_json)


def _show_group(network: Topology, compiled: GroupRules, design: str, as_json: bool) -> None:
    address = compiled.group.address
    walks = {sender: walk(network, compiled.rules, address, sender) for sender in compiled.group.senders or ()}
    if as_json:
        paths = {sender: dict(walked.arrivals) for sender, walked in walks.items()}
        print_json(
            {"group": msgspec.to_builtins(compiled.group), "design": design, "roots": compiled.roots, "paths": paths, "cut": compiled.cut}
        )
        return
    tree = Tree(f"[bold]{address}[/] under {design}" + (f", roots {', '.join(compiled.roots)}" if compiled.roots else ""))
    for sender, walked in walks.items():
        branch = tree.add(f"from {sender}")
        for host, path in sorted(walked.arrivals):
            branch.add(f"{' > '.join(path)} > [green]{host}[/]")
    Console().print(tree)
    print_cut(address, compiled.cut)
