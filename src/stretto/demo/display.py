"""What the demonstration shows: a live picture on a terminal, a line a second elsewhere, and tables at the end."""

from __future__ import annotations

from typing import Any

from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stretto.demo.load import Load, Phase

_BARS = " ▁▂▃▄▅▆▇█"
_BAR_WIDTH = 26
_METRICS = ("view", "leader", "committed", "reconciliations", "datagrams_received")


class Display:
    """Shows a load and its replicas, on standard error. A context manager. Call `show` four times a second."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        self._throughputs: list[float] = []
        self._phases_shown = 0

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, throughput: float, status: list[dict[str, Any]]) -> None:
        """The present operations a second, and the status of each replica."""
        self._throughputs.append(throughput)
        if self._live is not None:
            self._live.update(self._picture(status), refresh=True)
        elif len(self._throughputs) % 4 == 0 or self._phases_shown < len(self._load.phases):
            self._phases_shown = len(self._load.phases)
            states = ", ".join(f"{replica['index']} {_in_words(replica)}" for replica in status)
            self._console.print(f"{self._headline()}; replicas: {states}", soft_wrap=True, highlight=False)

    def _headline(self) -> str:
        phase = self._load.phases[-1]
        return f"{phase.name}: {self._throughputs[-1]:,.0f} ops/s, p50 {phase.quantile_us(0.5):,} us, p99 {phase.quantile_us(0.99):,} us"

    def _picture(self, status: list[dict[str, Any]]) -> Group:
        table = Table(box=None, header_style="bold")
        table.add_column("replica", justify="right")
        table.add_column("state")
        for name in _METRICS:
            table.add_column(name.replace("_", " "), justify="right")
        for replica in status:
            metrics = replica["metrics"] or {}
            known = [f"{metrics[name]:,}" if name in metrics else "-" for name in _METRICS]
            state = Text(replica["state"], "green" if replica["state"] == "running" else "bold red")
            table.add_row(str(replica["index"]), state, *known)
        return Group(Text(self._headline(), "bold"), Text(_spark(self._throughputs[-60:]), "green"), table)


def print_phases(title: str, phases: list[Phase]) -> None:
    """The figures of all phases, on standard output."""
    table = Table(title=title, title_justify="left")
    for column in ("", "ops/s", "p50 us", "p99 us", "longest gap ms", "operations"):
        table.add_column(column, justify="right" if column else "left")
    for phase in phases:
        row = phase.row()
        names = ("throughput_ops_s", "p50_us", "p99_us", "longest_gap_ms", "operations")
        table.add_row(phase.name, *(f"{row[name]:,}" for name in names))
    Console().print(table)


def print_comparison(title: str, rows: list[dict[str, Any]]) -> None:
    """On standard output, a row of figures and two bars for each protocol that was measured, and the errors of the others."""
    measured = [row for row in rows if "error" not in row]
    console = Console()
    table = Table(title=title, title_justify="left")
    table.add_column("protocol", no_wrap=True)
    columns = {
        "throughput_ops_s": "ops/s",
        "p50_us": "p50 us",
        "p99_us": "p99 us",
        "leader_cpu_us_per_op": "leader\nCPU us/op",
        "follower_cpu_us_per_op": "follower\nCPU us/op",
    }
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for row in measured:
        digits = {name: 1 if "cpu" in name else 0 for name in columns}
        replicas = "" if row["replicas"] == rows[0]["replicas"] else f" ({row['replicas']} replica{'' if row['replicas'] == 1 else 's'})"
        table.add_row(row["protocol"] + replicas, *(_number(row[name], digits[name]) for name in columns))
    console.print(table)
    console.print(_bars(measured))
    for row in rows:
        if "error" in row:
            console.print(f"{row['protocol']} could not be measured: {row['error']}", highlight=False, markup=False, soft_wrap=True)


def _bars(rows: list[dict[str, Any]]) -> Table:
    """A bar of throughput and one of median latency for each row, in proportion to the greatest."""
    table = Table(box=None, header_style="bold")
    table.add_column("", no_wrap=True)
    shown = {"throughput_ops_s": ("ops/s", "green"), "p50_us": ("p50 us", "cyan")}
    for heading, _ in shown.values():
        table.add_column(heading, width=_BAR_WIDTH)
    for row in rows:
        bars = (Bar(max(other[name] or 0 for other in rows) or 1, 0, row[name] or 0, color=colour) for name, (_, colour) in shown.items())
        table.add_row(row["protocol"], *bars)
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _in_words(replica: dict[str, Any]) -> str:
    metrics = replica["metrics"]
    return f"view {metrics['view']} committed {metrics['committed']:,}" if metrics else str(replica["state"])


def _spark(values: list[float]) -> str:
    top = max(values) or 1
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in values)
