"""Runs a testbed's settings in the packet model, with the same group, messages, rates, queues, congested links and switch delay."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np

from stretto.network.designs import Design, rules_for
from stretto.network.experiment import Outcome, Setting, evaluate, prepare
from stretto.network.groups import Group
from stretto.network.model.queues import NEVER
from stretto.network.topology import LARGEST_PACKET_BYTES, Topology
from stretto.network.verification import walk
from stretto.testbed.background import targets
from stretto.testbed.commands import ControllerClient
from stretto.testbed.exchange import PS_PER_NS, evenly, exchange, warm_up
from stretto.testbed.fabric import Fabric
from stretto.testbed.session import install
from stretto.testbed.wiring import QUEUE_PACKETS

_PROBES = 200
_PROBES_PER_S = 400
_MESSAGE_BYTES = 128


def topology_in_model(fabric: Fabric, switch_delay_ns: int = 0) -> Topology:
    """The topology with the rates and queues of a testbed's cables. The cables have no delay.

    The delay of a switch depends on the machine and has to be measured (`switch_delay_ns`).
    """
    topology = fabric.plan.topology
    buffer_bytes = QUEUE_PACKETS * LARGEST_PACKET_BYTES
    changed = {"delay_ns": 0, "buffer_bytes": buffer_bytes}
    links = [msgspec.structs.replace(link, rate_gbps=link.rate_gbps * fabric.scale, **changed) for link in topology.links]
    switches = [msgspec.structs.replace(switch, delay_ns=switch_delay_ns) for switch in topology.switches]
    return Topology(tuple(switches), topology.hosts, tuple(links))


def switch_delay_ns(fabric: Fabric, controller: ControllerClient, group: Group, seed: int) -> int:
    """Measure the delay that a switch adds to a message without queueing, in nanoseconds.

    It is the median over messages to a group under plain multicast. For each, the latency minus the transmission time of every cable is
    divided by the number of switches on the path.
    """
    topology = topology_in_model(fabric)
    design = Design("plain", salt=seed)
    install(controller, design, group)
    warm_up(fabric.plan, group)
    messages = evenly(group, _PROBES, _PROBES_PER_S, _MESSAGE_BYTES)
    with exchange(fabric.plan, group, messages) as exchanging:
        exchanged = exchanging.finish()
    compiled = rules_for(topology, group, design)
    delays = [np.zeros(0)]
    for index, sender in enumerate(group.senders):
        for member, path in walk(topology, compiled.rules, group.address, sender).arrivals:
            nodes = (sender, *path, member)
            wires = [next(wire for wire in topology.wires[node].values() if wire.peer == peer) for node, peer in pairwise(nodes)]
            arrived = (messages.flow == index) & (exchanged.at[member] != NEVER)
            latency = (exchanged.at[member] - exchanged.sent_ps)[arrived]
            delays.append((latency - sum(wire.transmission_ps(_MESSAGE_BYTES) for wire in wires)) / len(path))
    together = np.concatenate(delays)
    return max(0, round(float(np.median(together)) / PS_PER_NS)) if len(together) else 0


def run_in_model(fabric: Fabric, delay_ns: int, setting: Setting) -> tuple[Outcome, float]:
    """Run the setting in the model, with the same congested links. Returns the outcome, and the processor time in seconds."""
    topology = topology_in_model(fabric, delay_ns)
    prepared = prepare(setting, topology)
    traffic = prepared.conditions.background
    if traffic.load:
        congested = targets(topology, prepared.group, Design(setting.design, setting.merge, setting.seed))
        traffic = msgspec.structs.replace(traffic, ports=frozenset((target.switch, target.port) for target in congested))
    prepared = msgspec.structs.replace(prepared, conditions=replace(prepared.conditions, background=traffic))
    started = time.process_time()
    deliveries = prepared.run()
    return evaluate(setting, prepared, deliveries), time.process_time() - started
