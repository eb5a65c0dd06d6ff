"""`stretto demo`: three replica processes under load, one of which is killed and comes back; then all protocols side by side."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import json_option, protocol_option
from stretto.cli.output import print_json

if TYPE_CHECKING:
    from stretto.cli.demo_display import Display
    from stretto.cli.demo_load import Load
    from stretto.runtime.local_cluster import LocalCluster

_SERVICE = "stretto.apps.kv:KeyValueStore"
_TICK_SECONDS = 0.25
_BACK_WITHIN_SECONDS = 20.0
_PAUSE_SECONDS = 0.01
_COMPARED_SECONDS, _COMPARED_WARM_UP_S = 1.0, 0.3
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@click.command()
@protocol_option
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(min=3), help="How many replica processes.")
@click.option(
    "--seconds", default=8.0, show_default=True, type=click.FloatRange(min=1), help="Length of the load: a third each before, killed, back."
)
@click.option("--sessions", default=32, show_default=True, type=click.IntRange(min=1), help="How many calls are outstanding at any time.")
@click.option("--kill", type=click.Choice(["leader", "follower"]), default="leader", show_default=True, help="Which replica is killed.")
@click.option("--multicast/--no-multicast", default=True, help="Send requests by IP multicast, or to each replica.  [default: multicast]")
@click.option("--comparison/--no-comparison", default=True, help="Measure all protocols in the end.  [default: comparison]")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the comparison into this PNG, SVG or PDF file too.")
@json_option
def command(
    protocol: str,
    replicas: int,
    seconds: float,
    sessions: int,
    kill: str,
    multicast: bool,
    comparison: bool,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Three replicas on this machine, under load; one is killed, service goes on, and it comes back.

    The replicas are processes that replicate a key-value store over UDP multicast on the loopback interface. Every session counts, and
    checks each answer. Then every protocol is measured for a second on this machine, as stretto bench does, with an operation that does
    nothing. All that is started is ended. Exit status 1 if an answer was wrong, service did not go on, the killed one did not come back, or
    a protocol could not be measured.
    """
    from stretto import catalog
    from stretto.cli.demo_display import print_comparison, print_table
    from stretto.runtime.local_cluster import LocalCluster, loopback_config

    sequencers = catalog.protocol(protocol).usual_sequencers
    config = loopback_config(replicas, protocol, _SERVICE, sequencers=sequencers, multicast=multicast)
    catalog.check(config)
    if plot is not None:
        _check_plot(plot, comparison)
    with _signals_handled(_SIGNALS, _end), tempfile.TemporaryDirectory(prefix="stretto-demo-") as directory:
        cluster = LocalCluster.create(Path(directory), config)
        try:
            network = f"multicast to {config.multicast.group}" if config.multicast is not None else "no multicast"
            click.echo(f"starting {replicas} replica processes of a key-value store: {protocol}, {network}, on loopback", err=True)
            cluster.start()
            load, victim, back_ms = asyncio.run(_run(cluster, sessions, seconds, kill))
        finally:
            with _signals_handled((signal.SIGINT, *_SIGNALS), signal.SIG_IGN):
                cluster.stop()
    result = _result(load, victim, kill, back_ms)
    title = f"{protocol}, {replicas} replicas, {sessions} sessions"
    if not as_json:
        print_table(title, load.phases)
        click.echo(_conclusion(result))
    rows = _comparison(replicas, sessions, multicast) if comparison else []
    if as_json:
        print_json({"protocol": protocol, "replicas": replicas, "sessions": sessions, **result, "comparison": rows})
    elif rows:
        print_comparison(f"All protocols on this machine, {sessions} sessions, an operation that does nothing", rows)
    if plot is not None:
        _plot(plot, rows, sessions)
    return 0 if result["ok"] and not any("error" in row for row in rows) else 1


def _comparison(replicas: int, sessions: int, multicast: bool) -> list[dict[str, Any]]:
    """A row of figures for each protocol."""
    from stretto.bench.plan import Plan
    from stretto.bench.protocols import measure_protocols
    from stretto.catalog import protocol_names
    from stretto.cli.output import progress_line

    plan = Plan(sessions=sessions, seconds=_COMPARED_SECONDS, warm_up_s=_COMPARED_WARM_UP_S)
    click.echo(f"measuring all protocols, {_COMPARED_SECONDS:g} s each", err=True)
    with _signals_handled(_SIGNALS, _end), progress_line() as progress:
        return list(measure_protocols(protocol_names(), plan, replicas, progress, multicast=multicast))


