"""Runs on a testbed with the same settings, messages and measures as runs in the model (`network.experiment`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean
from typing import Any

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.network import experiment
from stretto.network.designs import Design
from stretto.network.experiment import Outcome, Prepared, Setting, evaluate, prepare
from stretto.network.model.run import Census, Deliveries
from stretto.testbed.background import Target, background, busy_s, targets
from stretto.testbed.commands import ControllerClient
from stretto.testbed.datagrams import SMALLEST_MESSAGE_BYTES
from stretto.testbed.exchange import Exchanged, exchange, warm_up
from stretto.testbed.fabric import Fabric
from stretto.testbed.in_model import topology_in_model
from stretto.testbed.session import install


class Measured(msgspec.Struct, frozen=True):
    """The outcome of a run, and how long it took in seconds.

    `late_us`: how late messages were sent, in microseconds (p50, p99); `link_load`: the mean load of the congested links, as a share of
    their rate; `ignored`: what receivers ignored, by reason.
    """

    outcome: Outcome
    seconds: float
    late_us: tuple[float, float]
    link_load: float | None
    ignored: Counter[str]


def row(runs: Sequence[Measured], plain: Sequence[Measured]) -> dict[str, Any]:
    """One line of a report: the fields of the model and those of a testbed. `plain` are the runs of plain multicast with equal seeds."""
    seconds = sum(run.seconds for run in runs)
    line = experiment.row([run.outcome for run in runs], [run.outcome for run in plain], seconds)
    line["packet_hops"] = None  # not counted on a testbed
    line["on"] = "testbed"
    line["late_us"] = {"p50": round(fmean(run.late_us[0] for run in runs), 1), "p99": round(fmean(run.late_us[1] for run in runs), 1)}
    loads = [run.link_load for run in runs if run.link_load is not None]
    line["link_load"] = round(fmean(loads), 3) if loads else None
    line["ignored"] = dict(sum((run.ignored for run in runs), Counter()))
    return line


def check(setting: Setting) -> Setting:
    """Return this setting if a testbed can run it. Raises ConfigurationError otherwise."""
    if setting.message_bytes < SMALLEST_MESSAGE_BYTES:
        reason = f"{setting.message_bytes} bytes are too few for a message of a testbed; at least {SMALLEST_MESSAGE_BYTES}, frame included"
        raise ConfigurationError(reason, key="message_bytes")
    if setting.messages > 1_000_000:
        raise ConfigurationError(f"{setting.messages} messages are too many for a testbed; at most 1000000", key="messages")
    return setting.validate()


def measure(
    fabric: Fabric, controller: ControllerClient, setting: Setting, progress: Callable[[float], None] = lambda share: None
) -> Measured:
    """Install the design for the group, send the messages, and measure their order. `progress` is called with the share that has arrived.

    Raises TestbedFailure if the switches do not have the tables that they should.
    """
    started = time.monotonic()
    prepared = prepare(check(setting), topology_in_model(fabric))
    design = Design(setting.design, setting.merge, setting.seed)
    install(controller, design, prepared.group)
    traffic = prepared.conditions.background
    congested = targets(fabric.plan.topology, prepared.group, design) if traffic.load else ()
    with background(fabric, congested, traffic):
        warm_up(fabric.plan, prepared.group)
        with exchange(fabric.plan, prepared.group, prepared.messages) as exchanging:
            busy = _Busy(fabric, congested)
            copies = setting.messages * setting.receivers
            exchanged = exchanging.finish(lambda received: progress(received / copies))
            link_load = busy.share()
    return Measured(_outcome(setting, prepared, exchanged), time.monotonic() - started, exchanged.late_us, link_load, exchanged.ignored)


class _Busy:
    """Measures how busy links are, from now on."""

    def __init__(self, fabric: Fabric, links: Sequence[Target]) -> None:
        self._fabric = fabric
        self._links = links
        self._began_s, self._before_s = time.monotonic(), self._busy_s()

    def share(self) -> float | None:
        """The mean share of the time in which the links were sending; None without links."""
        if not self._links:
            return None
        return (self._busy_s() - self._before_s) / len(self._links) / (time.monotonic() - self._began_s)

    def _busy_s(self) -> float:
        return sum(busy_s(self._fabric, link) for link in self._links)


def by_row(settings: Sequence[Setting]) -> Iterator[list[Setting]]:
    """The settings, grouped by row of the report: consecutive settings that differ only in their seeds share a row."""
    for _, several in groupby(settings, lambda setting: msgspec.structs.replace(setting, seed=0)):
        yield list(several)


def sweep(
    fabric: Fabric, controller: ControllerClient, settings: Sequence[Setting], progress: Callable[[str, float], None]
) -> Iterator[list[Measured]]:
    """Do all runs in order. Yields those of a row as soon as they are done. `progress` gets the current run and the share that is done."""
    number = 0

    def show(share: float) -> None:
        what = f"{setting.design}, {setting.rate:g} messages/s, load {setting.load:g}, seed {setting.seed}"
        progress(what, (number + share) / len(settings))

    for several in by_row(settings):
        runs = []
        for setting in several:
            runs.append(measure(fabric, controller, setting, show))
            number += 1
        yield runs


def _outcome(setting: Setting, prepared: Prepared, exchanged: Exchanged) -> Outcome:
    sent = msgspec.structs.replace(prepared, messages=replace(prepared.messages, time_ps=exchanged.sent_ps))
    return evaluate(setting, sent, Deliveries(exchanged.at, Census(made=setting.messages)))
