"""Throughput and latency on networks that reorder or lose messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import exp, log
from typing import Any

import msgspec

from stretto.reproduction.charts import Axis, Chart, Table, chart_or_none, line
from stretto.reproduction.claims import NSDI15, OSDI16, STRETTO, AtLeast, AtMost, Claim, Finding, Near
from stretto.reproduction.experiment import IN_ORDER, Experiment, Scope, replicas_of, replicated
from stretto.reproduction.points import AnyPoint, Simulated
from stretto.reproduction.rows import Missing, Rows
from stretto.reproduction.styles import in_order, label_of

_REPLICAS, _SESSIONS = 5, 64
_REORDER, _LOSS = "reorder", "loss"
_WORDS = {_REORDER: "reordered", _LOSS: "lost"}
_CLAIMED = {_REORDER: 1e-3, _LOSS: 1e-2}
"""The rate at which Speculative Paxos falls below Paxos, according to the papers."""
_HELD_TO = {_REORDER: 0.2, _LOSS: 0.05}
"""The rate up to which the claims of Adaptive Speculative Paxos hold."""
_ZERO = 2e-6
_PAXOS, _BATCHED, _ADAPTIVE = "multipaxos", "multipaxos-batched", "adaptive"
_RATES = {
    _REORDER: ((0.0, 1e-4, 1e-3, 1e-2, 1e-1, 2e-1), (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 2e-1)),
    _LOSS: ((0.0, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1), (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 5e-2, 1e-1)),
}
"""For a quick run and for a full one."""


def _points(scope: Scope) -> Iterator[AnyPoint]:
    for disturbance, rates in _RATES.items():
        for rate in scope.chosen(*rates):
            for protocol in replicated(scope.protocols):
                for seed in scope.seeds(2, 5):
                    links = msgspec.structs.replace(IN_ORDER, **{disturbance: rate})
                    replicas = replicas_of(protocol, _REPLICAS)
                    factors: dict[str, Any] = {"protocol": protocol, "disturbance": disturbance, "rate": rate, "seed": seed}
                    yield Simulated(factors, scope.spec(protocol, replicas, _SESSIONS, scope.sized(5_000, 20_000), seed=seed, links=links))


def crossing(rows: Rows, disturbance: str, protocol: str, other: str = _PAXOS) -> float | None:
    """The rate at which the median throughput of `protocol` falls below that of `other`.

    It is interpolated between two rates on a logarithmic scale. None if the throughput never falls below. Raises Missing.
    """
    rows = rows.where(disturbance=disturbance)
    ratios: list[tuple[float, float]] = []
    for rate in sorted(rows.values("rate")):
        one, two = (rows.where(rate=rate, protocol=name).median("throughput_ops_s") for name in (protocol, other))
        ratios.append((rate, one / two))
    if not ratios:
        raise Missing(f"throughput where messages are {_WORDS[disturbance]}")
    if ratios[0][1] < 1:
        return ratios[0][0]
    for (low, above), (high, below) in pairwise(ratios):
        if below < 1:
            if not low:
                return high
            return exp(log(low) + (log(high) - log(low)) * log(above) / (log(above) - log(below)))
    return None


def _crossing_found(disturbance: str) -> Callable[[Rows], Finding]:
    def find(rows: Rows) -> Finding:
        at = crossing(rows, disturbance, "speculative")
        mine = rows.where(disturbance=disturbance, protocol="speculative")
        highest = max(mine.values("rate"))
        worst, still = (mine.where(rate=rate).median("throughput_ops_s") for rate in (highest, 0.0))
        paxos = rows.where(disturbance=disturbance, protocol=_PAXOS, rate=highest).median("throughput_ops_s")
        often = mine.where(rate=highest).median("reconciliations_per_s")
        reason = f"With {highest:.0%} {_WORDS[disturbance]} Speculative Paxos reconciles {often:,.0f} times a second, keeps "
        reason += f"{worst / still:.0%} of its throughput, and has {worst / paxos:.2f} times that of Multi-Paxos."
        if at is None:
            return Finding(float("inf"), f"never below Paxos up to {highest:.0%}", f"It stays above longer than claimed. {reason}")
        direction = "longer" if at > _CLAIMED[disturbance] else "less long"
        return Finding(at, f"below Paxos from {at * 100:.2g}% on", f"It stays above {direction} than claimed. {reason}")

    return find


def no_cliff(column: str, other: str, worst: Callable[[list[float]], float], **factors: Any) -> Callable[[Rows], Finding]:
    """The ratio of a column of Adaptive Speculative Paxos to that of `other`, in the rows with these factors.

    `worst`: chooses one ratio from those of all rates.
    """

    def find(rows: Rows) -> Finding:
        chosen = rows.where(**factors)
        most = _HELD_TO[factors["disturbance"]]
        ratios = {}
        for rate in sorted(rate for rate in chosen.values("rate") if rate <= most):
            ours, theirs = (chosen.where(rate=rate, protocol=name).median(column) for name in (_ADAPTIVE, other))
            ratios[rate] = ours / theirs
        if not ratios:
            raise Missing(f"{column} at any rate")
        at = ", ".join(f"{ratio:.2f} at {rate * 100:g}%" for rate, ratio in ratios.items())
        reason = f"Of messages {_WORDS[factors['disturbance']]}, against {label_of(other)}: {at}."
        return Finding(worst(list(ratios.values())), f"{min(ratios.values()):.2f} to {max(ratios.values()):.2f} times", reason)

    return find


def no_view_change(rows: Rows) -> Finding:
    """How often the view changed under Adaptive Speculative Paxos in runs without a killed leader."""
    mine = Rows(row for row in rows.where(protocol=_ADAPTIVE) if row.get("killed") != "leader")
    most = mine.spread("view_changes")[1]
    operations = sum(row["operations"] for row in mine)
    reason = f"The most in any of {len(mine.all)} runs in which no leader was killed, of {operations:,} operations together."
    return Finding(most, "none" if not most else f"up to {most:g} in a run", reason)


def _show(rows: Rows) -> Iterator[Chart | Table | None]:
    for disturbance in (_REORDER, _LOSS):
        mine = rows.where(disturbance=disturbance)
        present = in_order(mine.values("protocol"))
        word = _WORDS[disturbance]
        x = Axis(f"messages {word}", log=True, percent=True, zero=_ZERO)
        note = "Lines are medians over seeds, bands reach from the least to the greatest."
        claimed = ((_CLAIMED[disturbance], "the paper's crossing"),)
        for measure, column, words, upright in (
            ("Throughput", "throughput_ops_s", "operations a second", claimed),
            ("Latency", "latency_us.p50", "median latency, us", ()),
        ):
            lines = [line(mine.where(protocol=protocol), protocol, "rate", column) for protocol in present]
            name, title = f"{disturbance}-{measure.lower()}", f"{measure} as messages are {word}"
            yield chart_or_none(name, title, x, Axis(words, log=True), lines, note, upright=upright)
        yield _crossings(mine, disturbance, present)


def _crossings(rows: Rows, disturbance: str, present: list[str]) -> Table | None:
    table = []
    for protocol in present:
        try:
            at = "-" if protocol == _PAXOS else _rate(crossing(rows, disturbance, protocol))
            lost = [rows.where(protocol=protocol, rate=rate).median("throughput_ops_s") for rate in (0.0, 1e-3, 1e-2, 1e-1)]
        except Missing:
            continue
        table.append((label_of(protocol), at, *(f"{value:,.0f}" for value in lost)))
    columns = ("protocol", "below Multi-Paxos from", "ops/s at 0", "at 0.1%", "at 1%", "at 10%")
    title = f"Where protocols fall below Multi-Paxos as messages are {_WORDS[disturbance]}"
    note = "Medians over seeds; rates between those that were run are interpolated."
    return Table(f"{disturbance}-crossings", title, columns, tuple(table), note) if table else None


def _rate(at: float | None) -> str:
    return "nowhere" if at is None else f"{at * 100:.2g}%"


LEVEL, NOT_ABOVE = AtLeast(1.0, even=0.8, slack=0.02), AtMost(1.0, even=1.25, slack=0.02)
"""The slack is about the difference between medians of a few seeds."""

_CLAIMS = (
    Claim(
        "reorder-crossing", "Reordering: where Speculative Paxos falls below Paxos",
        NSDI15, "evaluation",
        "When more than about 0.1% of messages are reordered, reconciliations cost so much that performance falls below that of Paxos.",
        "about 0.1%", ("speculative", _PAXOS), Near(_CLAIMED[_REORDER], 3, 10), _crossing_found(_REORDER),
    ),
    Claim(
        "loss-crossing", "Loss: where Speculative Paxos falls to Paxos",
        OSDI16, "evaluation", "At 1% of messages lost, the throughput of Speculative Paxos has fallen to that of Paxos.",
        "about 1%", ("speculative", _PAXOS), Near(_CLAIMED[_LOSS], 3, 10), _crossing_found(_LOSS),
    ),
    *(
        Claim(
            f"adaptive-{disturbance}-throughput", f"Adaptive: throughput against batching, messages {word}",
            STRETTO, "no cliff", f"Up to {_HELD_TO[disturbance]:.0%} {word}, its throughput is at least that of batched Paxos.",
            "at least as much", (_ADAPTIVE, _BATCHED), LEVEL, no_cliff("throughput_ops_s", _BATCHED, min, disturbance=disturbance),
        )
        for disturbance, word in _WORDS.items()
    ),
    *(
        Claim(
            f"adaptive-{disturbance}-latency", f"Adaptive: latency against Paxos, messages {word}",
            STRETTO, "no cliff", f"Up to {_HELD_TO[disturbance]:.0%} {word}, its median latency is at most that of Paxos.",
            "at most as much", (_ADAPTIVE, _PAXOS), NOT_ABOVE, no_cliff("latency_us.p50", _PAXOS, max, disturbance=disturbance),
        )
        for disturbance, word in _WORDS.items()
    ),
    Claim(
        "adaptive-disorder-views", "Adaptive: view changes, messages reordered and lost",
        STRETTO, "views", "Neither reordering nor loss changes the view.", "none", (_ADAPTIVE,), AtMost(0, even=0), no_view_change,
    ),
)  # fmt: skip

EXPERIMENT = Experiment(
    "disorder",
    "Messages out of order, and messages lost",
    "How fast is each protocol on a bad network, and at which rate is it slower than Paxos?",
    f"Simulated, {_REPLICAS} replicas, {_SESSIONS} sessions on machines of their own. Each copy of a multicast is delayed by 50 to "
    "150 us, or each copy of any datagram is lost, with the same probability and independently. Only multicasts are delayed, because "
    "no protocol depends on the order of other messages. A run ends after 0.4 s of virtual time.",
    _points,
    _show,
    _CLAIMS,
)
