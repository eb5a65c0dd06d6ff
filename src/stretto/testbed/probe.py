"""The requirements of a testbed, and which of them this machine lacks, each with the package or option that provides it.

Kernels differ in their features and in whether modules can be loaded. Each feature is therefore tried in a temporary namespace.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from stretto.core.errors import ConfigurationError
from stretto.runtime.namespaces import NoNetwork
from stretto.testbed.plan import Plan

TOOLS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "ethtool": "ethtool",
    "unshare": "util-linux",
    "ovsdb-server": "openvswitch-common",
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-common",
    "ovs-vsctl": "openvswitch-switch",
}
"""The commands that a testbed needs, and the Debian package of each."""

FEATURES = {
    "cables between namespaces (veth, CONFIG_VETH)": "ip link add probe0 type veth peer name probe1",
    "a switch's own interfaces (tap, CONFIG_TUN)": "ip tuntap add probe2 mode tap",
    "queues (pfifo_fast)": "tc qdisc replace dev lo root pfifo_fast",
    "links' rates (tbf, CONFIG_NET_SCH_TBF)": "tc qdisc replace dev lo root tbf rate 1mbit burst 4k limit 4k",
    "priorities (nftables' egress hook, CONFIG_NETFILTER_EGRESS and CONFIG_NFT_FWD_NETDEV)": (
        "nft 'add table netdev probe; add chain netdev probe out { type filter hook egress device lo priority 0; };"
        " add rule netdev probe out ip dscp ef meta priority set 0:6 fwd to oif'"
    ),
}
"""The kernel features that a testbed needs, and a command that tries each."""

SWITCH_BYTES = 32 * 2**20
"""The memory that must be free per switch: more than twice what its processes use at the start."""
REAL_TIME = ("chrt", "--rr", "10")
"""The prefix that runs a command with real-time priority, round-robin."""


def missing() -> list[str]:
    """What this machine lacks, each with its remedy. Kernel features are tried only if nothing else is missing, because that needs root."""
    lacks = [] if os.geteuid() == 0 else ["root (use sudo)"]
    packages: dict[str, list[str]] = {}
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            packages.setdefault(package, []).append(tool)
    lacks += [f"{', '.join(tools)} (Debian has it in {package})" for package, tools in packages.items()]
    if not lacks:
        lacks = [f"a kernel with {feature}" for feature in _missing_features()]
    return lacks


def require(plan: Plan) -> None:
    """Raise NoNetwork naming everything that this machine lacks, or ConfigurationError if it has too little memory for the plan."""
    if lacks := missing():
        raise NoNetwork(f"this machine lacks what a testbed needs: {'; '.join(lacks)}")
    needed, available = len(plan.switches) * SWITCH_BYTES, _available_bytes()
    if needed > available:
        megabytes = f"{needed >> 20} MB of memory, and {available >> 20} MB are free"
        raise ConfigurationError(f"{len(plan.switches)} switches need {megabytes}; take a smaller one", key="topology")


@functools.cache
def real_time() -> bool:
    """Whether the command chrt (Debian's util-linux) is installed and may give processes real-time priority."""
    return shutil.which(REAL_TIME[0]) is not None and subprocess.run([*REAL_TIME, "true"], capture_output=True).returncode == 0


def _missing_features() -> list[str]:
    features = list(FEATURES)
    script = "\n".join(f"{command} >/dev/null 2>&1 || echo {number}" for number, command in enumerate(FEATURES.values()))
    tried = subprocess.run(["unshare", "--net", "sh"], input=script, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return ["network namespaces (CONFIG_NET_NS)"]
    return [features[int(number)] for number in tried.stdout.split()]


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
