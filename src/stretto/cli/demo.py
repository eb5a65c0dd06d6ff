"""`stretto demo`: three replica processes under load; one is killed and restarted; then all protocols side by side."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import click

from stretto.cli.options import KEY_VALUE_STORE, NumberRange, json_option, multicast_option, plot_option, protocol_option
from stretto.cli.output import print_json, progress_line
from stretto.core.errors import ConfigurationError

_COMPARED_SECONDS, _COMPARED_WARM_UP_S = 1.0, 0.3


@click.command()
@protocol_option
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(min=3), help="How many replica processes.")
@click.option(
    "--seconds", default=8.0, show_default=True, type=NumberRange(min=1), help="Length of the load: a third each before, killed, back."
)
@click.option("--sessions", default=32, show_default=True, type=click.IntRange(min=1), help="How many calls are outstanding at any time.")
@click.option("--kill", type=click.Choice(["leader", "follower"]), default="leader", show_default=True, help="Which replica is killed.")
@multicast_option
@click.option("--comparison/--no-comparison", default=True, help="Measure all protocols in the end.  [default: comparison]")
@plot_option("the comparison")
@json_option
def command(
    protocol: str,
    replicas: int,
    seconds: float,
    sessions: int,
    kill: Literal["leader", "follower"],
    multicast: bool,
    comparison: bool,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Run three replicas on this machine under load. One is killed, the service continues, and the killed replica is restarted.

    The replicas are processes that replicate a key-value store over UDP multicast on the loopback interface. Every session counts, and
    checks each answer. Then every protocol is measured for a second on this machine, as by stretto bench, with an operation that does
    nothing. All processes that were started are ended. Exit status 1 if an answer was wrong, if the service did not continue, if the killed
    replica did not come back, or if a protocol could not be measured.
    """
    from stretto import catalog
    from stretto.demo import crash
    from stretto.demo.display import print_comparison, print_phases
    from stretto.runtime.local_cluster import loopback_config

    if plot is not None and not comparison:
        raise ConfigurationError("draws the comparison; leave --no-comparison out", key="--plot")
    if comparison:
        import_module("stretto.bench.protocols")  # if a package is missing, fail before anything is started
    sequencers = catalog.protocol(protocol).usual_sequencers
    config = loopback_config(replicas, protocol, KEY_VALUE_STORE, sequencers=sequencers, multicast=multicast)
    catalog.check(config)
    network = f"multicast to {config.multicast.group}" if config.multicast is not None else "no multicast"
    click.echo(f"starting {replicas} replica processes of a key-value store: {protocol}, {network}, on loopback", err=True)
    outcome = crash.run(config, sessions, seconds, kill)
    if not as_json:
        print_phases(f"{protocol}, {replicas} replicas, {sessions} sessions", outcome.phases)
        click.echo(outcome.conclusion())
    rows = _measured(replicas, sessions, multicast) if comparison else []
    if as_json:
        print_json({"protocol": protocol, "replicas": replicas, "sessions": sessions, **outcome.report(), "comparison": rows})
    elif rows:
        print_comparison(f"All protocols on this machine, {sessions} sessions, an operation that does nothing", rows)
    if plot is not None:
        from stretto.bench.plots import plot_protocols

        plot_protocols(plot, [row for row in rows if "error" not in row], f"All protocols on this machine, {sessions} sessions")
    return 0 if outcome.ok and not any("error" in row for row in rows) else 1


def _measured(replicas: int, sessions: int, multicast: bool) -> list[dict[str, Any]]:
    """A row of figures for each protocol."""
    from stretto.bench.plan import Plan
    from stretto.bench.protocols import measure_protocols
    from stretto.catalog import protocol_names
    from stretto.demo.crash import ended_by_signals

    plan = Plan(sessions=sessions, seconds=_COMPARED_SECONDS, warm_up_s=_COMPARED_WARM_UP_S)
    click.echo(f"measuring all protocols, {_COMPARED_SECONDS:g} s each", err=True)
    with ended_by_signals(), progress_line() as progress:
        return list(measure_protocols(protocol_names(), plan, replicas, progress, multicast=multicast))
