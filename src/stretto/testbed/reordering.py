"""One run on a testbed, with the setting, the messages and the measures of the model's runs (`network.experiment`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from stretto.core.errors import ConfigurationError
from stretto.network.designs import Design
from stretto.network.experiment import Outcome, Prepared, Setting, evaluate, prepare
from stretto.network.groups import Group
from stretto.network.model.run import Census, Deliveries, Messages
from stretto.testbed.background import background, targets
from stretto.testbed.commands import ControllerClient
from stretto.testbed.datagrams import SMALLEST_MESSAGE_BYTES
from stretto.testbed.exchange import Exchanged, exchange
from stretto.testbed.fabric import Fabric
from stretto.testbed.likeness import likeness
from stretto.testbed.record import TestbedFailure

_WARM_UP_EACH = 20
_WARM_UP_GAP_PS = 2_000_000_000


class Measured(msgspec.Struct, frozen=True):
    """An outcome; the seconds that it took; by how many microseconds messages left late (p50, p99); what receivers ignored, by reason."""

    outcome: Outcome
    seconds: float
    late_us: tuple[float, float]
    ignored: Counter[str]


def check(setting: Setting) -> Setting:
    """This setting, if a testbed can run it. Raises ConfigurationError."""
    if setting.message_bytes < SMALLEST_MESSAGE_BYTES:
        reason = f"{setting.message_bytes} bytes do not hold a message of a testbed; {SMALLEST_MESSAGE_BYTES} or more, frame included"
        raise ConfigurationError(reason, key="message_bytes")
    if setting.messages > 1_000_000:
        raise ConfigurationError(f"{setting.messages} messages are too many for a testbed; 1000000 at most", key="messages")
    return setting.validate()


def measure(
    fabric: Fabric, controller: ControllerClient, setting: Setting, progress: Callable[[float], None] = lambda share: None
) -> Measured:
    """Install the design for the group, send the messages, and see in which order they come. `progress` is told the share that has come.

    Raises TestbedFailure if the switches do not hold what they should.
    """
    started = time.monotonic()
    topology = likeness(fabric.plan.topology, fabric.scale)
    prepared = prepare(check(setting), topology)
    design = Design(setting.design, setting.merge, setting.seed)
    install(controller, design, prepared.group)
    traffic = prepared.conditions.background
    with background(fabric.plan, topology, targets(topology, prepared.group, design) if traffic.load else (), traffic):
        warm_up(fabric, prepared.group)
        with exchange(fabric.plan, prepared.group, prepared.messages) as exchanging:
            copies = setting.messages * setting.receivers
            exchanged = exchanging.finish(lambda received: progress(received / copies))
    return Measured(_outcome(setting, prepared, exchanged), time.monotonic() - started, exchanged.late_us, exchanged.ignored)


def install(controller: ControllerClient, design: Design, group: Group) -> None:
    """Have this group and no other, under this design. Raises TestbedFailure if that is not what the switches hold then."""
    controller.set_groups(())
    controller.set_design(design)
    controller.set_groups((group,))
    verification = controller.verify()
    if verification.unreachable or not verification.good:
        wrong = [f"{name} cannot be reached" for name in verification.unreachable]
        wrong += [f"{found.kind}: {found.detail}" for found in (*verification.deviations, *verification.violations)]
        raise TestbedFailure(f"the switches do not hold what they should: {wrong[0]}" + (f", and {len(wrong) - 1} more" if wrong[1:] else ""))


def warm_up(fabric: Fabric, group: Group) -> None:
    """Send a few messages. A switch of Open vSwitch handles the first packet of a flow in another thread, the next ones overtake it."""
    flows = len(group.senders)
    count = flows * _WARM_UP_EACH
    messages = Messages(
        tuple((group.address, sender) for sender in group.senders),
        np.arange(count) % flows,
        np.arange(count) * _WARM_UP_GAP_PS,
    )
    with exchange(fabric.plan, group, messages) as exchanging:
        exchanging.finish()


def _outcome(setting: Setting, prepared: Prepared, exchanged: Exchanged) -> Outcome:
    sent = msgspec.structs.replace(prepared, messages=replace(prepared.messages, time_ps=exchanged.sent_ps))
    return evaluate(setting, sent, Deliveries(exchanged.at, Census(made=setting.messages)))
