"""A switch or link on a group's way is killed under load, and brought back: what receivers notice of it, and when the controller acted.

Messages are sent at even distances, by the senders in turn. Times are since the command that killed or brought back began.
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
    """What is done: `what` is root or link, `rate` in messages a second of all senders together; the seed places the group."""

    what: str = "root"
    design: str = "serialised"
    merge: str = "per_root"
    senders: int = 3
    receivers: int = 3
    rate: float = 1_000
    seed: int = 1

    def validate(self) -> Trial:
        """This trial, if it makes sense. Raises ConfigurationError."""
        if self.what not in ("root", "link"):
            raise ConfigurationError(f"{self.what!r} cannot be killed; root or link", key="what")
        if not 1 <= self.rate <= 100_000:
            raise ConfigurationError(f"{self.rate} is not a rate; 1 to 100000 messages a second", key="rate")
        return self


class Receiver(msgspec.Struct, frozen=True):
    """What one receiver noticed: the longest time without a message of one sender, the worst of all senders; the messages it never got."""

    host: str
    gap_ms: float
    lost: int


class Interruption(msgspec.Struct, frozen=True):
    """One event, `killed` or `revived`, and what came of it.

    `command_ms` is how long the command took. The controller's times are of its first notice, of the last computation and of the last
    confirmation by a switch, of those rounds that changed a flow: other ports tell of the same failure later. They are None, and `roots`
    empty, if it had nothing to do. `overtaken` is the group's share of messages
    out of order among those sent from the event to the confirmation, `overtaken_after` among those sent from then on.
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
    """Kill, bring back, and tell of both. Whatever happens, what was killed is brought back.

    Raises ConfigurationError for a trial that makes no sense, TestbedFailure if the switches do not hold what they should.
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
    """What one event may have to do with: from when the command for it began until the next one is due; and when it was done."""

    event: str
    began_ns: int
    done_ns: int
    end_ns: int


def victim(topology: Topology, group: Group, design: Design, what: str) -> str:
    """The root that the group's messages pass, the first one if there are several; or a link by which they come down from it, by its
    upper end. Raises ConfigurationError if the design has no root."""
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
    """The longest time, from the last message before `begin` to `end`, in which nothing came of one sender; the worst of the senders."""
    gaps = [0]
    for flow in range(len(messages.flows)):
        came = np.sort(at[(messages.flow == flow) & (at != NEVER)])
        earlier = came[came < begin][-1:]
        within = came[(came >= begin) & (came < end)]
        # What has not come until the end leaves a gap up to there.
        gaps.append(int(np.diff(np.concatenate((earlier, within, [end]))).max(initial=0)))
    return max(gaps) / _PS_PER_MS
