"""Pictures: a network with the paths of a group's messages, and the reorder rates of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stretto.network.designs import GroupRules
from stretto.network.topology import Topology, split_end
from stretto.network.verification import walk

COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#b9770e", "#7d3c98", "#117a65", "#5d6d7e", "#d35400")
STYLES = {
    "plain": ("#7f8c8d", "o"),
    "topology_aware": ("#b9770e", "s"),
    "prioritised": ("#2471a3", "^"),
    "serialised": ("#1e8449", "D"),
}
_ROW = 1.0


def draw_group(topology: Topology, compiled: GroupRules, title: str, file: str | Path) -> None:
    """Draw the switches, the hosts of the group, and each sender's paths in a different colour, for at most eight senders."""
    senders = compiled.group.sending(topology)[: len(COLOURS)]
    members = compiled.group.members
    place = _places(topology, {*senders, *members})
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.add_subplot()
    for link in topology.links:
        (a, _), (b, _) = (split_end(end) for end in link.ends)
        if a in place and b in place:
            axes.plot(*zip(place[a], place[b], strict=True), color="#d5d8dc", linewidth=0.4, zorder=1)
    for number, sender in enumerate(senders):
        # Shifted sideways, so that all paths that share a link are visible.
        shift = (number - (len(senders) - 1) / 2) * (0.018 if len(place) < 60 else 0.006)
        for node, port, _ in walk(topology, compiled.rules, compiled.group.address, sender).hops:
            peer = topology.wires[node][port].peer
            (x0, y0), (x1, y1) = place[node], place[peer]
            up = y1 > y0
            axes.annotate(
                "",
                xy=(x1 + shift * 0.6, y1 + shift + (0.02 if up else -0.02)),
                xytext=(x0 + shift * 0.6, y0 + shift + (0.02 if up else -0.02)),
                arrowprops={"arrowstyle": "-|>", "color": COLOURS[number], "linewidth": 1.4, "linestyle": "-" if up else "--"},
                zorder=3,
            )
    drawn = sorted((name for name in place if not topology.level[name]), key=lambda name: place[name])
    for name, (x, y) in place.items():
        level = topology.level[name]
        marker, size, colour = ("s", 60, "#34495e") if level else ("o", 45, "#ffffff")
        if name in senders:
            colour = COLOURS[senders.index(name)]
        axes.scatter([x], [y], marker=marker, s=size, color=colour, edgecolors="#34495e", zorder=4)
        if level == 0 or len(place) < 60 or name in compiled.roots:
            role = "\nsends" if name in senders else "\nreceives" if level == 0 else ""
            # Names of hosts are in three rows, so that they do not overlap.
            above = 0.07 if level else -0.09 - 0.13 * (drawn.index(name) % 3)
            axes.text(x, y + above, name + role, ha="center", va="bottom" if level else "top", fontsize=7, zorder=5)
    axes.set_title(title)
    axes.set_axis_off()
    axes.margins(0.04, 0.12)
    figure.savefig(file, dpi=130)


def _places(topology: Topology, hosts: set[str]) -> dict[str, tuple[float, float]]:
    """The coordinates of each node: the switches of a level in a row, and hosts below their rack."""
    place: dict[str, tuple[float, float]] = {}
    for level in range(1, max(topology.level.values()) + 1):
        row = [switch.name for switch in topology.switches if switch.level == level]
        for i, name in enumerate(row):
            place[name] = ((i + 0.5) / len(row), level * _ROW)
    racks: dict[str, list[str]] = {}
    for host in topology.hosts:
        if host in hosts:
            racks.setdefault(topology.rack(host)[0], []).append(host)
    width = 0.9 / sum(switch.level == 1 for switch in topology.switches)
    for rack, names in racks.items():
        for i, name in enumerate(names):
            place[name] = (place[rack][0] + ((i + 0.5) / len(names) - 0.5) * max(width, 0.05 * len(names)), 0.3)
    return place


def draw_reordering(rows: Sequence[dict[str, Any]], title: str, file: str | Path) -> None:
    """Plot the reorder rate against the load, with a line for each design, and confidence intervals if there are several seeds."""
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.add_subplot()
    _draw_rates(axes, rows, "load")
    axes.legend(loc="upper left", fontsize=8)
    axes.set_title(title, fontsize=9)
    figure.savefig(file, dpi=130)


def draw_side_by_side(panels: Mapping[str, Sequence[dict[str, Any]]], title: str, file: str | Path) -> None:
    """Plot the reorder rates of several networks side by side, each under its name.

    The x axis is the rate of messages, with a row of plots for each load; or the load, with a row for each rate, if there are more loads.
    """
    values = {key: sorted({row[key] for rows in panels.values() for row in rows}) for key in ("load", "rate")}
    x, y = ("load", "rate") if len(values["load"]) > len(values["rate"]) else ("rate", "load")
    figure = Figure(figsize=(1 + 5.5 * len(panels), 0.6 + 4.4 * len(values[y])), layout="constrained")
    grid = figure.subplots(len(values[y]), len(panels), squeeze=False)
    for line, constant in zip(grid, values[y], strict=True):
        for axes, (name, rows) in zip(line, panels.items(), strict=True):
            _draw_rates(axes, [row for row in rows if row[y] == constant], x)
            axes.set_title(f"{name}, {_LABELS[y]}: {constant:g}", fontsize=9)
    grid[0][0].legend(loc="upper left", fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(file, dpi=130)


_LABELS = {"load": "background load of the links", "rate": "messages per second"}


def _draw_rates(axes: Any, rows: Sequence[dict[str, Any]], key: str) -> None:
    for design, (colour, marker) in STYLES.items():
        for merge, line in (("per_root", "-"), ("early", "--"), (None, "-")):
            mine = sorted((row for row in rows if row["design"] == design and row["merge"] == merge), key=lambda row: row[key])
            if not mine:
                continue
            xs = [row[key] for row in mine]
            label = design if merge is None else f"{design}, merge {merge}"
            axes.plot(xs, [row["overtaken"] for row in mine], line, color=colour, marker=marker, markersize=5, label=label)
            if "overtaken_low" in mine[0]:
                low, high = ([row[f"overtaken_{end}"] for row in mine] for end in ("low", "high"))
                axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    if key == "rate":
        axes.set_xscale("log")
        rates = sorted({row["rate"] for row in rows})
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
    axes.set_yscale("symlog", linthresh=1e-4, linscale=0.5)
    axes.set_ylim(-2e-5, 1)
    axes.set_yticks([0, 1e-4, 1e-3, 1e-2, 1e-1, 1], ["0", "0.01%", "0.1%", "1%", "10%", "100%"])
    axes.set_xlabel(_LABELS[key])
    axes.set_ylabel("messages delivered out of order (overtaken)")
    axes.grid(alpha=0.3)
