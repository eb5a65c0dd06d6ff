"""One run of a setting, from its seed to its measures, and rows of a report over several seeds with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

import msgspec
import numpy as np

from stretto.core.errors import ConfigurationError
from stretto.network import measures
from stretto.network.designs import DESIGNS, Design, GroupRules, rules_for
from stretto.network.groups import Group, place
from stretto.network.model.draws import generator
from stretto.network.model.queues import NEVER, Times
from stretto.network.model.run import Census, Conditions, Deliveries, Messages, run
from stretto.network.model.traffic import Background, Stacks
from stretto.network.topology import LARGEST_PACKET_BYTES, PS_PER_S, Topology


class Setting(msgspec.Struct, frozen=True):
    """All parameters of a run.

    `rate` is in messages per second and `messages` is their number, both over all senders. The seed places the group, salts the hashes, and
    draws all traffic. Bursts have the rate of a host's link if `burst_gbps` is None.
    """

    topology: str = "datacentre"
    design: str = "plain"
    merge: str = "per_root"
    load: float = 0.0
    bursts: str = "onoff"
    burst_packets: float = 16
    burst_gbps: float | None = None
    senders: int = 5
    receivers: int = 5
    rate: float = 10_000
    messages: int = 10_000
    message_bytes: int = 128
    jitter_us: float = 0
    seed: int = 1

    def validate(self) -> Setting:
        """Return this setting if it is valid. Otherwise raises ConfigurationError with the key and the valid values."""
        Design(self.design, self.merge)
        Background(self.load, self.bursts, self.burst_packets)  # type: ignore[arg-type]
        if not 0 < self.rate <= 1e9:
            raise ConfigurationError(f"{self.rate} is not a rate; more than 0, up to 1e9 messages a second", key="rate")
        if not 1 <= self.messages <= 100_000_000:
            raise ConfigurationError(f"{self.messages} is not a number of messages; 1 or more", key="messages")
        if self.burst_gbps is not None and not 0.001 <= self.burst_gbps <= 10_000:
            raise ConfigurationError(f"{self.burst_gbps} is not a rate; 0.001 to 10000 Gbit/s", key="burst_gbps")
        if not 46 <= self.message_bytes <= LARGEST_PACKET_BYTES:
            reason = f"{self.message_bytes} is not the size of a packet; 46 to {LARGEST_PACKET_BYTES} bytes, frame included"
            raise ConfigurationError(reason, key="message_bytes")
        if not 0 <= self.jitter_us <= 1e6:
            raise ConfigurationError(f"{self.jitter_us} is not a jitter; 0 or more microseconds", key="jitter_us")
        return self


class Prepared(msgspec.Struct, frozen=True):
    """A run that is ready to be started."""

    topology: Topology
    group: Group
    compiled: GroupRules
    messages: Messages
    conditions: Conditions

    def run(self) -> Deliveries:
        """Do the run."""
        return run(self.topology, self.compiled.rules, self.messages, self.conditions)


class Outcome(msgspec.Struct, frozen=True):
    """The results of one run. `quorum_ps` is the time from each message until a majority of receivers had it; NEVER if none did."""

    setting: Setting
    disagreement: measures.Disagreement
    loss: float
    latency_us: tuple[float, float, float]
    spread_us: tuple[float, float]
    quorum_ps: Times
    census: Census


def prepare(setting: Setting, topology: Topology) -> Prepared:
    """Place the group, compile the design, and draw the messages. Raises ConfigurationError if the setting is invalid."""
    setting.validate()
    group = place(topology, setting.senders, setting.receivers, setting.seed)
    compiled = rules_for(topology, group, Design(setting.design, setting.merge, setting.seed))
    random = generator("messages", setting.seed)
    gaps = random.standard_exponential(setting.messages) * (PS_PER_S / setting.rate)
    messages = Messages(
        tuple((group.address, sender) for sender in group.senders),
        random.integers(0, setting.senders, setting.messages),
        np.cumsum(gaps).astype(np.int64),
        setting.message_bytes,
    )
    (card,) = topology.wires[group.senders[0]].values()
    burst_rate = card.rate_bps if setting.burst_gbps is None else round(setting.burst_gbps * 1e9)
    background = Background(setting.load, setting.bursts, setting.burst_packets, burst_rate, setting.seed)  # type: ignore[arg-type]
    stacks = Stacks(round(setting.jitter_us * measures.PS_PER_US), setting.seed)
    return Prepared(topology, group, compiled, messages, Conditions(background, stacks))


def evaluate(setting: Setting, prepared: Prepared, deliveries: Deliveries) -> Outcome:
    """The measures of a run in the model or on a testbed. `prepared` has the times at which messages were sent."""
    receivers = [deliveries.at[member] for member in prepared.group.members]
    latencies = measures.latencies_us(receivers, prepared.messages.time_ps)
    spreads = measures.spreads_us(receivers)
    quorum = measures.quorum_times(receivers, len(receivers) // 2 + 1)
    return Outcome(
        setting,
        measures.of_group(receivers),
        measures.loss(receivers),
        (quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(latencies, 1)),
        (quantile(spreads, 0.5), quantile(spreads, 0.99)),
        np.where(quorum == NEVER, NEVER, quorum - prepared.messages.time_ps),
        deliveries.census,
    )


def quantile(values: np.ndarray[Any, Any], share: float) -> float:
    """A quantile; NaN if there are no values."""
    return float(np.quantile(values, share)) if len(values) else math.nan


def settings(base: Setting, designs: Sequence[str], loads: Sequence[float], seeds: int) -> Iterator[Setting]:
    """The runs of a sweep, by load, then design, then seed. Plain comes first: the others' quorum times are compared with it."""
    wanted = [design for design in DESIGNS if design in designs or design == "plain"]
    for load in loads:
        for design in wanted:
            for offset in range(seeds):
                yield msgspec.structs.replace(base, design=design, load=load, seed=base.seed + offset)


