"""`stretto calibrate`: measure the costs of the runtime on this machine, for simulations, and validate simulations against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto import catalog
from stretto.cli.options import NumberRange, json_option
from stretto.cli.output import print_json
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stretto.bench.measure import Progress
    from stretto.calibration.costs import CostFile
    from stretto.calibration.loads import Load, Sample


@click.command("calibrate")
@click.option("--out", type=click.Path(path_type=Path), default=Path("costs.json"), show_default=True, help="Where costs are written.")
@click.option("--check", "check_file", type=click.Path(path_type=Path), help="Compare simulation by this file to measurement.")
@click.option("--protocol", "protocols", multiple=True, help="Put this protocol under load; may be given several times.  [default: all]")
@click.option("--seconds", type=NumberRange(0, 3_600, min_open=True), help="For each load.  [default: 1, or 0.5 with --quick]")
@click.option("--repeat", type=click.IntRange(1, 100), help="How often to measure each.  [default: 3, or 1 with --quick]")
@click.option("--quick", is_flag=True, help="Fewer loads, less often, for less time: figures are within about 25%.")
@json_option
def command(
    out: Path,
    check_file: Path | None,
    protocols: tuple[str, ...],
    seconds: float | None,
    repeat: int | None,
    quick: bool,
    as_json: bool,
) -> int:
    """Measure the costs of the runtime on this machine, and write them to a file that simulations read.

    Clusters of three replicas are started on this machine and put under many loads. With --check, no file is written. Fewer loads are
    measured, and simulated with the costs of the given file; the table compares processor time, messages and datagrams of one operation.
    """
    from stretto.bench.machine import measured_on
    from stretto.calibration import costs
    from stretto.calibration.loads import loads_of
    from stretto.calibration.validation import loads_to_compare
    from stretto.cli.interrupts import ended_by_signals

    for name in protocols:
        catalog.protocol(name)
    names = protocols or catalog.protocol_names()
    seconds = seconds if seconds is not None else 0.5 if quick else 1.0
    repeat = repeat or (1 if quick else 3)
    known = None if check_file is None else costs.load(check_file)
    if known is None and not out.parent.is_dir():
        raise ConfigurationError(f"cannot be written: there is no directory {out.parent}", file=out)
    if known is None and out.is_dir():
        raise ConfigurationError("cannot be written: Is a directory", file=out)
    loads = loads_of(names, quick) if known is None else loads_to_compare(names, quick)
    machine = measured_on()
    with ended_by_signals():
        samples = _sample(loads, repeat, seconds)
        if known is not None:
            _report_validation(loads, samples, known, machine, as_json)
        else:
            _report_costs(samples, machine, out, as_json)
    return 0


def _sample(loads: Sequence[Load], repeat: int, seconds: float) -> list[Sample]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from stretto.calibration.loads import sample_all

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        progress: Progress = lambda what, done: bar.update(task, description=what, completed=done or 0.0, refresh=True)  # noqa: E731
        return [sample for some in sample_all(loads, repeat, seconds, progress) for sample in some]


def _report_costs(samples: Sequence[Sample], machine: dict[str, Any], out: Path, as_json: bool) -> None:
    import msgspec

    from stretto.calibration import costs
    from stretto.calibration.fit import calibrate

    found = calibrate(samples, machine)
    costs.save(found, out)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        _print_costs(found, out)


def _print_costs(found: CostFile, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from stretto.calibration.costs import ROLES

    table = Table(box=None)
    for column in ("processor time in ns", *ROLES):
        table.add_column(column, justify="right" if column in ROLES else "left")
    for name in found.replica.__struct_fields__:
        if name.endswith("_ns"):
            table.add_row(name, f"{getattr(found.replica, name):,}", f"{getattr(found.client, name):,}")
    for protocol, own in found.receive_message_ns.items():
        table.add_row(f"  receive_message_ns of {protocol}", *(f"{own[role]:,}" for role in ROLES))
    table.add_row("crowding_ns", *(f"{found.crowding_ns[role]:,}" for role in ROLES))
    fits = [found.fit[role] for role in ROLES]
    table.add_row("error: root mean square", *(f"{fit.rms:.0%}" for fit in fits))
    table.add_row("error: greatest", *(f"{fit.worst:.0%} of {fit.samples}" for fit in fits))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"written to {out}", markup=False, highlight=False)


def _report_validation(loads: Sequence[Load], samples: Sequence[Sample], known: CostFile, machine: dict[str, Any], as_json: bool) -> None:
    from stretto.calibration.validation import compare

    by_protocol = sorted(loads, key=lambda load: load.protocol)
    rows = [compare(load, [sample for sample in samples if sample.load == load], known) for load in by_protocol]
    if as_json:
        print_json({"loads": rows, "measured_on": machine})
    else:
        _print_validation(rows)


def _print_validation(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = "For one operation: processor time measured, charged (costs times counts), simulated; counts as measured / simulated"
    table = Table(box=None, title=title, title_justify="left")
    words = ("protocol", "sessions", "processes", "shared", "replica")
    for column in (*words, "CPU us", "charged", "simulated", "bursts", "messages", "datagrams", "operations/s"):
        table.add_column(column, justify="left" if column in words else "right", no_wrap=True)
    for row in rows:
        shared = "no" if row["one_request_per_datagram"] else "yes"
        rate = "cores shared" if row["crowded"] else _pair(row["measured"]["throughput_ops_s"], row["simulated"]["throughput_ops_s"], 0)
        load = (row["protocol"], str(row["sessions"]), str(row["client_processes"]), shared)
        for role, ratio in row["simulated_ratio"].items():
            seen, forecast = row["measured"][role], row["simulated"][role]
            charged = f"{seen['charged_us']:.1f} ({row['charged_ratio'][role]:.2f})"
            counted = (_pair(_both(seen, unit), _both(forecast, unit), 2) for unit in ("messages", "datagrams"))
            times = (f"{seen['cpu_us']:.1f}", charged, f"{forecast['cpu_us']:.1f} ({ratio:.2f})")
            bursts = _pair(seen["bursts"], forecast["bursts"], 3)
            table.add_row(*load, role, *times, bursts, *counted, rate if role == "leader" else "")
    console = Console()
    console.width = max(console.width, 170)
    console.print(table)


def _both(figures: dict[str, float], unit: str) -> float:
    """Received and sent together."""
    return figures[f"{unit}_received"] + figures[f"{unit}_sent"]


def _pair(seen: float, forecast: float, digits: int) -> str:
    return f"{seen:,.{digits}f} / {forecast:,.{digits}f}"
