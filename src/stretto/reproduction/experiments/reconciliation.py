"""The cost of a reconciliation, by the divergence of the logs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from stretto.reproduction.charts import Axis, Chart, Line, Table, chart_or_none, line
from stretto.reproduction.experiment import IN_ORDER, Experiment, Scope
from stretto.reproduction.points import AnyPoint, Reconciling
from stretto.reproduction.rows import Missing, Rows
from stretto.reproduction.styles import label_of

_RATE = 1e-3
_SIZES = (3, 5)
_SPECULATING = ("speculative", "adaptive")
"""Protocols that roll back."""


def _points(scope: Scope) -> Iterator[AnyPoint]:
    links = msgspec.structs.replace(IN_ORDER, reorder=_RATE)
    for protocol in scope.protocols:
        if protocol not in _SPECULATING:
            continue
        for replicas in _SIZES:
            for sessions in scope.chosen((4, 16, 64, 256), (2, 4, 8, 16, 32, 64, 128, 256, 512)):
                for seed in scope.seeds(2, 5):
                    factors = {"protocol": protocol, "replicas": replicas, "sessions": sessions, "seed": seed}
                    spec = scope.spec(protocol, replicas, sessions, scope.sized(6_000, 15_000), seed=seed, links=links)
                    yield Reconciling(factors, spec)


def _show(rows: Rows) -> Iterator[Chart | Table | None]:
    measures = (
        ("duration_us", "us from its start until all replicas are in the new view", "How long a reconciliation takes"),
        (
            "rolled_back_per_reconciliation",
            "operations rolled back, all replicas together",
            "How many operations a reconciliation rolls back",
        ),
        ("messages_per_reconciliation", "messages that replicas sent during it", "How many messages a reconciliation needs"),
    )
    for measure, words, title in measures:
        lines = [_line(rows, protocol, replicas, measure) for protocol in rows.values("protocol") for replicas in _SIZES]
        x = Axis("divergence: operations from where logs differ to the end of the longest", log=True)
        yield chart_or_none(f"reconciliation-{measure.partition('_')[0]}", title, x, Axis(words, log=True), lines, "Medians over seeds.")
    yield _table(rows)


def _line(rows: Rows, protocol: str, replicas: int, measure: str) -> Line | None:
    mine = rows.where(protocol=protocol, replicas=replicas)
    return line(mine, protocol, "divergence", measure, f"{replicas} replicas", "sessions", hollow=replicas == _SIZES[-1])


def _table(rows: Rows) -> Table:
    table = []
    for protocol in rows.values("protocol"):
        for replicas in sorted(rows.where(protocol=protocol).values("replicas")):
            for sessions in sorted(rows.values("sessions")):
                some = rows.where(protocol=protocol, replicas=replicas, sessions=sessions)
                try:
                    cells = (
                        f"{some.median('divergence'):,.0f}",
                        f"{some.median('duration_us'):,.0f}",
                        f"{some.median('rolled_back_per_reconciliation'):,.1f}",
                        f"{some.median('messages_per_reconciliation'):,.0f}",
                        f"{some.median('reconciliations'):,.0f}",
                    )
                except Missing:
                    continue
                table.append((label_of(protocol), replicas, sessions, *cells))
    columns = ("protocol", "replicas", "sessions", "divergence", "duration, us", "rolled back", "messages", "reconciliations seen")
    return Table("reconciliation", "One reconciliation", columns, tuple(table), "Medians over reconciliations, and then over seeds.")


EXPERIMENT = Experiment(
    "reconciliation",
    "The cost of a reconciliation",
    "How long does a reconciliation take, how many operations does it roll back, and how many messages does it need?",
    f"Simulated; {_RATE:.1%} of the copies of multicasts are delayed by 50 to 150 us. Logs diverge by the operations that are "
    "called before the conflict is found, so their divergence depends on the number of sessions.",
    _points,
    _show,
)
