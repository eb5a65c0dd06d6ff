"""The input for ip(8), tc(8), nft(8) and sysctl that configures the cables, queues and addresses of a node's namespace.

Each end of a cable sends at the rate of its link times the testbed's scale, because one machine cannot fill links at full rate. It has two
queues: pfifo_fast's first band for packets of high priority, and the second for all others. The kernel chooses the band by the packet's
priority, which switches set for packets whose DSCP is expedited forwarding.
"""

from __future__ import annotations

from collections.abc import Collection

from stretto.testbed.plan import HOST_INTERFACE, PREFIX_LENGTH, Plan

QUEUE_PACKETS = 24
"""The capacity of each queue. A switch sends through one socket, and all its queues share the socket's buffer (208 KiB)."""
FRAME_BYTES = 1_514
"""A full Ethernet frame without its checksum, as the kernel counts it."""
BURST_S = 0.0001
"""An idle cable may send a burst of this duration at once, and at least one frame, because timers are not more accurate."""
HIGH_PRIORITY = 6
"""The value of skb->priority for pfifo_fast's first band (TC_PRIO_INTERACTIVE)."""
_SEEN = 1
"""The mark of packets that the egress hook of a switch has seen."""

SYSCTLS = {
    "net/ipv6/conf/all/disable_ipv6": "1",  # no neighbour discovery, no router solicitations
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/accept_local": "1",  # a sender that is a member gets its own message back from the network
}
"""Below /proc/sys, in every namespace."""


def cables(plan: Plan, switch: str) -> list[str]:
    """For ip(8), in the switch's namespace: make the cables of which it is the upper end."""
    lines = []
    for upper, upper_port, lower, lower_port in plan.cables:
        if upper == switch:
            address = "" if plan.topology.level[lower] else f"address {plan.hardware_address(lower)} "
            peer = f"{plan.interface(lower, lower_port)} {address}netns {plan.namespace(lower)}"
            lines.append(f"link add {plan.interface(upper, upper_port)} type veth peer name {peer}")
    return lines


def queue_lengths(plan: Plan, node: str) -> list[str]:
    """For ip(8): set the capacity of each queue. pfifo_fast reads it only when it is made."""
    return [f"link set {name} txqueuelen {QUEUE_PACKETS}" for name in plan.interfaces(node).values()]


def host(plan: Plan, name: str) -> list[str]:
    """For ip(8): configure a host. It gets static neighbour entries for all others, so that the switches need not forward ARP."""
    lines = ["link set lo up", f"link set {HOST_INTERFACE} up", f"address add {plan.address(name)}/{PREFIX_LENGTH} dev {HOST_INTERFACE}"]
    lines.append(f"route add 224.0.0.0/4 dev {HOST_INTERFACE}")
    for other in plan.topology.hosts:
        if other != name:
            lines.append(f"neighbour add {plan.address(other)} lladdr {plan.hardware_address(other)} dev {HOST_INTERFACE}")
    return lines


def ports(plan: Plan, switch: str, killed: Collection[str] = ()) -> list[str]:
    """For ip(8): set a switch's ports up, or down if the switch is killed or their cable is cut."""
    dead = {(node, port) for cable in plan.cables if cable.name in killed for node, port in (cable[:2], cable[2:])}
    lines = []
    for port, name in plan.interfaces(switch).items():
        lines.append(f"link set {name} {'down' if switch in killed or (switch, port) in dead else 'up'}")
    return lines


def rate_bps(plan: Plan, node: str, port: int, scale: float) -> int:
    """The maximum rate of a port, in bits per second."""
    return round(plan.topology.wires[node][port].rate_bps * scale)


def queues(plan: Plan, node: str, scale: float) -> list[str]:
    """For tc(8): set the rate and the queues of each port."""
    lines = []
    for port, name in plan.interfaces(node).items():
        rate = rate_bps(plan, node, port, scale)
        burst_bytes = max(FRAME_BYTES + 16, round(rate / 8 * BURST_S))
        lines.append(f"qdisc add dev {name} root handle 1: tbf rate {rate} burst {burst_bytes} limit {QUEUE_PACKETS * FRAME_BYTES}")
        lines.append(f"qdisc add dev {name} parent 1:1 handle 2: pfifo_fast")
    return lines


def priorities(plan: Plan, switch: str) -> str:
    """For nft(8): put packets with expedited forwarding into the first queue.

    Each packet is forwarded to the port through which it is leaving, and accepted when it comes again. This hides from the switch whether
    the queue accepted the packet. Without it, when one of several packets that Open vSwitch sends with one system call meets a full queue,
    it drops all packets behind that one, regardless of their priority.
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
