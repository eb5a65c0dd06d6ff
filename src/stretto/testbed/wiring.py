"""What a node's namespace is told so that it becomes one end of some cables: the lines for ip(8), tc(8), nft(8) and sysctl, as text.

Each end of a cable sends at the rate of its link, times the testbed's scale (a machine makes less traffic than a network carries), from
two queues: pfifo_fast's first band for packets of high priority, the second for all others. Packets go into the first band by their
priority in the kernel, which switches set for those whose DSCP field says expedited forwarding.
"""

from __future__ import annotations

from collections.abc import Collection

from stretto.testbed.plan import HOST_INTERFACE, PREFIX_LENGTH, Plan

QUEUE_PACKETS = 24
"""What each queue holds. A switch sends through one socket, whose buffer (208 KiB) all its queues have to share."""
FRAME_BYTES = 1_514
"""A full Ethernet frame without its checksum, as the kernel counts it."""
BURST_S = 0.0001
"""A cable that was idle sends at once what it could have sent in this time, and a frame at least, since timers are no better."""
HIGH_PRIORITY = 6
"""pfifo_fast's first band, as skb->priority says it (TC_PRIO_INTERACTIVE)."""
_SEEN = 1
"""A mark on packets within the switch that they leave."""

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
    lines = []
    for upper, upper_port, lower, lower_port in plan.cables:
        if upper == switch:
            address = "" if plan.topology.level[lower] else f"address {plan.hardware_address(lower)} "
            peer = f"{plan.interface(lower, lower_port)} {address}netns {plan.namespace(lower)}"
            lines.append(f"link add {plan.interface(upper, upper_port)} type veth peer name {peer}")
    return lines


def queue_lengths(plan: Plan, node: str) -> list[str]:
    """For ip(8): what each queue is to hold. pfifo_fast looks at it when it is made, and never again."""
    return [f"link set {name} txqueuelen {QUEUE_PACKETS}" for name in plan.interfaces(node).values()]


def host(plan: Plan, name: str) -> list[str]:
    """For ip(8): put a host into service. It knows all others, so that nobody has to ask for them through the switches."""
    lines = ["link set lo up", f"link set {HOST_INTERFACE} up", f"address add {plan.address(name)}/{PREFIX_LENGTH} dev {HOST_INTERFACE}"]
    lines.append(f"route add 224.0.0.0/4 dev {HOST_INTERFACE}")
    for other in plan.topology.hosts:
        if other != name:
            lines.append(f"neighbour add {plan.address(other)} lladdr {plan.hardware_address(other)} dev {HOST_INTERFACE}")
    return lines


def ports(plan: Plan, switch: str, killed: Collection[str] = ()) -> list[str]:
    """For ip(8): put a switch's ports into service, other than those that lack power, or whose cable is cut."""
    dead = {(node, port) for cable in plan.cables if cable.name in killed for node, port in (cable[:2], cable[2:])}
    lines = []
    for port, name in plan.interfaces(switch).items():
        lines.append(f"link set {name} {'down' if switch in killed or (switch, port) in dead else 'up'}")
    return lines


def rate_bps(plan: Plan, node: str, port: int, scale: float) -> int:
    """What a port sends at most, in bits per second."""
    return round(plan.topology.wires[node][port].rate_bps * scale)


def queues(plan: Plan, node: str, scale: float) -> list[str]:
    """For tc(8): each end's rate and queues."""
    lines = []
    for port, name in plan.interfaces(node).items():
        rate = rate_bps(plan, node, port, scale)
        burst_bytes = max(FRAME_BYTES + 16, round(rate / 8 * BURST_S))
        lines.append(f"qdisc add dev {name} root handle 1: tbf rate {rate} burst {burst_bytes} limit {QUEUE_PACKETS * FRAME_BYTES}")
        lines.append(f"qdisc add dev {name} parent 1:1 handle 2: pfifo_fast")
    return lines


def priorities(plan: Plan, switch: str) -> str:
    """For nft(8): packets with expedited forwarding leave by the first queue.

    Each packet is forwarded to the port that it is about to leave by, and let pass when it comes again. That hides from the switch
    whether the queue took it: when one of several packets that Open vSwitch sends with one system call meets a full queue, it drops all
    behind that one, whatever their priority.
    """
    devices = ", ".join(plan.interfaces(switch).values())
    return f"""
        table netdev stretto {{
            chain egress {{
                type filter hook egress devices = {{ {devices} }} priority 0
                meta mark {_SEEN} accept
                ip dscp ef meta priority set 0:{HIGH_PRIORITY}
                meta mark set {_SEEN} fwd to oif
            }}
        }}
    """
