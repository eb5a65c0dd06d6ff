"""Protocols over the packet-level model of twelve switches: four multicast designs, with increasing other traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log

from stretto.network.designs import DESIGNS
from stretto.network.experiment import Setting
from stretto.reproduction.charts import Axis, Chart, Line, Table, chart_or_none, line
from stretto.reproduction.claims import NSDI15, AtLeast, AtMost, Claim, Finding
from stretto.reproduction.experiment import Experiment, Scope, replicas_of, replicated
from stretto.reproduction.points import AnyPoint, Ordering, Simulated
from stretto.reproduction.rows import Missing, Rows
from stretto.reproduction.styles import in_order, label_of
from stretto.simulation.fabric import Fabric

_REPLICAS, _CLIENTS, _SESSIONS = 5, 8, 40
_TWELVE = "testbed"
_NETWORKS = {
    "even": ("datacentre", "per_root", "2,560 hosts whose links of 1 Gbit/s meet links of 10 Gbit/s everywhere"),
    "slow pods": ("datacentre(pod_gbps=1)", "early", "2,560 hosts with 1 Gbit/s up to the aggregation switches, where paths merge"),
}
"""Topology, where paths over different roots merge, and a description. The papers publish neither link rates nor merging."""
_PLAIN_IN_PAPER = 0.1


def _points(scope: Scope) -> Iterator[AnyPoint]:
    for load in scope.chosen((0.0, 0.3, 0.5), (0.0, 0.1, 0.3, 0.5, 0.7)):
        for design in DESIGNS:
            for protocol in replicated(scope.protocols):
                for seed in scope.seeds(1, 2):
                    factors = {"protocol": protocol, "design": design, "load": load, "seed": seed}
                    longest_ns = scope.sized(30_000_000, 100_000_000)
                    more = {"clients": _CLIENTS, "fabric": Fabric(_TWELVE, design, load=load), "fault_ns": longest_ns}
                    replicas, operations = replicas_of(protocol, _REPLICAS), scope.sized(800, 3_000)
                    yield Simulated(factors, scope.spec(protocol, replicas, _SESSIONS, operations, seed=seed, **more))
    for network, (topology, merge, _) in _NETWORKS.items():
        for load in scope.chosen((0.1, 0.2, 0.5, 0.7), (0.1, 0.2, 0.3, 0.5, 0.7, 0.8)):
            for design in DESIGNS:
                for seed in scope.seeds(1, 2):
                    setting = Setting(topology, design, merge, load, messages=scope.sized(1_000, 2_000), seed=seed)
                    yield Ordering({"network": network, "design": design, "load": load, "seed": seed}, setting)


def _improved(network: str) -> Callable[[Rows], Finding]:
    """How many times fewer messages are out of order with topology-aware multicast."""

    def find(rows: Rows) -> Finding:
        rows = rows.where(network=network)

        def overtaken(design: str, load: float) -> float:
            return rows.where(design=design, load=load).median("overtaken")

        if not rows:
            raise Missing(f"the order on the network {network}")
        load = min(rows.values("load"), key=lambda load: abs(log(max(overtaken("plain", load), 1e-9) / _PLAIN_IN_PAPER)))
        plain, aware, ahead = (overtaken(design, load) for design in ("plain", "topology_aware", "prioritised"))
        ratio = plain / aware if aware else float("inf")
        text = f"from {plain:.2%} to {aware:.2%}" + (f", {ratio:.3g} times fewer" if aware else "")
        reason = f"On {_NETWORKS[network][2]}, with a link load of {load:.0%} by other traffic, the load of this run at "
        return Finding(ratio, text, f"{reason}which plain multicast is nearest to 10%. With priority as well, {ahead:.2%} remain.")

    return find


def _serial(rows: Rows) -> Finding:
    """The greatest share of messages out of order behind one switch that serialises."""
    mine = Rows(row for row in rows.where(design="serialised") if "network" in row)
    worst = mine.spread("overtaken")[1]
    loads = mine.values("load")
    reason = f"The most over all loads from {min(loads):.0%} to {max(loads):.0%} and all seeds."
    return Finding(worst, "none" if not worst else f"up to {worst:.3%}", reason)


def _show(rows: Rows) -> Iterator[Chart | Table | None]:
    ordering, runs = rows.where(kind="ordering"), rows.where(kind="simulated")
    x = Axis("load of the links by other traffic", percent=True, least=0)
    for network, (_, _, words) in _NETWORKS.items():
        mine = ordering.where(network=network)
        lines = [_above_zero(line(mine.where(design=design), design, "load", "overtaken")) for design in DESIGNS]
        note = f"Multicasts alone, without a protocol: {words}. Points at zero are not drawn; a design without a line reordered nothing."
        title = f"Messages that receivers get in another order: {network}"
        y = Axis("messages overtaken", log=True, percent=True)
        yield chart_or_none(f"fabric-order-{network.split()[0]}", title, x, y, lines, note)
    for protocol in in_order(runs.values("protocol")):
        mine, name = runs.where(protocol=protocol), label_of(protocol)
        note = f"{_REPLICAS} replicas and {_CLIENTS} client machines on twelve switches."
        lines = [line(mine.where(design=design), design, "load", "throughput_ops_s") for design in DESIGNS]
        yield chart_or_none(f"fabric-{protocol}-throughput", f"{name}: throughput", x, Axis("operations a second"), lines, note)
        lines = [line(mine.where(design=design), design, "load", "latency_us.p50") for design in DESIGNS]
        yield chart_or_none(f"fabric-{protocol}-latency", f"{name}: latency", x, Axis("median latency, us", log=True), lines, note)
    yield _table(runs)


def _above_zero(drawn: Line | None) -> Line | None:
    """The points that a logarithmic axis can show."""
    points = tuple(point for point in drawn.points if point[1] > 0) if drawn is not None else ()
    return Line(drawn.style, points) if drawn is not None and points else None


def _table(runs: Rows) -> Table:
    table = []
    for protocol in in_order(runs.values("protocol")):
        for design in DESIGNS:
            mine = runs.where(protocol=protocol, design=design)
            cells = []
            for load in sorted(runs.values("load")):
                try:
                    some = mine.where(load=load)
                    cells.append(f"{some.median('throughput_ops_s'):,.0f} ({some.median('reconciliations_per_s'):,.0f})")
                except Missing:
                    cells.append("-")
            table.append((label_of(protocol), label_of(design), *cells))
    columns = ("protocol", "design", *(f"at {load:.0%}" for load in sorted(runs.values("load"))))
    return Table("fabric", "Operations a second (and reconciliations a second), by load", columns, tuple(table))


_AWARE = "Topology-aware multicast reduces reordering from about 10% to about 0.1%."
_SECTION = "mostly-ordered multicast"
_CLAIMS = (
    *(
        Claim(
            f"topology-aware-{network.split()[0]}", f"Topology-aware multicast: reordering, {network}", NSDI15, _SECTION, _AWARE,
            "100 times fewer", (), AtLeast(100, even=2, slack=0.2), _improved(network),
        )
        for network in _NETWORKS
    ),
    Claim(
        "serialised", "Serialised multicast: reordering", NSDI15, _SECTION,
        "With all multicasts of a group through one switch there is no reordering.", "none", (), AtMost(0, even=1e-4), _serial,
    ),
)  # fmt: skip

EXPERIMENT = Experiment(
    "fabric",
    "Four designs of multicast on a data-centre network",
    "How many messages does each multicast design reorder, and how does that affect each protocol?",
    "The packet-level model moves every packet through the queues of its switches, among bursts of other traffic. "
    f"{_SESSIONS} sessions are spread over {_CLIENTS} machines, so requests of one machine share datagrams.",
    _points,
    _show,
    _CLAIMS,
)
