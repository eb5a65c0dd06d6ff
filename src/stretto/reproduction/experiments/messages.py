"""The number of replicas; messages for each operation, and message delays, compared with theory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from stretto.reproduction.charts import Axis, Chart, Table, chart_or_none, line
from stretto.reproduction.claims import NSDI15, OSDI16, Claim, Finding, Near
from stretto.reproduction.experiment import Experiment, Scope, replicas_of
from stretto.reproduction.points import AnyPoint, Simulated
from stretto.reproduction.rows import Missing, Rows
from stretto.reproduction.styles import in_order, label_of
from stretto.simulation.network import Delay, Links
from stretto.simulation.world import Costs

_SESSIONS = 128
_SIZES = (3, 5, 7, 9)
_HOP_NS = 100_000
_THROUGHPUT, _DELAYS = "throughput", "delays"

_DELAYS_IN_THEORY = {
    "multipaxos": "4",
    "multipaxos-batched": "4 + wait",
    "fastpaxos": "3",
    "speculative": "2",
    "nopaxos": "2 + sequencer",
    "unreplicated": "2",
}
_LEADER_IN_THEORY: dict[str, tuple[str, Callable[[int], float]]] = {
    "multipaxos": ("2n", lambda n: 2 * n),
    "fastpaxos": ("n + 2", lambda n: n + 2),
    "speculative": ("2", lambda n: 2),
    "nopaxos": ("2", lambda n: 2),
    "unreplicated": ("2", lambda n: 2),
}
"""Messages that the leader receives and sends for an operation, with n replicas."""


def _points(scope: Scope) -> Iterator[AnyPoint]:
    one_way = Links(transit=Delay("constant", _HOP_NS), skew=Delay("constant"))
    for protocol in scope.protocols:
        for replicas in dict.fromkeys(replicas_of(protocol, size) for size in _SIZES):
            for seed in scope.seeds(1, 3):
                factors = {"protocol": protocol, "replicas": replicas, "asked": _THROUGHPUT, "seed": seed}
                yield Simulated(factors, scope.spec(protocol, replicas, _SESSIONS, scope.sized(3_000, 8_000), seed=seed))
        replicas = replicas_of(protocol, 5)
        factors = {"protocol": protocol, "replicas": replicas, "asked": _DELAYS, "seed": scope.seed}
        spec = scope.spec(protocol, replicas, 1, 200, seed=scope.seed, links=one_way)
        yield Simulated(factors, msgspec.structs.replace(spec, costs=Costs(), client_costs=Costs()))


def delays(rows: Rows, protocol: str) -> float:
    """The number of message delays from the start of a call to its result. Raises Missing."""
    return rows.where(protocol=protocol, asked=_DELAYS).median("latency_us.p50") / (_HOP_NS / 1e3)


def at_leader(rows: Rows, protocol: str, replicas: int, role: str = "leader") -> float:
    """Messages that the leader, or a follower, receives and sends for an operation. Raises Missing."""
    some = rows.where(protocol=protocol, replicas=replicas, asked=_THROUGHPUT)
    return sum(some.median(f"messages_per_op.{role}.{direction}") for direction in ("received", "sent"))


def _delays_found(protocol: str) -> Callable[[Rows], Finding]:
    def find(rows: Rows) -> Finding:
        found = delays(rows, protocol)
        reason = f"With {_HOP_NS // 1_000} us for each message on the network, and processors that take no time, a call takes "
        return Finding(found, f"{found:.2f} message delays", reason + f"{found * _HOP_NS / 1e3:.0f} us.")

    return find


def _messages_found(protocol: str, replicas: int) -> Callable[[Rows], Finding]:
    def find(rows: Rows) -> Finding:
        found = at_leader(rows, protocol, replicas)
        some = rows.where(protocol=protocol, replicas=replicas, asked=_THROUGHPUT)
        counts = ", ".join(f"{some.median(f'messages_per_op.leader.{direction}'):.2f} {direction}" for direction in ("received", "sent"))
        return Finding(found, f"{found:.2f} messages", f"Counted at the leader of {replicas} replicas: {counts} for each operation.")

    return find


_CLAIMS = (
    Claim(
        "two-delays", "Speculative Paxos: message delays",
        NSDI15, "protocol",
        "A client knows its operation to be done after two message delays, with f+⌈f/2⌉+1 matching replies.",
        "2 message delays", ("speculative",), Near(2, 1.05, 1.25), _delays_found("speculative"),
    ),
    Claim(
        "four-delays", "Paxos: message delays",
        OSDI16, "table 1", "A Paxos leader and its client need four message delays.", "4 message delays", ("multipaxos",),
        Near(4, 1.05, 1.25), _delays_found("multipaxos"),
    ),
    Claim(
        "leader-paxos", "Paxos: messages at the leader",
        OSDI16, "table 1", "The leader of Paxos handles 2n messages for each operation.", "10 messages at n = 5",
        ("multipaxos",), Near(10, 1.1, 1.5), _messages_found("multipaxos", 5),
    ),
    Claim(
        "leader-speculative", "Speculative Paxos: messages at the busiest replica",
        OSDI16, "table 1", "The most that a replica handles in Speculative Paxos is 2 messages for each operation.",
        "2 messages", ("speculative",), Near(2, 1.1, 1.5), _messages_found("speculative", 5),
    ),
)  # fmt: skip


def _show(rows: Rows) -> Iterator[Chart | Table | None]:
    present = in_order(rows.values("protocol"))
    runs = rows.where(asked=_THROUGHPUT)
    note = f"Simulated, {_SESSIONS} sessions on machines of their own."
    lines = [line(runs.where(protocol=protocol), protocol, "replicas", "throughput_ops_s") for protocol in present]
    x = Axis("replicas", least=0, marks=_SIZES)
    yield chart_or_none("replicas-throughput", "Throughput against the number of replicas", x, Axis("operations a second"), lines, note)
    yield _counts(rows, present)


def _counts(rows: Rows, present: list[str]) -> Table:
    table = []
    for protocol in present:
        for replicas in sorted(rows.where(protocol=protocol, asked=_THROUGHPUT).values("replicas")):
            try:
                counted = at_leader(rows, protocol, replicas)
            except Missing:
                continue
            expected = _in_theory(rows, protocol, replicas)
            follower = f"{at_leader(rows, protocol, replicas, 'follower'):.2f}" if replicas > 1 else "-"
            try:
                waits = f"{delays(rows, protocol):.2f}" if replicas == replicas_of(protocol, 5) else ""
            except Missing:
                waits = "-"
            in_theory = _DELAYS_IN_THEORY.get(protocol, "-") if waits else ""
            table.append((label_of(protocol), replicas, f"{counted:.2f}", expected, follower, waits, in_theory))
    columns = ("protocol", "replicas", "at the leader", "in theory", "at a follower", "delays", "delays in theory")
    note = (
        "Messages for each operation, received and sent, counted in the simulator; a multicast counts once where it is sent. Delays are "
        "those of a single call on a network that takes the same time for each message, with processors that cost nothing."
    )
    return Table("messages", "Messages and delays compared with theory", columns, tuple(table), note)


def _in_theory(rows: Rows, protocol: str, replicas: int) -> str:
    """The number of messages at the leader in theory: with batches 2 + 2(n-1)/b, where b is their mean size in this run."""
    if protocol in _LEADER_IN_THEORY:
        words, theory = _LEADER_IN_THEORY[protocol]
        return words if words.isdigit() else f"{theory(replicas):g} ({words})"
    if protocol != "multipaxos-batched" or replicas < 2:
        return "-"
    some = rows.where(protocol=protocol, replicas=replicas, asked=_THROUGHPUT)
    prepares = (some.median("messages_per_op.leader.sent") - 1) / (replicas - 1)
    return f"{2 + 2 * (replicas - 1) * prepares:.2f} (2 + 2(n-1)/b, b = {1 / prepares:.1f})" if prepares > 0 else "-"


EXPERIMENT = Experiment(
    "messages",
    "More replicas, and the messages of each operation",
    "How does the number of replicas affect throughput, and does each protocol send as many messages as its description says?",
    "The simulator counts what each replica receives and sends.",
    _points,
    _show,
    _CLAIMS,
)
