"""Latency against throughput, with an increasing number of clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stretto.reproduction.charts import Axis, Chart, Table, chart_or_none, line
from stretto.reproduction.experiment import Experiment, Scope, replicas_of
from stretto.reproduction.points import AnyPoint, Real, Simulated
from stretto.reproduction.rows import Missing, Rows
from stretto.reproduction.styles import in_order, label_of

_SIZES = (3, 5)


def _points(scope: Scope) -> Iterator[AnyPoint]:
    for protocol in scope.protocols:
        for replicas in dict.fromkeys(replicas_of(protocol, size) for size in _SIZES):
            for sessions in scope.chosen((1, 4, 16, 64, 192), (1, 2, 4, 8, 16, 32, 64, 128, 256)):
                factors = {"protocol": protocol, "replicas": replicas, "sessions": sessions, "seed": scope.seed}
                operations = scope.sized(3_000, 12_000) if sessions > 2 else scope.sized(400, 2_000)
                spec = scope.spec(protocol, replicas, sessions, operations, seed=scope.seed)
                yield Simulated(factors, spec)
        replicas = replicas_of(protocol, 3)
        for sessions in scope.chosen((1, 16), (1, 2, 4, 8, 16, 32, 64)):
            for run in range(scope.sized(1, 3)):
                factors = {"protocol": protocol, "replicas": replicas, "sessions": sessions, "run": run}
                yield Real(factors, protocol, replicas, sessions, scope.sized(1, 3), 0.5)


def _show(rows: Rows) -> Iterator[Chart | Table | None]:
    simulated, real = rows.where(kind="simulated"), rows.where(kind="real")
    for size in _SIZES:
        note = f"Simulated with {size} replicas (the unreplicated server is one), each client on a machine of its own."
        yield _curve(f"load-{size}", f"Latency against throughput, {size} replicas, simulated", simulated, size, note)
    note = "Measured: three replica processes and one client process share the processors of this machine, so load and service compete."
    yield _curve("load-real", "Latency against throughput, 3 replicas, real processes on this machine", real, 3, note)
    yield _real_ratios(real)


def _real_ratios(real: Rows) -> Table:
    """The same ratios as in simulation, on real processes."""

    def most(protocol: str) -> float:
        return real.where(protocol=protocol).best("throughput_ops_s", by="sessions").median("throughput_ops_s")

    def latency_us(protocol: str) -> float:
        return real.where(protocol=protocol, sessions=1).median("latency_us.p50")

    def against_paxos(measure: Callable[[str], float], protocol: str) -> str:
        try:
            return f"{measure(protocol) / measure('multipaxos'):.2f}"
        except Missing:
            return "-"

    table = []
    for protocol in in_order(real.values("protocol")):
        try:
            leader = real.where(protocol=protocol).best("throughput_ops_s", by="sessions").median("cpu_us_per_op.leader")
            cells = f"{most(protocol):,.0f}", against_paxos(most, protocol), f"{latency_us(protocol):.0f}"
        except Missing:
            continue
        table.append((label_of(protocol), *cells, against_paxos(latency_us, protocol), f"{leader:.1f}"))
    columns = ("protocol", "most, ops/s", "of Multi-Paxos", "latency, us", "of Multi-Paxos", "CPU of the leader, us/op")
    note = "Latency is the median of a single session; processor time is that at the highest throughput."
    return Table("load-real-ratios", "Real processes against Multi-Paxos", columns, tuple(table), note)


def _curve(name: str, title: str, rows: Rows, size: int, note: str) -> Chart | None:
    lines = []
    for protocol in in_order(rows.values("protocol")):
        mine = rows.where(protocol=protocol, replicas=replicas_of(protocol, size))
        lines.append(line(mine, protocol, "throughput_ops_s", "latency_us.p50", by="sessions"))
    return chart_or_none(name, title, Axis("operations a second"), Axis("median latency, us", log=True), lines, note)


EXPERIMENT = Experiment(
    "load",
    "Latency against throughput",
    "How does latency grow with load, and where does each protocol saturate?",
    "Closed loops: each session makes its next call when the one before has returned. Each point along a line has more sessions than the "
    "one before. Right and low is better. Multicasts arrive in one order at all replicas, and nothing is lost.",
    _points,
    _show,
)
