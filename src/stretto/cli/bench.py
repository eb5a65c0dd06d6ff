"""`stretto bench`: throughput and latency of real processes under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from stretto.cli.options import bench_load_options, durability_option, json_option, protocol_option, repeat_option, seed_option
from stretto.cli.output import print_facts, print_json, print_table, progress_line
from stretto.core.errors import ConfigurationError

if TYPE_CHECKING:
    from stretto.bench.measure import Progress
    from stretto.bench.plan import Plan
    from stretto.core.config import ClusterConfig

OF_OWN_CLUSTER = ("protocol", "replicas", "durability", "kill", "restart", "floor", "differ")
"""Options that make no sense for a cluster that is already running."""
OF_PLAN = (
    *("client_processes", "sessions", "rate_ops_s", "seed", "seconds", "warm_up_s", "operation"),
    *("one_request_per_datagram", "one_order", "kill", "restart", "memory"),
)
"""Options that are fields of a Plan."""
OF_ONE_TREE = ("config_file", "repeat", "floor", "kill", "restart", "memory", "differ")
"""Options that make no sense when two source trees are compared."""
OF_PROCESSES = ("durability", "client_processes", "rate_ops_s", "seconds", "warm_up_s", "one_request_per_datagram", "one_order")
"""Options that make no sense when all nodes are in one process, besides OF_ONE_TREE."""
OF_UNHARMED = ("floor", "kill", "restart", "memory", "operation", "seconds", "warm_up_s")
"""Options that make no sense when a replica's state differs."""
OF_COMPARISON = ("against", "turns", "pairs", "as_json")
"""Options of a comparison that are not options of its single measurements."""


