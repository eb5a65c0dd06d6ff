"""Adaptive Speculative Paxos where the fast path does not hold: bad networks, dead or slow replicas, and alternating conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import msgspec

from stretto.reproduction.charts import Axis, Chart, Table, chart_or_none, line
from stretto.reproduction.claims import STRETTO, AtLeast, AtMost, Claim, Finding, Rule
from stretto.reproduction.experiment import IN_ORDER, Experiment, Scope, replicas_of, replicated
from stretto.reproduction.experiments.disorder import LEVEL, NOT_ABOVE, no_cliff, no_view_change
from stretto.reproduction.points import Alternating, AnyPoint, Real, Simulated
from stretto.reproduction.rows import Rows
from stretto.reproduction.styles import in_order, label_of

_ADAPTIVE, _SPECULATIVE, _PAXOS, _BATCHED = _COMPARED = ("adaptive", "speculative", "multipaxos", "multipaxos-batched")
_REPLICAS, _SESSIONS = 3, 32
_RATES = {"reorder": (0.0, 1e-3, 1e-2, 1e-1, 2e-1), "loss": (1e-2, 5e-2)}
_ALONE, _DISORDER, _TROUBLE, _SPELLS, _PROCESSES, _KILLED = "alone", "disorder", "trouble", "spells", "processes", "killed"
"""The parts of the experiment."""

_TROUBLES: dict[str, dict[str, int]] = {"none": {}, "one dead": {"dead": 1}, "one slow": {"slow_ns": 50_000}}
_SPELL_NS, _REORDERED, _FEW_SESSIONS = 150_000_000, 0.05, 4
_SESSIONS_EACH = 64
_DELAY_US = (IN_ORDER.transit.base_ns + IN_ORDER.transit.spread_ns) / 1e3
"""The mean time that a message takes between two simulated machines."""


def _points(scope: Scope) -> Iterator[AnyPoint]:
    compared = [name for name in _COMPARED if name in scope.protocols]
    yield from _simulated(scope, compared)
    for protocol in compared:
        if protocol == _PAXOS:
            continue
        links = msgspec.structs.replace(IN_ORDER, reorder=_REORDERED, spell_ns=_SPELL_NS)
        spec = scope.spec(protocol, _REPLICAS, _FEW_SESSIONS, 1, seed=scope.seed, links=links, fault_ns=scope.sized(6, 16) * _SPELL_NS)
        yield Alternating({"part": _SPELLS, "protocol": protocol, "seed": scope.seed}, spec)
    yield from _real(scope, compared)


def _simulated(scope: Scope, compared: list[str]) -> Iterator[AnyPoint]:
    operations = scope.sized(4_000, 15_000)
    for seed in scope.seeds(2, 5):
        for protocol in compared:
            shared = {"protocol": protocol, "seed": seed}
            yield Simulated({"part": _ALONE, **shared}, scope.spec(protocol, _REPLICAS, 1, scope.sized(500, 2_000), seed=seed))
            for disturbance, rates in _RATES.items():
                for rate in rates:
                    links = msgspec.structs.replace(IN_ORDER, **{disturbance: rate})
                    factors = {"part": _DISORDER, **shared, "disturbance": disturbance, "rate": rate}
                    yield Simulated(factors, scope.spec(protocol, _REPLICAS, _SESSIONS, operations, seed=seed, links=links))
        for protocol in replicated(scope.protocols):
            for trouble, more in _TROUBLES.items():
                factors = {"part": _TROUBLE, "protocol": protocol, "seed": seed, "trouble": trouble}
                replicas = replicas_of(protocol, _REPLICAS)
                yield Simulated(factors, scope.spec(protocol, replicas, _SESSIONS, operations, seed=seed, **more))


def _real(scope: Scope, compared: list[str]) -> Iterator[AnyPoint]:
    seconds = scope.sized(1, 3)
    for run in range(scope.sized(1, 3)):
        for processes in scope.chosen((1, 4), (1, 2, 4, 8)):
            for protocol, one_order in ((_ADAPTIVE, False), (_ADAPTIVE, True), (_BATCHED, False)):
                if protocol in compared and not (one_order and processes == 1):
                    factors = {"part": _PROCESSES, "protocol": protocol, "processes": processes, "one_order": one_order, "run": run}
                    sessions = _SESSIONS_EACH * processes
                    yield Real(factors, protocol, _REPLICAS, sessions, seconds, 0.5, client_processes=processes, one_order=one_order)
        if _ADAPTIVE in compared:
            for target in ("leader", "follower"):
                factors = {"part": _KILLED, "protocol": _ADAPTIVE, "killed": target, "run": run}
                yield Real(factors, _ADAPTIVE, _REPLICAS, _SESSIONS, 2 * seconds, 0.5, kill=target)


# From rows to numbers


def _one_delay(rows: Rows) -> Finding:
    """How many message delays more than Speculative Paxos it needs on a perfect network."""
    alone = rows.where(part=_ALONE)
    ours, theirs = (alone.where(protocol=name).median("latency_us.p50") for name in (_ADAPTIVE, _SPECULATIVE))
    more = (ours - theirs) / _DELAY_US
    reason = f"A single session has its answer after {ours:.1f} us, with Speculative Paxos after {theirs:.1f} us; a message takes "
    return Finding(more, f"{more:.2f} message delays more", f"{reason}{_DELAY_US:g} us.")


def _in_trouble(rows: Rows) -> Finding:
    """Its throughput divided by that of batched Paxos, in the worse of the two cases."""
    ratios = {}
    for trouble in ("one dead", "one slow"):
        mine = rows.where(part=_TROUBLE, trouble=trouble)
        ours, theirs = (mine.where(protocol=name).median("throughput_ops_s") for name in (_ADAPTIVE, _BATCHED))
        ratios[trouble] = ours / theirs
    least = min(ratios.values())
    return Finding(least, f"{least:.2f} times", " ".join(f"With {trouble}: {ratio:.2f} times." for trouble, ratio in ratios.items()))


def _flapping(rows: Rows) -> Finding:
    """How often the slow path becomes active in one bad spell."""
    mine = rows.where(part=_SPELLS, protocol=_ADAPTIVE)
    times = mine.spread("activations_per_bad_spell")[1]
    share = mine.median("slow_path_share")
    return Finding(
        times, f"{times:.2f} times a bad spell", f"Half of the time is bad; the slow path was active for {share:.0%} of all time."
    )


def _spells(rows: Rows) -> Finding:
    """Its throughput divided by that of batched Paxos, over good and bad spells."""
    ours, theirs = (rows.where(part=_SPELLS, protocol=name) for name in (_ADAPTIVE, _BATCHED))
    ratio = ours.median("throughput_ops_s") / theirs.median("throughput_ops_s")
    good, bad = (ours.median(name) / theirs.median(name) for name in ("good_ops_s", "bad_ops_s"))
    return Finding(ratio, f"{ratio:.2f} times", f"{good:.2f} times in good spells, {bad:.2f} times in bad ones.")


def _processes(rows: Rows, protocol: str, processes: int) -> Rows:
    return rows.where(part=_PROCESSES, protocol=protocol, processes=processes, one_order=False)


def _of_processes(column: str, ours: int, protocol: str, theirs: int) -> Callable[[Rows], Finding]:
    """A column with `ours` client processes, divided by that of a protocol with `theirs` client processes."""

    def find(rows: Rows) -> Finding:
        here, there = _processes(rows, _ADAPTIVE, ours).median(column), _processes(rows, protocol, theirs).median(column)
        ordered = rows.where(part=_PROCESSES, protocol=_ADAPTIVE, processes=ours, one_order=True).median(column)
        reason = f"{here:,.0f} operations/s against {there:,.0f}. Where client processes send one at a time, so that nothing is reordered, "
        return Finding(here / there, f"{here / there:.2f} times", f"{reason}it is {ordered:,.0f}, the limit of the processors.")

    return find


def _late(rows: Rows) -> Finding:
    """The 99th percentile with four client processes, in milliseconds."""
    late_ms = _processes(rows, _ADAPTIVE, 4).median("latency_us.p99") / 1e3
    return Finding(late_ms, f"{late_ms:.1f} ms", f"The median is {_processes(rows, _ADAPTIVE, 4).median('latency_us.p50') / 1e3:.1f} ms.")


def _kept(rows: Rows) -> float:
    """The throughput after a kill at half time and the gap that follows it, divided by the throughput before."""
    half_s = rows.median("kill.at_ms") / 1e3
    after_s = rows.median("operations") / rows.median("throughput_ops_s") - half_s
    after = rows.median("kill.throughput_ops_s") * after_s
    return after / (after_s - rows.median("kill.gap_ms") / 1e3) / ((rows.median("operations") - after) / half_s)


def _gap(rows: Rows) -> Finding:
    """The longest time without results after a kill."""
    gaps = {target: rows.where(part=_KILLED, killed=target).median("kill.gap_ms") for target in ("leader", "follower")}
    most = max(gaps.values())
    return Finding(most, f"{most:.0f} ms", " ".join(f"After the death of a {target}: {gap:.0f} ms." for target, gap in gaps.items()))


def _goes_on(rows: Rows) -> Finding:
    """The part of its throughput that is left after a kill and the gap that follows it."""
    kept = {target: _kept(rows.where(part=_KILLED, killed=target)) for target in ("leader", "follower")}
    least = min(kept.values())
    return Finding(least, f"{least:.0%}", " ".join(f"After the death of a {target}: {part:.0%}." for target, part in kept.items()))


# What is shown


def _show(rows: Rows) -> Iterator[Chart | Table | None]:
    mine = rows.where(part=_DISORDER, disturbance="reorder")
    lines = [line(mine.where(protocol=name), name, "rate", "throughput_ops_s") for name in in_order(mine.values("protocol"))]
    x, y = Axis("messages reordered", percent=True, least=0), Axis("operations a second")
    note = (
        f"Simulated, {_REPLICAS} replicas, {_SESSIONS} sessions. Lines are medians over seeds, bands reach from the least to the greatest."
    )
    yield chart_or_none("adaptive-reorder", f"Throughput as messages are reordered, {_REPLICAS} replicas", x, y, lines, note)
    yield _troubles(rows.where(part=_TROUBLE))
    yield _alternation(rows.where(part=_SPELLS))
    yield _of_real(rows.where(part=_PROCESSES))


def _table(rows: Rows, name: str, title: str, columns: dict[str, Callable[[Rows], str]], by: tuple[str, ...], note: str) -> Table | None:
    """A line for each protocol and each combination of values of the columns `by`."""
    table = []
    for protocol in in_order(rows.values("protocol")):
        for values in product(*(rows.values(column) for column in by)):
            some = rows.where(protocol=protocol, **dict(zip(by, values, strict=True)))
            if some:
                table.append((label_of(protocol), *map(str, values), *(tell(some) for tell in columns.values())))
    names = (column.replace("_", " ") for column in by)
    return Table(name, title, ("protocol", *names, *columns), tuple(table), note) if table else None


def _median(column: str, scale: float = 1, form: str = ",.0f") -> Callable[[Rows], str]:
    """A function from rows to the text of a median, or `-` if the column is missing."""
    return lambda rows: format(rows.median(column) / scale, form) if rows.values(column) else "-"


def _troubles(rows: Rows) -> Table | None:
    columns = {"ops/s": _median("throughput_ops_s"), "median, us": _median("latency_us.p50"), "p99, us": _median("latency_us.p99")}
    slow_us = _TROUBLES["one slow"]["slow_ns"] / 1e3
    note = (
        f"Simulated, {_REPLICAS} replicas, {_SESSIONS} sessions. The slow replica takes {slow_us:g} us more for each burst. Neither leads."
    )
    return _table(rows, "adaptive-trouble", "One replica dead, one replica slow", columns, ("trouble",), note)


def _alternation(rows: Rows) -> Table | None:
    columns = {
        "ops/s": _median("throughput_ops_s"),
        "in good spells": _median("good_ops_s"),
        "in bad spells": _median("bad_ops_s"),
        "slow path after, ms": _median("slow_path_after_ms", form=".2f"),
        "fast path after, ms": _median("fast_path_after_ms", form=".2f"),
        "activations a bad spell": _median("activations_per_bad_spell", form=".2f"),
    }
    note = f"{_FEW_SESSIONS} sessions. Good and bad spells of {_SPELL_NS / 1e6:g} ms alternate; in bad ones {_REORDERED:.0%} are reordered."
    return _table(rows, "adaptive-spells", "A network with alternating good and bad spells", columns, ("seed",), note)


def _of_real(rows: Rows) -> Table | None:
    columns = {
        "ops/s": _median("throughput_ops_s"),
        "median, ms": _median("latency_us.p50", 1e3, ".2f"),
        "p99, ms": _median("latency_us.p99", 1e3, ".2f"),
    }
    note = f"Processes on this machine, multicast on its loopback; {_SESSIONS_EACH} sessions in each client process. With one order, "
    note += "client processes send one at a time."
    by = ("processes", "one_order")
    return _table(rows, "adaptive-processes", "Several client processes, whose multicasts arrive in different orders", columns, by, note)


def _claim(
    name: str, subject: str, words: str, number: str, protocols: tuple[str, ...], rule: Rule, find: Callable[[Rows], Finding]
) -> Claim:
    return Claim(f"adaptive-{name}", f"Adaptive: {subject}", STRETTO, "when to use which", words, number, protocols, rule, find)


_BOTH = (_ADAPTIVE, _BATCHED)
_CLAIMS = (
    *(
        _claim(
            f"{disturbance}-three-throughput", f"throughput against batching, three replicas, {disturbance}",
            "Its throughput is at least that of batched Paxos, however bad the network is.", "at least as much", _BOTH,
            LEVEL, no_cliff("throughput_ops_s", _BATCHED, min, part=_DISORDER, disturbance=disturbance),
        )
        for disturbance in _RATES
    ),
    *(
        _claim(
            f"{disturbance}-three-latency", f"latency against Paxos, three replicas, {disturbance}",
            "Its median latency is at most that of Paxos, however bad the network is.", "at most as much", (_ADAPTIVE, _PAXOS),
            NOT_ABOVE, no_cliff("latency_us.p50", _PAXOS, max, part=_DISORDER, disturbance=disturbance),
        )
        for disturbance in _RATES
    ),
    _claim(
        "delay", "latency on a perfect network", "On a perfect network it needs at most one message delay more than Speculative Paxos.",
        "at most one delay more", (_ADAPTIVE, _SPECULATIVE), AtMost(1, even=2), _one_delay,
    ),
    _claim(
        "trouble", "one replica dead, or slow", "With a dead or a slow follower its throughput is at least that of batched Paxos.",
        "at least as much", _BOTH, LEVEL, _in_trouble,
    ),
    _claim(
        "spells", "alternating good and bad spells", "Over both its throughput is at least that of batched Paxos.",
        "at least as much", _BOTH, LEVEL, _spells,
    ),
    _claim(
        "flapping", "how often it adapts", "The slow path becomes active at most once in a bad spell.",
        "at most once", (_ADAPTIVE,), AtMost(1, even=2, slack=0), _flapping,
    ),
    _claim(
        "processes", "four client processes against one",
        "Multicasts of four client processes arrive in different orders; it keeps 60% of its throughput.",
        "at least 60%", (_ADAPTIVE,), AtLeast(0.6, even=0.3, slack=0), _of_processes("throughput_ops_s", 4, _ADAPTIVE, 1),
    ),
    _claim(
        "processes-batched", "four client processes against batching",
        "With four client processes its throughput is at least that of batched Paxos.", "at least as much", _BOTH,
        AtLeast(1.0, even=0.5, slack=0), _of_processes("throughput_ops_s", 4, _BATCHED, 4),
    ),
    _claim(
        "processes-p99", "latency with four client processes", "With four client processes 99% of the calls end within 20 ms.",
        "20 ms", (_ADAPTIVE,), AtMost(20, even=40, slack=0), _late,
    ),
    _claim(
        "gap", "time without service", "When one of three replicas is killed, no gap is above 100 ms.",
        "100 ms", (_ADAPTIVE,), AtMost(100, even=200, slack=0), _gap,
    ),
    _claim(
        "goes-on", "throughput after a death", "When one of three replicas is killed, it keeps 70% of its throughput after the gap.",
        "70%", (_ADAPTIVE,), AtLeast(0.7, even=0.35, slack=0), _goes_on,
    ),
    _claim(
        "views", "view changes", "The view changes only when a leader has died.",
        "none", (_ADAPTIVE,), AtMost(0, even=0), no_view_change,
    ),
)  # fmt: skip

EXPERIMENT = Experiment(
    "adaptive",
    "Adaptive Speculative Paxos where the fast path does not hold",
    "Is its throughput at least that of batched Paxos on bad networks and with dead or slow replicas, and how soon does it adapt?",
    f"Simulated with {_REPLICAS} replicas: messages reordered and lost, a follower dead or slow, and a network with alternating good "
    f"and bad spells. On this machine: client processes whose multicasts arrive in different orders, {_SESSIONS_EACH} sessions in "
    "each, and replicas that are killed. The claims are Stretto's own.",
    _points,
    _show,
    _CLAIMS,
)
