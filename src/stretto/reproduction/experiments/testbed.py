"""Multicasts and protocols over real switches on this machine: four designs, compared with the packet-level model."""

from __future__ import annotations

from collections.abc import Iterator

from stretto.network.designs import DESIGNS
from stretto.network.experiment import Setting
from stretto.reproduction.charts import Axis, Chart, Table, chart_or_none, line
from stretto.reproduction.claims import NSDI15, AtMost, Claim, Finding
from stretto.reproduction.experiment import Experiment, Scope, replicated
from stretto.reproduction.points import AnyPoint, Switched, SwitchedOrdering
from stretto.reproduction.rows import Missing, Rows
from stretto.reproduction.styles import in_order, label_of
from stretto.testbed import probe

_RATES = (300.0, 900.0, 3_000.0)
_LOADS = (0.0, 0.3, 0.6)
_MESSAGES = 2_000
_DUE_OPS_S = 600.0


def _points(scope: Scope) -> Iterator[AnyPoint]:
    if scope.quick or probe.missing():
        return
    for design in DESIGNS:
        for seed in scope.seeds(0, 1):
            for rate, load in [(rate, 0.0) for rate in _RATES] + [(900.0, load) for load in _LOADS if load]:
                factors = {"design": design, "rate": rate, "load": load, "seed": seed}
                setting = Setting("testbed", design, load=load, senders=3, receivers=3, rate=rate, messages=_MESSAGES, seed=seed)
                yield SwitchedOrdering(factors, setting)
            for protocol in replicated(scope.protocols):
                yield Switched({"protocol": protocol, "design": design, "seed": seed}, protocol, design, _DUE_OPS_S, 4.0, seed)


def _serial(rows: Rows) -> Finding:
    """The greatest share of messages out of order behind one switch that serialises."""
    mine = rows.where(kind="switched-ordering", design="serialised")
    worst = mine.spread("overtaken")[1]
    reason = f"The most over all rates, loads and seeds, of {_MESSAGES:,} messages each."
    return Finding(worst, "none" if not worst else f"up to {worst:.3%}", reason)


def _show(rows: Rows) -> Iterator[Chart | Table | None]:
    ordering = rows.where(kind="switched-ordering")
    y = Axis("messages overtaken, %", least=0)
    for factor, rest, axis in (
        ("rate", {"load": 0.0}, Axis("messages a second, without other traffic", log=True)),
        ("load", {"rate": 900.0}, Axis("load of links by other traffic, 900 messages a second", percent=True, least=0)),
    ):
        mine = ordering.where(**rest)
        for where, column in (("switches", "overtaken_percent"), ("model", "model_overtaken_percent")):
            lines = [line(mine.where(design=design), design, factor, column) for design in DESIGNS]
            note = "Three senders and three receivers, each receiver in another rack. One placement."
            yield chart_or_none(f"testbed-{factor}-{where}", f"Messages that arrive in another order: {where}", axis, y, lines, note)
    yield _table(rows.where(kind="switched"))


def _table(runs: Rows) -> Table | None:
    table = []
    for protocol in in_order(runs.values("protocol")):
        for design in DESIGNS:
            mine = runs.where(protocol=protocol, design=design)
            try:
                p50, p99 = (mine.median(f"latency_us.{quantile}") for quantile in ("p50", "p99"))
                counts = [mine.median(name) for name in ("reconciliations_per_s", "rolled_back_percent")]
            except Missing:
                continue
            table.append((label_of(protocol), label_of(design), f"{p50:,.0f}", f"{p99:,.0f}", f"{counts[0]:.1f}", f"{counts[1]:.2f}"))
    columns = ("protocol", "design", "median latency, us", "p99, us", "reconciliations a second", "rolled back, %")
    note = f"{_DUE_OPS_S:,.0f} operations a second are due; three replicas, three client processes."
    return Table("testbed-protocols", "Protocols over the switches", columns, tuple(table), note) if table else None


EXPERIMENT = Experiment(
    "testbed",
    "Four designs of multicast on real switches",
    "Do real switches behave as the model predicts, and what does that mean for the protocols?",
    "Twelve Open vSwitches, sixteen hosts in network namespaces, on this machine. Two cores do the work of all of them, so the "
    "shapes of curves are meaningful and microseconds are not. It needs root and Open vSwitch, and is not a part of quick runs.",
    _points,
    _show,
    (
        Claim(
            "testbed-serialised", "Serialised multicast on real switches: reordering", NSDI15, "mostly-ordered multicast",
            "With all multicasts of a group through one switch there is no reordering.", "none", (), AtMost(0, even=1e-4), _serial,
        ),
    ),
)  # fmt: skip