@click.command(name="bench")
@protocol_option
@click.option("--replicas", type=int, help="Number of replicas.  [default: 3, or the limit of the protocol]")
@durability_option
@bench_load_options(client_processes=1, sessions=32, seconds=5.0)
@seed_option("Decides when operations are due, and what they are.", 0)
@click.option(
    "--one-request-per-datagram",
    is_flag=True,
    help="Give each request of a client a datagram of its own; answers still share datagrams.",
)
@click.option("--one-order", is_flag=True, help="Let one client process send at a time, so that all replicas receive in one order.")
@click.option("--kill", type=click.Choice(["leader", "follower"]), help="Kill this replica half-way.")
@click.option("--restart", is_flag=True, help="Start it again at once, and measure how long it takes to be back in service.")
@click.option("--memory", is_flag=True, help="Sample the replicas' resident memory.")
@click.option("--floor", is_flag=True, help="First measure a bare multicast echo of the same sizes.")
@click.option("--differ", is_flag=True, help="Only let one replica's state differ under this load, and measure when it stops for that.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Measure the cluster of this file, which runs already.")
@repeat_option
@click.option("--against", metavar="DIR", type=click.Path(path_type=Path), help="Compare this code with that of another checkout.")
@click.option("--pairs", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How often both are measured.")
@click.option("--turns", is_flag=True, help="Compare what an operation costs with all nodes in one process, by turns.")
@json_option
def command(config_file: Path | None, repeat: int, against: Path | None, pairs: int, turns: bool, as_json: bool, **options: Any) -> int:
    """Measure a cluster under load.

    The load is a closed loop, in which each session makes its next call as soon as the last one has ended; or, with --rate, an open loop,
    in which operations are due whether or not the cluster keeps up. Latency is then counted from the time when an operation was due, so
    that no delay is omitted. An operation that is due while no session is free waits.

    Starts a cluster on this machine and ends it. Replicas keep their data in the directory for temporary files (TMPDIR). Exit status 1 if
    a call failed.

    With --against, this code and that of another checkout are measured alternately, with these options, and the ratios of their figures are
    shown: the median over all pairs, and an interval that has the true median with 95% certainty.
    """
    from stretto.bench.plan import Plan
    from stretto.bench.report import combined
    from stretto.bench.run import own_config, run
    from stretto.cli.interrupts import ended_by_signals
    from stretto.core.config import load_config

    plan = Plan(**{name: options[name] for name in OF_PLAN})
    if against is not None:
        return _compare(against, plan, options["protocol"], options["replicas"], pairs, turns=turns, as_json=as_json)
    _refuse(("pairs", "turns"), "only applies to a comparison of two source trees; name the other one with --against")
    if config_file is not None:
        _refuse(OF_OWN_CLUSTER, "only applies to a cluster that bench starts; leave out this option or --config")
        config = load_config(config_file)
        new_config: Callable[[], ClusterConfig] = lambda: config  # noqa: E731
    else:
        new_config = lambda: own_config(  # noqa: E731
            plan, options["protocol"], options["replicas"], durability=options["durability"]
        )
    plan.validate(new_config())
    if options["differ"]:
        _refuse(OF_UNHARMED, "does not apply to a load under which a replica's state differs; leave out this option or --differ")
        return _differ(plan, new_config, repeat, as_json=as_json)
    with ended_by_signals(), progress_line() as progress:
        runs = []
        for number in range(repeat):
            prefix = f"run {number + 1} of {repeat}: " if repeat > 1 else ""
            of_run = replace(plan, seed=plan.seed + number)
            is_own = config_file is None
            runs.append(run(of_run, new_config(), _prefixed(prefix, progress), is_own=is_own, with_floor=options["floor"]))
    figures = combined(runs)
    if as_json:
        print_json(figures)
    else:
        print_facts(_facts(figures), _title(figures))
    return 1 if any(run["failures"] for run in runs) else 0


def _given() -> dict[str, list[str]]:
    """By name, the options on the command line, as they are written there."""
    context = click.get_current_context()
    chosen = [option for option in context.command.params if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE]
    return {
        str(option.name): [option.opts[0]]
        if context.params[str(option.name)] is True
        else [option.opts[0], str(context.params[str(option.name)])]
        for option in chosen
    }


def _refuse(names: Sequence[str], reason: str) -> None:
    given = _given()
    for name in names:
        if name in given:
            raise ConfigurationError(reason, key=given[name][0])


def _compare(against: Path, plan: Plan, protocol: str, replicas: int | None, pairs: int, *, turns: bool, as_json: bool) -> int:
    """Compare this source tree with another one."""
    from stretto.bench.against import both_in_clusters, both_in_one_process, source_of
    from stretto.bench.run import own_config
    from stretto.cli.interrupts import ended_by_signals

    _refuse(OF_ONE_TREE, "does not apply to a comparison of two source trees; leave out this option or --against")
    if turns:
        _refuse(OF_PROCESSES, "does not apply to nodes in one process; leave out this option or --turns")
    other = source_of(against)
    plan.validate(own_config(plan, protocol, replicas))
    with ended_by_signals(), progress_line() as progress:
        if turns:
            figures = both_in_one_process(other, plan, protocol, replicas, pairs, progress)
        else:
            arguments = [word for name, words in _given().items() if name not in OF_COMPARISON for word in words]
            figures = both_in_clusters(other, arguments, pairs, progress)
    if as_json:
        print_json({"against": str(against), "turns": turns, "protocol": protocol, "sessions": plan.sessions} | figures)
    else:
        print_table([{"": name} | _texts(figure) for name, figure in figures["figures"].items()])
    return 0


def _differ(plan: Plan, new_config: Callable[[], ClusterConfig], repeat: int, *, as_json: bool) -> int:
    """Measure how long it takes to find out that a replica's state differs."""
    from stretto.bench.divergence import check_size, found_after_ms
    from stretto.cli.interrupts import ended_by_signals

    times_ms = []
    config = new_config()
    check_size(config)
    with ended_by_signals(), progress_line() as progress:
        for number in range(repeat):
            times_ms.append(found_after_ms(plan, new_config(), _prefixed(f"run {number + 1} of {repeat}: ", progress)))
    if as_json:
        conditions = {"protocol": config.protocol, "replicas": config.n, "sessions": plan.sessions, "rate_ops_s": plan.rate_ops_s}
        print_json(conditions | {"found_after_ms": median(times_ms), "runs_ms": times_ms})
    else:
        title = f"{config.protocol}, {_count(config.n, 'replica')}: {_count(plan.sessions, 'session')}"
        each = f" ({min(times_ms):.1f} to {max(times_ms):.1f}, {_count(repeat, 'run')})"
        print_facts([("difference", f"found out {median(times_ms):.1f} ms after the operation whose result differed{each}")], title)
    return 0


def _texts(figure: dict[str, float | None]) -> dict[str, str | None]:
    low, high = figure["from"], figure["to"]
    interval = None if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return {"this": f"{figure['this']:,.2f}", "other": f"{figure['other']:,.2f}", "ratio": f"{figure['ratio']:.3f}", "95%": interval}


def _prefixed(prefix: str, progress: Progress) -> Progress:
    return lambda what, done: progress(prefix + what, done)


def _title(figures: dict[str, Any]) -> str:
    replicas = _count(figures["replicas"], "replica")
    processes = _count(figures["client_processes"], "client process", "client processes")
    runs = f", medians of {figures['repeat']} runs" if "repeat" in figures else ""
    load = f"{_count(figures['sessions'], 'session')} in {processes}, {figures['operation']} operations, {figures['seconds']:g} s"
    if figures["rate_ops_s"] is not None:
        load += f", open loop of {figures['rate_ops_s']:,.0f} operations/s, seed {figures['seed']}"
    return f"{figures['protocol']}, {replicas}, durability {figures['durability']}: {load}{runs}"


def _facts(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of what a person wants to see."""
    offered = "" if figures["rate_ops_s"] is None else f", {_number(figures['rate_ops_s'])} were due"
    yield "throughput", f"{_number(figures['throughput_ops_s'])} operations/s{_spread(figures, 'throughput_ops_s')}{offered}"
    yield "latency", _latency(figures["latency_us"])
    if figures["wait_us"] is not None:
        yield "of that", f"{_latency(figures['wait_us'])} from when an operation was due until it was sent"
    if figures["latency_floor_us"] is not None:
        times = f", p50 is {figures['latency_us']['p50'] / figures['latency_floor_us']:.2f} times that" if figures["operations"] else ""
        yield "latency floor", f"p50 {figures['latency_floor_us']:.0f} us{times}"
    each = ", ".join("-" if cpu is None else f"{cpu:.2f}" for cpu in figures["replica_cpu_us_per_op"])
    yield "processor time", f"{each} us an operation at the replicas, {_number(figures['client_cpu_us_per_op'], 2)} at the clients"
    yield "datagrams", f"{_number(figures['datagrams_per_op'], 3)} an operation"
    if figures["durability"] == "disk":
        each = ", ".join(_number(fsyncs, 3) for fsyncs in figures["fsyncs_per_op"])
        written = ", ".join(_number(size) for size in figures["bytes_persisted_per_op"])
        times = ", ".join("-" if us is None else f"{_number(us['p50'])} (p99 {_number(us['p99'])})" for us in figures["fsync_us"])
        yield "disk", f"{each} syncs and {written} bytes an operation at the replicas; a sync takes {times} us"
    gap = f"longest time without a result {figures['longest_gap_ms']:.1f} ms"
    yield "service", f"{gap}; operations by second: {' '.join(f'{count:,.0f}' for count in figures['operations_by_second'])}"
    repair = f"{figures['reconciliations_per_s']:.1f} reconciliations/s, {figures['view_changes']} changes of leader, "
    yield "protocol", f"{repair}{figures['repairs']} repairs, {figures['rolled_back_operations']:,} operations rolled back"
    if figures["kill"]:
        kill = figures["kill"]
        gap = f"replica {kill['replica']} ({kill['target']}): {kill['gap_ms']:.1f} ms without results"
        if figures["restart"]:
            gap += f", back in service {_number(kill['back_in_service_ms'])} ms after its restart"
        yield "kill", f"{gap}; operations that ended after it: {_latency(kill['latency_us'])}"
    for sample in figures["memory"]:
        each = ", ".join("-" if rss is None else f"{rss:.1f}" for rss in sample["rss_mb"])
        yield "memory", f"{each} MB resident at {sample['operations']:,} operations"
    for name, title in (("failures", "failed calls"), ("ignored_messages", "ignored")):
        if figures[name]:
            yield title, ", ".join(f"{count:,} {reason}" for reason, count in figures[name].items())
    machine = figures["measured_on"]
    sockets = "batched" if figures["batched_sockets"] else "plain"
    processor = f"{machine['processor']}, {machine['cores']} cores, load {machine['load_average']:.1f}, {machine['hash_ns']:.0f} ns a hash"
    system = f"{machine['kernel']}, {machine['python']}"
    yield "measured on", f"{processor}, {system}, {sockets} sockets, commit {(machine['commit'] or 'unknown')[:12]}"


def _latency(latency: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in latency.items()) + " us"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _spread(figures: dict[str, Any], name: str) -> str:
    if "spread" not in figures:
        return ""
    least, greatest = figures["spread"][name]
    return f" ({_number(least)} to {_number(greatest)})"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
