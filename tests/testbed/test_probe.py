"""Missing requirements of a machine are named, with their remedies."""

from __future__ import annotations

import os
import shutil

import pytest

from stretto.core.errors import ConfigurationError
from stretto.network.topologies import leaf_spine
from stretto.runtime.namespaces import NoNetwork
from stretto.testbed import probe
from stretto.testbed.plan import Plan

PLAN = Plan(leaf_spine(2, 1, 1))


def test_root_and_commands_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool.startswith("ovs-") or tool == "ethtool" else tool)
    with pytest.raises(NoNetwork) as refused:
        probe.require(PLAN)
    assert str(refused.value) == (
        "this machine lacks what a testbed needs: root (use sudo); ethtool (Debian has it in ethtool); "
        "ovs-vswitchd, ovs-vsctl (Debian has it in openvswitch-switch)"
    )


@pytest.mark.usefixtures("machine")
def test_features_of_the_kernel_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe.FEATURES, "a queue that does not exist", "tc qdisc replace dev lo root quantum")
    assert probe.missing() == ["a kernel with a queue that does not exist"]


@pytest.mark.usefixtures("machine")
def test_a_machine_with_too_little_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SWITCH_BYTES", 2**50)
    with pytest.raises(ConfigurationError, match=r"3 switches need .* MB of memory, and .* MB are free"):
        probe.require(PLAN)