def _check_plot(plot: Path, comparison: bool) -> None:
    from stretto.bench.plots import check_plot_file
    from stretto.core.errors import ConfigurationError

    if not comparison:
        raise ConfigurationError("draws the comparison; leave --no-comparison out", key="--plot")
    check_plot_file(plot)


def _plot(plot: Path, rows: list[dict[str, Any]], sessions: int) -> None:
    from stretto.bench.plots import plot_protocols

    plot_protocols(plot, [row for row in rows if "error" not in row], f"All protocols on this machine, {sessions} sessions")


async def _run(cluster: LocalCluster, sessions: int, seconds: float, kill: str) -> tuple[Load, int, float | None]:
    """Load the cluster, with a kill and a restart.

    The load as it was when it ended, which replica was killed, and how many milliseconds after its restart it was back; None if it was not.
    """
    from stretto import connect_async
    from stretto.cli.demo_display import Display
    from stretto.cli.demo_load import Load

    async with connect_async(cluster.config) as client, Load(client, sessions) as load:
        with Display(load) as display:
            load.enter("all replicas")
            await _watch(cluster, load, seconds / 3, display)
            victim = await asyncio.to_thread(_victim, cluster, kill)
            cluster.kill(victim)
            load.enter(f"replica {victim} killed")
            await _watch(cluster, load, seconds / 3, display)
            load.enter(f"replica {victim} started again")
            restarted = asyncio.create_task(asyncio.to_thread(_restart, cluster, victim))
            await _watch(cluster, load, seconds / 3, display)
            load.end()
            back_ms = await restarted
    return load, victim, back_ms


def _restart(cluster: LocalCluster, victim: int) -> float | None:
    """Start a replica again, without memory, and wait until it is in service: how many milliseconds that took; None if it is not."""
    from stretto.runtime.metrics import is_normal, metrics_or_none

    began = time.monotonic()
    cluster.restart(victim)
    while time.monotonic() < began + _BACK_WITHIN_SECONDS:
        if is_normal(metrics_or_none(cluster.config, victim, _TICK_SECONDS)):
            return round((time.monotonic() - began) * 1_000, 1)
        time.sleep(_PAUSE_SECONDS)
    return None


def _victim(cluster: LocalCluster, kill: str) -> int:
    """The replica to kill: the leader of the latest view, or a follower."""
    views = [(replica["metrics"]["view"], replica["metrics"]["leader"]) for replica in cluster.status() if replica["metrics"]]
    leader: int = max(views, default=(0, 0))[1]
    return leader if kill == "leader" else (leader + 1) % cluster.config.n


async def _watch(cluster: LocalCluster, load: Load, seconds: float, display: Display) -> None:
    """Show what happens, until the time is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        answers, began = load.phases[-1].latencies_ns, time.monotonic()
        before = len(answers)
        await asyncio.sleep(min(_TICK_SECONDS, left))
        throughput = (len(answers) - before) / (time.monotonic() - began)
        display.show(throughput, await asyncio.to_thread(cluster.status))


def _result(load: Load, victim: int, kill: str, back_ms: float | None) -> dict[str, Any]:
    phases = [phase.row() for phase in load.phases]
    return {
        "killed": victim,
        "killed_was": kill,
        "back_in_service_ms": back_ms,
        "phases": phases,
        "failed_calls": len(load.failures),
        "last_failure": load.failures[-1] if load.failures else None,
        "wrong_answers": load.wrong,
        "ok": not load.wrong and back_ms is not None and all(phase["operations"] for phase in phases),
    }


def _conclusion(result: dict[str, Any]) -> str:
    if result["wrong_answers"]:
        return f"WRONG: {'; '.join(result['wrong_answers'][:3])}"
    if result["back_in_service_ms"] is None:
        return f"Replica {result['killed']} did not come back within {_BACK_WITHIN_SECONDS:g} s of its restart"
    if not result["ok"]:
        return f"Service did not go on: {result['last_failure'] or 'no call was answered'}"
    who = f"Replica {result['killed']}, {'the leader' if result['killed_was'] == 'leader' else 'a follower'},"
    gap, back = result["phases"][1]["longest_gap_ms"], result["back_in_service_ms"]
    failed = result["failed_calls"]
    calls = "no call failed" if not failed else f"{failed} calls failed, the last one so: {result['last_failure']}"
    went_on = f"service went on after at most {gap} ms, and it was back {back} ms after its restart"
    return f"{who} was killed; {went_on}. Every answer was right, and {calls}."


def _end(number: int, frame: object) -> None:
    """End as Ctrl-C does, so that what was started is ended too."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals_handled(numbers: tuple[signal.Signals, ...], handler: Callable[[int, Any], None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