_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09)
"""Student's t for two-sided 95 percent, by degrees of freedom from 1. Beyond the table the last value is used (slightly too large)."""


def confidence(values: Sequence[float]) -> tuple[float, float]:
    """The 95 percent confidence interval of the mean of shares, limited to 0 to 1."""
    half = _STUDENT[min(len(values) - 1, len(_STUDENT)) - 1] * stdev(values) / math.sqrt(len(values))
    return max(0.0, fmean(values) - half), min(1.0, fmean(values) + half)


def row(outcomes: Sequence[Outcome], plain: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """One line of a report: a design at a load, over one seed or several. `plain` are the runs of plain with the same seeds.

    With several seeds, shares also have `_low` and `_high`. Quantiles are means over the seeds, and maxima are maxima over them.
    """
    setting = outcomes[0].setting
    design = Design(setting.design, setting.merge)
    line: dict[str, Any] = {"design": design.name, "merge": design.merges}
    line |= {key: getattr(setting, key) for key in ("load", "senders", "receivers", "rate", "messages")}
    shares = {key: [getattr(outcome.disagreement, key) for outcome in outcomes] for key in ("overtaken", "pairwise", "lis")}
    for key, values in (shares | {"loss": [outcome.loss for outcome in outcomes]}).items():
        line[key] = fmean(values)
        if len(values) > 1:
            line[f"{key}_low"], line[f"{key}_high"] = confidence(values)
    latencies = list(zip(*(outcome.latency_us for outcome in outcomes), strict=True))
    line["latency_us"] = {"p50": _mean(latencies[0]), "p99": _mean(latencies[1]), "max": _number(max(latencies[2]))}
    spreads = list(zip(*(outcome.spread_us for outcome in outcomes), strict=True))
    line["spread_us"] = {"p50": _mean(spreads[0]), "p99": _mean(spreads[1])}
    added = [measures.added_us(mine.quorum_ps, other.quorum_ps) for mine, other in zip(outcomes, plain, strict=True)]
    line["quorum_added_us"] = {
        "p50": _mean([quantile(values, 0.5) for values in added]),
        "p99": _mean([quantile(values, 0.99) for values in added]),
        "share_zero": _mean([float((values <= 0).mean()) for values in added if len(values)] or [math.nan]),
    }
    line["packet_hops"] = sum(outcome.census.packet_hops for outcome in outcomes)
    line["seconds"] = round(seconds, 3)
    return line


def _mean(values: Sequence[float]) -> float | None:
    return _number(fmean(values))


def _number(value: float) -> float | None:
    """A rounded number; None for NaN, which JSON does not have."""
    return None if math.isnan(value) else round(value, 3)
