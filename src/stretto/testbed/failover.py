"""A switch or link on a group's path is killed under load, and revived: the effect on receivers, and when the controller reacted.

Messages are evenly spaced, from the senders in turn. Times count from the beginning of the command that killed or revived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from stretto.core.errors import ConfigurationError
from stretto.network import measures
from stretto.network.designs import Design, rules_for
from stretto.network.groups import Group, place
from stretto.network.model.queues import NEVER, Times
from stretto.network.model.run import Messages
from stretto.network.topology import Topology
from stretto.network.verification import walk
from stretto.testbed.commands import Change, ControllerClient
from stretto.testbed.exchange import PS_PER_NS, Exchanged, evenly, exchange, warm_up
from stretto.testbed.fabric import Fabric
from stretto.testbed.session import install

BEFORE_S = 1.0
"""From the first message to the failure."""
SPAN_S = 2.0
"""From the failure to the repair, and from there to the last message."""
_PS_PER_MS = 1_000_000_000
_NS_PER_MS = 1_000_000


class Trial(msgspec.Struct, frozen=True):
    """The parameters of a trial. `what`: root or link; `rate`: messages per second of all senders together; `seed`: places the group."""

    what: str = "root"
    design: str = "serialised"
    merge: str = "per_root"
    senders: int = 3
    receivers: int = 3
    rate: float = 1_000
    seed: int = 1

    def validate(self) -> Trial:
        """Return this trial if it is valid. Raises ConfigurationError otherwise."""
        if self.what not in ("root", "link"):
            raise ConfigurationError(f"{self.what!r} cannot be killed; root or link", key="what")
        if not 1 <= self.rate <= 100_000:
            raise ConfigurationError(f"{self.rate} is not a rate; 1 to 100000 messages a second", key="rate")
        return self


class Receiver(msgspec.Struct, frozen=True):
    """The effect on one receiver: the longest time without a message from some sender, in ms, and how many messages it lost."""

    host: str
    gap_ms: float
    lost: int


class Interruption(msgspec.Struct, frozen=True):
    """One event, `killed` or `revived`, and its effects.

    `command_ms` is how long the command took. `noticed_ms`, `computed_ms` and `confirmed_ms` are the times of the controller's first
    notice, its last computation, and the last confirmation by a switch. They count only rounds that changed a flow, because other ports
    report the same failure later. They are None, and `roots` is empty, if there was no such round. `overtaken` is the share of out-of-order
    messages among those sent from the event to the confirmation, and `overtaken_after` among those sent after that.
    """

    event: str
    element: str
    command_ms: float
    noticed_ms: float | None
    computed_ms: float | None
    confirmed_ms: float | None
    roots: tuple[str, ...]
    receivers: tuple[Receiver, ...]
    overtaken: float
    overtaken_after: float


def interrupt(
    fabric: Fabric, controller: ControllerClient, trial: Trial, progress: Callable[[str], None] = lambda what: None
) -> Iterator[Interruption]:
    """Kill, revive, and yield both interruptions. The victim is revived in any case.

    Raises ConfigurationError for an invalid trial, TestbedFailure if the switches do not have the tables that they should.
    """
    topology = fabric.plan.topology
    group = place(topology, trial.senders, trial.receivers, trial.seed)
    design = Design(trial.design, trial.merge, trial.seed)
    element = victim(topology, group, design, trial.validate().what)
    progress(f"{trial.design} for {group.address}")
    install(controller, design, group)
    warm_up(fabric.plan, group)
    last = controller.status().changes
    messages = evenly(group, round(trial.rate * (BEFORE_S + 2 * SPAN_S)), trial.rate)
    spans: list[_Span] = []
    with exchange(fabric.plan, group, messages) as exchanging:
        try:
            for event, act, seconds in (("killed", fabric.kill, BEFORE_S), ("revived", fabric.revive, BEFORE_S + SPAN_S)):
                progress(f"{trial.rate:g} messages/s, {element} {'is dead' if spans else 'works'}")
                exchanging.run(exchanging.start_ns + round(seconds * 1e9))
                began_ns = time.monotonic_ns()
                act(element)
                spans.append(_Span(event, began_ns, time.monotonic_ns(), exchanging.start_ns + round((seconds + SPAN_S) * 1e9)))
            progress(f"{trial.rate:g} messages/s, {element} is back")
            exchanged = exchanging.finish()
        finally:
            fabric.revive(element)
    changes = controller.events(last)
    for span in spans:
        yield _interruption(span, element, group, messages, exchanged, exchanging.start_ns, changes)


class _Span(NamedTuple):
    """The time span of one event: when its command began, when the command was done, and when the next event is due."""

    event: str
    began_ns: int
    done_ns: int
    end_ns: int


def victim(topology: Topology, group: Group, design: Design, what: str) -> str:
    """The first root that the group's messages pass, or a link on which they come down from it, by its upper end.

    Raises ConfigurationError if the design has no root.
    """
    compiled = rules_for(topology, group, design)
    if not compiled.roots:
        raise ConfigurationError(f"{design.name} leads no group over a root", key="design")
    root = compiled.roots[0]
    if what == "root":
        return root
    hops = [hop for sender in group.senders for hop in walk(topology, compiled.rules, group.address, sender).hops]
    port = next(port for node, port, _ in hops if node == root)
    return f"{root}:{port}"


def _interruption(
    span: _Span, element: str, group: Group, messages: Messages, exchanged: Exchanged, start_ns: int, changes: Sequence[Change]
) -> Interruption:
    mine = [change for change in changes if change.flows and span.began_ns <= change.noticed_ns < span.end_ns]
    settled_ns = mine[-1].confirmed_ns if mine else span.began_ns
    begin, settled, end = ((moment - start_ns) * PS_PER_NS for moment in (span.began_ns, settled_ns, span.end_ns))
    before, during, after = np.searchsorted(exchanged.sent_ps, (begin, settled, end)).tolist()
    receivers = [exchanged.at[member] for member in group.members]

    def since(moment_ns: int) -> float:
        return (moment_ns - span.began_ns) / _NS_PER_MS

    return Interruption(
        span.event,
        element,
        since(span.done_ns),
        since(mine[0].noticed_ns) if mine else None,
        since(mine[-1].computed_ns) if mine else None,
        since(settled_ns) if mine else None,
        next((roots[1] for change in reversed(mine) for roots in change.moved.values()), ()),
        tuple(
            Receiver(member, _gap_ms(at, messages, begin, end), int((at[before:after] == NEVER).sum()))
            for member, at in zip(group.members, receivers, strict=True)
        ),
        measures.of_group([at[before:during] for at in receivers]).overtaken,
        measures.of_group([at[during:after] for at in receivers]).overtaken,
    )


def _gap_ms(at: Times, messages: Messages, begin: int, end: int) -> float:
    """The longest time without a message from some sender, between the last message before `begin` and `end`."""
    gaps = [0]
    for flow in range(len(messages.flows)):
        came = np.sort(at[(messages.flow == flow) & (at != NEVER)])
        earlier = came[came < begin][-1:]
        within = came[(came >= begin) & (came < end)]
        # A gap that no message has ended lasts until `end`.
        gaps.append(int(np.diff(np.concatenate((earlier, within, [end]))).max(initial=0)))
    return max(gaps) / _PS_PER_MS
