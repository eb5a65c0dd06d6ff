"""What a testbed needs of the machine, and what of it is missing, by name and with the way to get it.

Kernels differ in what they can do and in whether modules can be loaded, so each feature is tried, in a namespace that is thrown away.
"""

from __future__ import annotations

TOOLS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "ethtool": "ethtool",
    "ovsdb-server": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-common",
    "ovs-vsctl": "openvswitch-common",
}
"""The commands that a testbed is made with, and Debian's package of each."""

_FEATURES = {
    "veth": ("cables (veth)", "CONFIG_VETH", "ip", "ip link add probe0 type veth peer name probe1"),
    "tun": ("switches' own interfaces (tun)", "CONFIG_TUN", "ip", "ip tuntap add probe2 mode tap"),
    "tbf": ("links' rates (tbf)", "CONFIG_NET_SCH_TBF", "tc", "tc qdisc add dev probe0 root handle 1: tbf rate 1mbit burst 4k limit 4k"),
    "pfifo_fast": ("queues (pfifo_fast)", "CONFIG_NET_SCHED", "tc", "tc qdisc add dev probe0 parent 1:1 pfifo_fast"),
    "egress": (
        "priorities (nftables' egress hook)",
        "CONFIG_NETFILTER_EGRESS and CONFIG_NF_TABLES_NETDEV",
        "nft",
        "nft add table netdev probe; add chain netdev probe out { type filter hook egress device probe0 priority 0; }",
    ),
}
