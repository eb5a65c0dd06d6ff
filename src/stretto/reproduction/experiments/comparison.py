"""Maximum throughput, and latency at low load: every protocol against Multi-Paxos, and the reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from stretto.reproduction.charts import Table
from stretto.reproduction.claims import NSDI15, OSDI16, AtLeast, AtMost, Claim, Finding
from stretto.reproduction.experiment import Experiment, Scope, replicas_of
from stretto.reproduction.points import AnyPoint, Simulated
from stretto.reproduction.rows import Missing, Rows
from stretto.reproduction.styles import in_order, label_of
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

_REPLICAS = 5
_SWITCH = "-switch"
SHARED, SINGLE = "shared", "single"
"""Whether messages to one destination share datagrams, as in Stretto, or each has its own, as in the prototypes of the papers."""


def _points(scope: Scope) -> Iterator[AnyPoint]:
    for datagrams in (SHARED, SINGLE):
        for protocol in scope.protocols:
            replicas = replicas_of(protocol, _REPLICAS)
            for sessions in (1, 32, 128, 256):
                for seed in scope.seeds(1, 3) if sessions > 1 else scope.seeds(2, 5):
                    operations = scope.sized(4_000, 12_000) if sessions > 1 else scope.sized(500, 2_000)
                    spec = scope.spec(protocol, replicas, sessions, operations, seed=seed)
                    for name, variant in _variants(spec if datagrams == SHARED else _one_message_each(spec)).items():
                        factors = {"protocol": name, "replicas": replicas, "datagrams": datagrams, "sessions": sessions, "seed": seed}
                        yield Simulated(factors, variant)


def _variants(spec: SimulationSpec) -> dict[str, SimulationSpec]:
    """The protocol, and if it has a sequencer, also a variant whose sequencer takes no time, as a switch would."""
    variants = {spec.protocol: spec}
    if spec.sequencers:
        variants[spec.protocol + _SWITCH] = msgspec.structs.replace(spec, sequencer_costs=Costs())
    return variants


def _one_message_each(spec: SimulationSpec) -> SimulationSpec:
    """The same run with a datagram for each message."""
    kinds = ("costs", "client_costs", "sequencer_costs")
    single = {kind: msgspec.structs.replace(getattr(spec, kind), datagram_messages=1) for kind in kinds}
    return msgspec.structs.replace(spec, **single)


# From rows to numbers


def _most(rows: Rows, protocol: str, datagrams: str = SHARED) -> Rows:
    """The rows with the number of sessions at which the throughput of a protocol is greatest."""
    return rows.where(protocol=protocol, datagrams=datagrams).best("throughput_ops_s", by="sessions")


def throughput(rows: Rows, protocol: str, datagrams: str = SHARED) -> float:
    """The maximum throughput of a protocol, in operations per second. Raises Missing."""
    return _most(rows, protocol, datagrams).median("throughput_ops_s")


def latency_us(rows: Rows, protocol: str, datagrams: str = SHARED) -> float:
    """The median latency of a single call. Raises Missing."""
    return rows.where(protocol=protocol, datagrams=datagrams, sessions=1).median("latency_us.p50")


def _leader(rows: Rows, protocol: str, datagrams: str) -> tuple[float, float, float]:
    """The work of the leader for one operation at the highest throughput: messages, datagrams, microseconds of processor time."""
    most = _most(rows, protocol, datagrams)

    def both_directions(unit: str) -> float:
        return sum(most.median(f"{unit}_per_op.leader.{direction}") for direction in ("received", "sent"))

    return both_directions("messages"), both_directions("datagrams"), most.median("cpu_us_per_op.leader")


def _busy(rows: Rows, protocol: str, datagrams: str) -> float:
    """The share of time that the leader works. At most 1: the last work that it is charged for may end after the measured part."""
    return min(1.0, _most(rows, protocol, datagrams).median("utilisation.leader"))


def _explained(rows: Rows, one: str, other: str, datagrams: str) -> str:
    """The work of both leaders, which explains the difference in throughput."""
    parts = []
    for protocol in (one, other):
        messages, carriers, cpu = _leader(rows, protocol, datagrams)
        work = f"{messages:.1f} messages in {carriers:.1f} datagrams and {cpu:.1f} us"
        parts.append(f"{label_of(protocol)} {work} (its processor {_busy(rows, protocol, datagrams):.0%} busy)")
    return f"an operation costs the leader of {parts[0]}, that of {parts[1]}."


def _throughput_ratio(one: str, other: str) -> Callable[[Rows], Finding]:
    def find(rows: Rows) -> Finding:
        ratio = throughput(rows, one) / throughput(rows, other)
        single = throughput(rows, one, SINGLE) / throughput(rows, other, SINGLE)
        text = f"{ratio:.2f} times ({throughput(rows, one):,.0f} against {throughput(rows, other):,.0f} operations/s)"
        shared, apart = (_explained(rows, one, other, datagrams) for datagrams in (SHARED, SINGLE))
        reason = f"{shared[0].upper()}{shared[1:]} If no two messages share a datagram, as in the papers' prototypes, it is "
        reason += f"{single:.2f} times" + (f": {apart}" if apart != shared else ".")
        if one.endswith(_SWITCH):
            host = throughput(rows, one.removesuffix(_SWITCH)) / throughput(rows, other)
            reason += f" With the sequencer on a host, whose messages share datagrams under load, it is {host:.2f} times."
        return Finding(ratio, text, reason)

    return find


def _latency_ratio(one: str, other: str) -> Callable[[Rows], Finding]:
    def find(rows: Rows) -> Finding:
        ours, theirs = latency_us(rows, one), latency_us(rows, other)
        ratio = ours / theirs
        change = f"{abs(1 - ratio):.0%} {'lower' if ratio < 1 else 'higher'}"
        cpu = [rows.where(protocol=name, datagrams=SHARED, sessions=1).median("cpu_us_per_op.leader") for name in (one, other)]
        reason = f"One call at a time takes {ours:.0f} us with {label_of(one)} and {theirs:.0f} us with {label_of(other)}; "
        return Finding(
            ratio, change, reason + f"the leaders work {cpu[0]:.1f} and {cpu[1]:.1f} us for it, the rest is the network and the clients."
        )

    return find


_MAIN = "Speculative Paxos can provide 40% lower latency and 2.6\N{MULTIPLICATION SIGN} higher throughput than the standard Paxos protocol."
_BOTH = (
    "It offers lower latency than a latency-optimized protocol (Fast Paxos) with the same throughput as a throughput-optimized protocol "
    "(batching)."
)

_CLAIMS = (
    Claim(
        "latency-paxos", "Speculative Paxos: latency against Paxos",
        NSDI15, "abstract", _MAIN, "40% lower latency", ("speculative", "multipaxos"),
        AtMost(0.6), _latency_ratio("speculative", "multipaxos"), quoted=True,
    ),
    Claim(
        "throughput-paxos", "Speculative Paxos: throughput against Paxos",
        NSDI15, "abstract", _MAIN, "2.6 times the throughput", ("speculative", "multipaxos"),
        AtLeast(2.6), _throughput_ratio("speculative", "multipaxos"), quoted=True,
    ),
    Claim(
        "latency-fastpaxos", "Speculative Paxos: latency against Fast Paxos",
        NSDI15, "abstract", _BOTH, "lower latency than Fast Paxos", ("speculative", "fastpaxos"),
        AtMost(0.95, slack=0), _latency_ratio("speculative", "fastpaxos"), quoted=True,
    ),
    Claim(
        "throughput-batched", "Speculative Paxos: throughput against batching",
        NSDI15, "abstract", _BOTH, "the throughput of batching", ("speculative", "multipaxos-batched"),
        AtLeast(1.0, even=0.5), _throughput_ratio("speculative", "multipaxos-batched"), quoted=True,
    ),
    Claim(
        "nopaxos-unreplicated", "NOPaxos: throughput against no replication",
        OSDI16, "abstract", "throughput within 2% and latency within 16 us of an unreplicated system",
        "throughput within 2% of unreplicated", ("nopaxos", "unreplicated"),
        AtLeast(0.98, even=0.5, slack=0.05), _throughput_ratio("nopaxos" + _SWITCH, "unreplicated"), quoted=True,
    ),
    Claim(
        "nopaxos-latency", "NOPaxos: latency against Paxos",
        OSDI16, "evaluation", "At low load NOPaxos answers in 111 us, Paxos in 240 us.", "46% of Paxos's latency",
        ("nopaxos", "multipaxos"), AtMost(0.46), _latency_ratio("nopaxos" + _SWITCH, "multipaxos"),
    ),
    Claim(
        "nopaxos-speculative", "NOPaxos: throughput against Speculative Paxos",
        OSDI16, "evaluation", "NOPaxos has 24% more throughput than Speculative Paxos.", "1.24 times",
        ("nopaxos", "speculative"), AtLeast(1.24, even=0.9), _throughput_ratio("nopaxos" + _SWITCH, "speculative"),
    ),
)  # fmt: skip


def _show(rows: Rows) -> Iterator[Table | None]:
    present = in_order(rows.values("protocol"))
    table = []
    for protocol in present:
        try:
            table.append(_summary(rows, protocol))
        except Missing:
            continue
    columns = ("protocol", "most, ops/s", "of Multi-Paxos", "latency, us", "of Multi-Paxos", "99th percentile")
    note = f"{_REPLICAS} replicas, datagrams shared. Latency is that of a single session; throughput is the maximum over 1 to 256 sessions."
    yield Table("comparison", "Every protocol against Multi-Paxos", columns, tuple(table), note)
    yield _decomposition(rows, present)


def _summary(rows: Rows, protocol: str) -> tuple[object, ...]:
    def against_paxos(measure: Callable[[Rows, str], float]) -> str:
        try:
            return f"{measure(rows, protocol) / measure(rows, 'multipaxos'):.2f}"
        except Missing:
            return "-"

    single = rows.where(protocol=protocol, datagrams=SHARED, sessions=1)
    return (
        label_of(protocol),
        f"{throughput(rows, protocol):,.0f}",
        against_paxos(throughput),
        f"{latency_us(rows, protocol):.1f}",
        against_paxos(latency_us),
        f"{single.median('latency_us.p99'):.1f}",
    )


def _decomposition(rows: Rows, present: list[str]) -> Table:
    table = []
    for protocol in present:
        for datagrams in (SHARED, SINGLE):
            try:
                messages, carriers, cpu = _leader(rows, protocol, datagrams)
                busy, most = _busy(rows, protocol, datagrams), throughput(rows, protocol, datagrams)
            except Missing:
                continue
            bound = f"{1e6 / cpu:,.0f}" if cpu else "-"
            costs = f"{messages:.2f}", f"{carriers:.2f}", f"{cpu:.2f}"
            table.append((label_of(protocol), datagrams, *costs, bound, f"{most:,.0f}", f"{busy:.0%}"))
    columns = ("protocol", "datagrams", "messages/op", "datagrams/op", "CPU us/op", "1 s / CPU", "ops/s", "busy")
    note = (
        "At the leader, at the highest throughput. One second divided by its processor time for an operation bounds the throughput. "
        "Where messages share datagrams, a busy leader sends and receives the messages of several operations at once. This batching costs "
        "no delay. Every protocol of Stretto has it, and the prototypes of the papers do not; lines “single” are without it. A simulated "
        "message costs the same whatever its size, which favours protocols that put many requests into one message."
    )
    return Table("decomposition", "Where the throughput comes from", columns, tuple(table), note)


EXPERIMENT = Experiment(
    "comparison",
    "Throughput and latency against Paxos",
    "How much faster is Speculative Paxos than Paxos, Fast Paxos, batching, NOPaxos and no replication, and why?",
    f"Simulated, {_REPLICAS} replicas, multicasts in one order, each client on a machine of its own. One session gives the latency at low "
    "load; the throughput is the maximum over 32, 128 and 256 sessions. Everything is run twice: with datagrams that messages share, "
    "and with a datagram for each message. A sequencer is a process with the costs of a replica, and in a variant takes no time, as a "
    "switch would; in both, a message needs one delay to reach it and another from it.",
    _points,
    _show,
    _CLAIMS,
)
