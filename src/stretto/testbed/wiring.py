"""What a node's namespace is told so that it becomes one end of some cables: the lines for ip(8), tc(8), nft(8) and sysctl, as text.

Each end of a cable sends at the rate of its link, times the testbed's scale (a machine makes less traffic than a network carries), from
two queues: pfifo_fast's first band for packets of high priority, the second for all others. Packets go into the first band by their
priority in the kernel, which switches set for those whose DSCP field says expedited forwarding.
"""

from __future__ import annotations

from stretto.testbed.plan import HOST_INTERFACE, PREFIX_LENGTH, Plan

QUEUE_PACKETS = 24
"""What each queue holds. A switch sends through one socket, whose buffer (208 KiB) all its queues have to share."""
MTU_BYTES = 1_514
"""A full Ethernet frame without its checksum, as the kernel counts it."""
BURST_S = 0.00025
"""A cable that was idle sends at once what it could have sent in this time, since timers are no better."""
HIGH_PRIORITY = 6
"""pfifo_fast's first band, as skb->priority says it (TC_PRIO_INTERACTIVE)."""

SYSCTLS = {
    "net/ipv6/conf/all/disable_ipv6": "1",  # no neighbour discovery, no router solicitations
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/accept_local": "1",  # a sender that is a member gets its own message back from the network
}
"""Below /proc/sys, in every namespace."""


def cables(plan: Plan, switch: str) -> list[str]:
    """For ip(8), in the switch's namespace: make its cables downwards. Every cable has one upper end."""
    level = plan.topology.level
    lines = []
    for port, wire in plan.topology.wires[switch].items():
        if level[wire.peer] < level[switch]:
            address = "" if level[wire.peer] else f"address {plan.hardware_address(wire.peer)} "
            peer = f"{plan.interface(wire.peer, wire.port)} {address}netns {plan.namespace(wire.peer)}"
            lines.append(f"link add {plan.interface(switch, port)} type veth peer name {peer}")
    return lines


def interfaces(plan: Plan, node: str) -> list[str]:
    """For ip(8): the queues' length, which pfifo_fast takes over when it is made, and what makes a host a member of the network."""
    lines = [f"link set {name} txqueuelen {QUEUE_PACKETS}" for name in plan.interfaces(node)]
    if plan.topology.level[node] == 0:
        lines += [f"address add {plan.address(node)}/{PREFIX_LENGTH} dev {HOST_INTERFACE}", "link set lo up"]
    return lines


def activation(plan: Plan, node: str) -> list[str]:
    """For ip(8): put the node's ends into service. A host knows all others, so that nobody has to ask through the switches."""
    lines = [f"link set {name} up" for name in plan.interfaces(node)]
    if plan.topology.level[node] == 0:
        lines.append(f"route add 224.0.0.0/4 dev {HOST_INTERFACE}")
        for other in plan.topology.hosts:
            if other != node:
                lines.append(f"neighbour add {plan.address(other)} lladdr {plan.hardware_address(other)} dev {HOST_INTERFACE}")
    return lines


def queues(plan: Plan, node: str, scale: float) -> list[str]:
    """For tc(8): each end's rate and queues."""
    lines = []
    for port, wire in plan.topology.wires[node].items():
        name, rate_bps = plan.interface(node, port), round(wire.rate_bps * scale)
        burst_bytes = max(2 * MTU_BYTES, round(rate_bps / 8 * BURST_S))
        lines.append(f"qdisc add dev {name} root handle 1: tbf rate {rate_bps} burst {burst_bytes} limit {QUEUE_PACKETS * MTU_BYTES}")
        lines.append(f"qdisc add dev {name} parent 1:1 handle 2: pfifo_fast")
    return lines


def priorities(plan: Plan, switch: str) -> str:
    """For nft(8): packets with expedited forwarding leave by the first queue."""
    devices = ", ".join(plan.interfaces(switch))
    hook = f"type filter hook egress devices = {{ {devices} }} priority 0"
    return f"table netdev stretto {{\nchain egress {{\n{hook}\nip dscp ef meta priority set 0:{HIGH_PRIORITY}\n}}\n}}\n"
