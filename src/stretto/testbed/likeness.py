"""A testbed as the packet model is told of it."""

from __future__ import annotations

import msgspec

from stretto.network.topology import LARGEST_PACKET_BYTES, Topology
from stretto.testbed.wiring import QUEUE_PACKETS


def likeness(topology: Topology, scale: float, switch_delay_ns: int | None = None) -> Topology:
    """The topology with the rates and queues that cables of a testbed of this scale have.

    A cable on one machine has no length. What a packet needs in a switch is decided by the machine: `switch_delay_ns`, if it was measured.
    """
    links = [
        msgspec.structs.replace(
            link, rate_gbps=link.rate_gbps * scale, delay_ns=0, buffer_bytes=QUEUE_PACKETS * LARGEST_PACKET_BYTES
        )
        for link in topology.links
    ]
    delays = {} if switch_delay_ns is None else {"delay_ns": switch_delay_ns}
    switches = [msgspec.structs.replace(switch, **delays) for switch in topology.switches]
    return Topology(tuple(switches), topology.hosts, tuple(links))
